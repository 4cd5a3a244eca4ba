"""Random weights that make a difference."""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp

from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama, Params


def random_params(config: ModelConfig) -> Params:
  """Initial weights, enlarged: at 0.02 attention is uniform, logits alike."""

  @jax.jit
  def init(key):
    tokens = jnp.ones((1, 1), jnp.int32)
    return Llama(config).init(key, tokens, method=Llama.init_all)

  params = nn.meta.unbox(init(jax.random.key(0)))["params"]
  return jax.tree.map(lambda x: x * 10 if float(x.std()) else x, params)
