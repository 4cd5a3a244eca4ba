"""Random weights that make a difference."""

from __future__ import annotations

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from s2d_jax.models.config import ModelConfig, alike
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
