"""Architectures by short name, so that planning needs neither Hub nor weights.

The sizes are those of the published config.json files.
"""

from __future__ import annotations

import re

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.checkpoints import hf_config
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.models.config import (
  LayerKind,
  LinearScaling,
  Llama3Scaling,
  ModelConfig,
  Rope,
  alike,
)
from s2d_jax.parallel.topology import Topology


def _llama2(layers: int, embed: int, heads: int, kv_heads: int, mlp: int):
  return ModelConfig(
    vocab_size=32000,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_dim=128,
    mlp_dim=mlp,
    max_context=4096,
    pattern=alike(10000.0),
    rms_eps=1e-5,
    tie_embeddings=False,
  )


def _llama3(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  head_dim: int = 128,
  factor: float = 8.0,
  tied: bool = False,
):
  scaling = Llama3Scaling(factor, 1.0, 4.0, 8192)
  return ModelConfig(
    vocab_size=128256,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=8,
    head_dim=head_dim,
    mlp_dim=mlp,
    max_context=131072,
    pattern=alike(500000.0, scaling),
    rms_eps=1e-5,
    tie_embeddings=tied,
  )


def _smollm2(layers: int, embed: int, heads: int, kv_heads: int, mlp: int):
  return ModelConfig(
    vocab_size=49152,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_dim=64,
    mlp_dim=mlp,
    max_context=8192,
    pattern=alike(130000.0 if embed == 2048 else 100000.0),
    rms_eps=1e-5,
    tie_embeddings=True,
  )


def _qwen25(layers: int, embed: int, heads: int, head_dim: int, mlp: int):
  return ModelConfig(
    vocab_size=151936,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=2,
    head_dim=head_dim,
    mlp_dim=mlp,
    max_context=32768,
    pattern=alike(1000000.0),
    rms_eps=1e-6,
    tie_embeddings=True,
    qkv_bias=True,
  )


def _qwen3(layers: int, embed: int, heads: int, mlp: int, tied: bool = False):
  return ModelConfig(
    vocab_size=151936,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=mlp,
    max_context=40960,
    pattern=alike(1000000.0),
    rms_eps=1e-6,
    tie_embeddings=tied,
    qk_norm="head",
  )


def _smollm3():
  (turned,) = alike(5000000.0)
  return ModelConfig(
    vocab_size=128256,
    embed_dim=2048,
    num_layers=36,
    num_heads=16,
    num_kv_heads=4,
    head_dim=128,
    mlp_dim=11008,
    max_context=65536,
    pattern=(turned, turned, turned, LayerKind(None)),
    rms_eps=1e-6,
    tie_embeddings=True,
  )


def _gemma3(
  layers: int,
  embed: int,
  heads: int,
  kv_heads: int,
  mlp: int,
  head_dim: int = 256,
  vocabulary: int = 262208,
  window: int = 1024,
  context: int = 131072,
  factor: float | None = 8.0,
  query_scale: float | None = None,
):
  """The text model; those that see pictures have another beside it."""
  scaling = None if factor is None else LinearScaling(factor)
  near = LayerKind(Rope(10000.0), window)
  return ModelConfig(
    vocab_size=vocabulary,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_dim=head_dim,
    mlp_dim=mlp,
    max_context=context,
    pattern=(*[near] * 5, LayerKind(Rope(1000000.0, scaling))),
    rms_eps=1e-6,
    tie_embeddings=True,
    qk_norm="head",
    norms="both",
    activation="gelu_tanh",
    embed_scale=embed**0.5,
    query_scale=query_scale,
  )


def _olmo2(layers: int, embed: int, heads: int, mlp: int):
  return ModelConfig(
    vocab_size=100352,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=heads,
    head_dim=128,
    mlp_dim=mlp,
    max_context=4096,
    pattern=alike(500000.0),
    rms_eps=1e-6,
    tie_embeddings=False,
    qk_norm="all",
    norms="after",
  )


MODELS = {
  "llama-2-7b": _llama2(32, 4096, 32, 32, 11008),
  "llama-2-13b": _llama2(40, 5120, 40, 40, 13824),
  "llama-2-70b": _llama2(80, 8192, 64, 8, 28672),
  "llama-3.1-8b": _llama3(32, 4096, 32, 14336),
  "llama-3.1-70b": _llama3(80, 8192, 64, 28672),
  "llama-3.2-1b": _llama3(16, 2048, 32, 8192, 64, 32.0, tied=True),
  "llama-3.2-3b": _llama3(28, 3072, 24, 8192, 128, 32.0, tied=True),
  "qwen2.5-0.5b": _qwen25(24, 896, 14, 64, 4864),
  "qwen2.5-1.5b": _qwen25(28, 1536, 12, 128, 8960),
  "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True),
  "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True),
  "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True),
  "qwen3-8b": _qwen3(36, 4096, 32, 12288),
  "qwen3-14b": _qwen3(40, 5120, 40, 17408),
  "qwen3-32b": _qwen3(64, 5120, 64, 25600),
  "gemma-3-1b": _gemma3(
    *(26, 1152, 4, 1, 6912),
    vocabulary=262144,
    window=512,
    context=32768,
    factor=None,
  ),
  "gemma-3-4b": _gemma3(34, 2560, 8, 4, 10240),
  "gemma-3-12b": _gemma3(48, 3840, 16, 8, 15360),
  "gemma-3-27b": _gemma3(
    *(62, 5376, 32, 16, 21504), head_dim=128, query_scale=168**-0.5
  ),
  "olmo-2-7b": _olmo2(32, 4096, 32, 11008),
  "olmo-2-13b": _olmo2(40, 5120, 40, 13824),
  "smollm3-3b": _smollm3(),
  "smollm2-135m": _smollm2(30, 576, 9, 3, 1536),
  "smollm2-360m": _smollm2(32, 960, 15, 5, 2560),
  "smollm2-1.7b": _smollm2(24, 2048, 32, 32, 8192),
}


def model_config(name: str) -> ModelConfig:
  """The architecture of a model by name, of a Hub id, or of a local folder.

  Raises:
    UserError: the name is unknown, or the folder's config.json cannot be used.
  """
  if epath.Path(name).is_dir():
    return hf_config.read_config(name)
  # "meta-llama/Llama-2-70b-chat-hf" has the architecture of "llama-2-70b".
  beside = r"-(hf|chat|instruct|it|1124)\b"
  short = re.sub(beside, "", name.lower().split("/")[-1])
  short = short.replace("meta-", "")
  if short not in MODELS:
    raise UserError(
      f"the architecture of {name!r} is not known here; known are"
      f" {', '.join(MODELS)}, or give a folder with a config.json"
    )
  return MODELS[short]


def large_config(topology: Topology) -> ConfigDict:
  """Settings that suit a large model on these chips."""
  config = default()
  config.finetune.row_length = 1024
  config.finetune.batch_rows = max(64, topology.num_devices)
  return config
