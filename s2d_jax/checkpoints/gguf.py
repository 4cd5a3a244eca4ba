"""GGUF files of the llama and qwen2 architectures.

A GGUF file holds the tensors of a Hugging Face folder under shorter names, so
names are translated and `layout` does the rest. One thing differs: llama.cpp
turns channels 2i and 2i + 1 of a head together where Hugging Face turns i and
i + H/2, and therefore stores the rows of q and k reordered, in llama only.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
import re
from typing import Any

from etils import epath
from jax.sharding import Mesh
import numpy as np

from s2d_jax.checkpoints import layout, stream
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.checkpoints.layout import Leaf
from s2d_jax.errors import UserError
from s2d_jax.models.config import (
  LayerKind,
  Llama3Scaling,
  ModelConfig,
  Rope,
  alike,
)
from s2d_jax.models.params import Params
from s2d_jax.models.rope import rope_frequencies

_NAMES = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
}
_ROPE_FACTORS = "rope_freqs.weight"
_END_KEYS = [f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom")]
# Converters left out the keys of most, so llama.cpp knows them by name, in
# `llama_vocab::impl::load` (src/llama-vocab.cpp).
_END_NAMES = (
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<end_of_turn>",
)


def read_config(path: epath.PathLike) -> ModelConfig:
  """The architecture that a GGUF file describes.

  Raises:
    UserError: not a GGUF file, truncated, of another architecture, or with a
      value that this package does not compute; it is named.
  """
  return _read_config(GGUFFile(path))


def read_generation_config(path: epath.PathLike) -> dict[str, Any]:
  """The tokens that end a reply, as transformers has them: "eos_token_id"."""
  fields = GGUFFile(path).fields
  ends = {fields[key] for key in _END_KEYS if key in fields}
  tokens = fields.get("tokenizer.ggml.tokens", ())
  ends.update(i for i, token in enumerate(tokens) if token in _END_NAMES)
  return {"eos_token_id": sorted(ends)}


def model_files(path: epath.PathLike) -> list[epath.Path]:
  """All that say what the model computes."""
  return [epath.Path(path)]


def read_params(
  path: epath.PathLike,
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  transform: stream.Transform | None = None,
) -> Params:
  """Reads the tensors of a GGUF file into arrays laid out over `mesh`.

  Beside them a host holds one leaf, because tensors are decoded whole.

  Raises:
    UserError: a tensor is missing, truncated, of the wrong shape or type, or
      belongs to something that this package does not compute; it is named.
  """
  file = GGUFFile(path)
  _check_names(file, config)

  @functools.lru_cache(maxsize=1)  # the shards of a leaf follow one another
  def read_leaf(leaf: Leaf, dtype: np.dtype) -> np.ndarray:
    whole = np.empty(leaf.shape, dtype)
    for tensor_slice in layout.tensor_slices(
      leaf, [slice(None)] * whole.ndim, whole
    ):
      tensor_slice.view[...] = _read_tensor(file, tensor_slice.tensor, config)
    return whole

  def fill(leaf: Leaf, index: Sequence[slice], shard: np.ndarray) -> None:
    shard[...] = read_leaf(leaf, shard.dtype)[index]

  load_leaf = functools.partial(stream.place_shards, fill=fill)
  return stream.load(config, mesh, dtype, load_leaf, transform)


def _read_tensor(
  file: GGUFFile, tensor: layout.Tensor, config: ModelConfig
) -> np.ndarray:
  name = _gguf_name(tensor.name)
  layout.check_shape(file.path, name, file.tensors[name].shape, tensor.shape)
  decoded = file.tensor(name)
  permuted = file.fields["general.architecture"] == "llama"
  if permuted and re.search(r"\.attn_[qk]\.", name):
    decoded = _half_split(decoded, config.head_dim)
  return decoded


def _gguf_name(name: str) -> str:
  """model.layers.3.self_attn.q_proj.weight → blk.3.attn_q.weight."""
  stem, kind = name.rsplit(".", 1)
  prefix = ""
  if match := re.fullmatch(r"model\.layers\.(\d+)\.(.*)", stem):
    prefix, stem = f"blk.{match[1]}.", match[2]
  return f"{prefix}{_NAMES[stem]}.{kind}"


def _half_split(rows: np.ndarray, head_dim: int) -> np.ndarray:
  """Undoes llama.cpp's order of the rows of each head, pairs side by side."""
  pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
  return pairs.swapaxes(1, 2).reshape(rows.shape)


def _read_config(file: GGUFFile) -> ModelConfig:
  family = file.fields.get("general.architecture")
  if family not in ("llama", "qwen2"):
    raise UserError(
      f"{file.path}: architecture {family!r} is not supported; llama and"
      " qwen2 are"
    )

  def value(key: str, kind: type, default: Any = None) -> Any:
    found = file.fields.get(f"{family}.{key}", default)
    if not isinstance(found, kind):
      raise UserError(
        f"{file.path}: {family}.{key} is {found!r} and should be"
        f" {'a whole number' if kind is int else 'a number'}"
      )
    return found

  heads = value("attention.head_count", int)
  embed_dim = value("embedding_length", int)
  head_dim = value("attention.key_length", int, embed_dim // max(heads, 1))
  embedding = file.tensors.get("token_embd.weight")
  for key, only in {
    "attention.value_length": (None, head_dim),
    "rope.dimension_count": (None, head_dim),
    "rope.scaling.type": (None, "none"),
    "expert_count": (None, 0),
    "attention.sliding_window": (None, 0),
  }.items():
    found = file.fields.get(f"{family}.{key}")
    if found not in only:
      raise UserError(
        f"{file.path}: {family}.{key} = {found!r} is not supported, only"
        f" {only[-1]!r}"
      )
  theta = _float32(value("rope.freq_base", float, 10000.0))
  try:
    config = ModelConfig(
      vocab_size=embedding.shape[0] if embedding else 0,
      embed_dim=embed_dim,
      num_layers=value("block_count", int),
      num_heads=heads,
      num_kv_heads=value("attention.head_count_kv", int, heads),
      head_dim=head_dim,
      mlp_dim=value("feed_forward_length", int),
      max_context=value("context_length", int),
      pattern=alike(theta),
      rms_eps=_float32(value("attention.layer_norm_rms_epsilon", float)),
      tie_embeddings="output.weight" not in file.tensors,
      qkv_bias="blk.0.attn_q.bias" in file.tensors,
    )
  except (ValueError, ZeroDivisionError) as error:
    raise UserError(f"{file.path}: {error}") from None
  if _ROPE_FACTORS in file.tensors:
    rope = Rope(theta, _scaling(file, theta, config.head_dim))
    config = dataclasses.replace(config, pattern=(LayerKind(rope),))
  return config


def _float32(value: float) -> float:
  """The short decimal that was stored: 1e-5, not 9.999999747378752e-06."""
  return float(str(np.float32(value)))


def _scaling(file: GGUFFile, theta: float, channels: int) -> Llama3Scaling:
  """The scaling whose factors the file holds, one for each pair of channels.

  Of Llama 3's four constants only `factor` differs among the published models,
  and it is the largest of the factors; all of them are then compared.
  """
  factors = file.tensor(_ROPE_FACTORS)
  scaling = Llama3Scaling(
    factor=float(factors.max()),
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_context=8192,
  )
  plain, scaled = Rope(theta), Rope(theta, scaling)
  derived = rope_frequencies(plain, channels) / rope_frequencies(
    scaled, channels
  )
  if factors.shape != derived.shape or not np.allclose(
    factors, derived, rtol=1e-4
  ):
    raise UserError(
      f"{file.path}: tensor {_ROPE_FACTORS} is not the frequency scaling of"
      " Llama 3 (factors 1 and 4, original context 8192), the only one that"
      " is computed here"
    )
  return scaling


def _check_names(file: GGUFFile, config: ModelConfig) -> None:
  wanted = {_gguf_name(name) for name in layout.tensors(config)}
  if missing := sorted(wanted - set(file.tensors)):
    raise UserError(f"{file.path}: tensor {missing[0]} is missing")
  if surplus := sorted(set(file.tensors) - wanted - {_ROPE_FACTORS}):
    raise UserError(
      f"{file.path}: tensor {surplus[0]} belongs to something that this"
      " package does not compute, so the model would not be the same"
    )
