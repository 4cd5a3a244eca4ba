"""Random weights that make a difference."""

from __future__ import annotations

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from s2d_jax.models.config import (
  LayerKind,
  LinearScaling,
  ModelConfig,
  Rope,
  YarnScaling,
  alike,
)
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora
from s2d_jax.models.params import Params, abstract_params

UNTIED = ModelConfig(
  vocab_size=96,
  embed_dim=32,
  num_layers=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=16,
  mlp_dim=48,
  max_context=64,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=False,
  qkv_bias=True,
)
# All that a family of models may have.
RICH = dataclasses.replace(
  UNTIED,
  pattern=(
    LayerKind(Rope(1e4, YarnScaling(4.0, 16, 1.1), channels=8), window=5),
    LayerKind(None),
    LayerKind(Rope(1e6, LinearScaling(8.0), channels=8)),
  ),
  o_bias=True,
  mlp_bias=True,
  qk_norm="all",
  norms="both",
  activation="gelu_tanh",
  embed_scale=3.0,
  query_scale=0.4,
  residual_scale=0.7,
  logit_scale=1.5,
  attention_cap=20.0,
  logit_cap=30.0,
)
TIED = dataclasses.replace(UNTIED, tie_embeddings=True, qkv_bias=False)


def random_params(config: ModelConfig) -> Params:
  """Initial weights, enlarged: at 0.02 attention is uniform, logits alike."""

  @jax.jit
  def init(key):
    tokens = jnp.ones((1, 1), jnp.int32)
    return Llama(config).init(key, tokens, method=Llama.init_all)

  params = nn.meta.unbox(init(jax.random.key(0)))["params"]
  return jax.tree.map(lambda x: x * 10 if float(x.std()) else x, params)


def filled_params(config: ModelConfig, lora: Lora | None = None) -> Params:
  """A tree of the model's shapes, every leaf random: norms and biases too."""
  rng = np.random.default_rng(0)
  shapes = nn.unbox(abstract_params(config, lora=lora))
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def as_loaded(params: Params, dtype: str) -> Params:
  """Of the dtype that weights are loaded in, but for the scales of norms."""

  def cast(path, leaf):
    return leaf if path[-1].key == "scale" else leaf.astype(dtype)

  return jax.tree_util.tree_map_with_path(cast, params)
