"""Weights in a byte each: int8 with a scale an output channel.

A kernel's channel c is stored as round(w / s_c), s_c = max |w_c| / 127, so a
weight is off by at most half a step of its channel (symmetric round-to-nearest,
as in LLM.int8(), Dettmers et al. 2022, for the weights alone). The product is
taken in the model's own dtype and scaled afterwards.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from s2d_jax.models.kernels import CONTRACTED


def quantize(path: str, leaf: Array) -> dict[str, Array] | None:
  """The int8 form of a leaf of the parameter tree, by its path.

  Args:
    path: keys of the tree with "/" between them, as "layers/mlp/up/kernel".
    leaf: a floating-point array; kernels of layers have the layer axis first.

  Returns:
    {"kernel" or "embedding": int8, "scale": float32}, or None for a leaf that
    stays as it is: norms, biases and adapters.
  """
  *parents, name = path.split("/")
  if name not in ("kernel", "embedding"):
    return None
  if name == "embedding":  # [V, D]: a row is the channel of the tied head
    contracted = (1,)
  else:
    first = 1 if parents[0] == "layers" else 0
    count = CONTRACTED.get(parents[-1], 1)
    contracted = tuple(range(first, first + count))
  leaf = leaf.astype(jnp.float32)
  peak = jnp.abs(leaf).max(contracted, keepdims=True)
  scale = jnp.where(peak > 0, peak / 127, 1.0)
  return {
    name: jnp.round(leaf / scale).astype(jnp.int8),
    "scale": scale.squeeze(contracted),
  }


def quantize_params(params, prefix: str = ""):
  """The int8 form of a whole parameter tree."""
  made = {}
  for key, value in params.items():
    if isinstance(value, dict):
      made[key] = quantize_params(value, f"{prefix}{key}/")
    else:
      made |= quantize(prefix + key, value) or {key: value}
  return made
