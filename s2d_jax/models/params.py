"""The tree of a model's parameters: shapes and names, nothing allocated."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

from s2d_jax.models import kernels
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.kernels import Params
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora


def abstract_params(
  config: ModelConfig,
  dtype: DTypeLike = jnp.float32,
  weights: str = "float",
  lora: Lora | None = None,
) -> Params:
  """Shapes and logical axis names of every parameter.

  Floating-point leaves are of `dtype`, but for scales: of int8 weights, and of
  norms, which are few and are multiplied in float32 (Gemma's bfloat16 weights
  are these scales less one).
  """
  is_int8 = weights == "int8"

  def cast(path, leaf):
    if leaf.dtype == jnp.int8 or "scale" in jax.tree_util.keystr(path):
      return leaf
    return jax.ShapeDtypeStruct(leaf.shape, dtype)

  params = _initialised(config, is_int8, lora)
  return jax.tree_util.tree_map_with_path(cast, params)


@functools.cache  # every program of a run asks, and tracing takes a while
def _initialised(
  config: ModelConfig, is_int8: bool, lora: Lora | None
) -> Params:
  """The leaves as the network makes them."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  way = kernels.Int8() if is_int8 else kernels.Float()
  model = Llama(config, way, lora=lora)
  init = lambda key, tokens: model.init(key, tokens, method=Llama.init_all)
  return jax.eval_shape(init, jax.random.key(0), tokens)["params"]
