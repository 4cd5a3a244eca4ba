"""Adapters of low rank beside the weights (LoRA, Hu et al. 2021)."""

from __future__ import annotations

import dataclasses
import functools

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from s2d_jax.models.kernels import (
  Params,
  normal,
  parameter,
  precision_of,
  zeros,
)

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
DOWN, UP = "lora_down", "lora_up"


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which kernels have adapters.

  Attributes:
    rank: of the adapters.
    alpha: their product is scaled by alpha / rank.
    targets: names of the projections that have them, of `PROJECTIONS`.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...]

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def project(
    self,
    module: nn.Module,
    x: Float[Array, "B ..."],
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    n: int,
    dtype: DTypeLike,
  ) -> Float[Array, "B ..."]:
    """What the adapters of a kernel [*I, *O] add to its product, in `dtype`.

    They are parameters of `module`; see `kernels.Float.project`.
    """
    down_shape, up_shape = (*shape[:n], self.rank), (self.rank, *shape[n:])
    down_axes, up_axes = (*axes[:n], "rank"), ("rank", *axes[n:])
    # The product begins at zero: the model begins as it was.
    down = parameter(module, DOWN, normal, down_shape, down_axes)
    up = parameter(module, UP, zeros, up_shape, up_axes)
    multiply = functools.partial(jnp.tensordot, precision=precision_of(dtype))
    narrow = multiply(x.astype(dtype), down.astype(dtype), axes=n) * self.scale
    return multiply(narrow.astype(dtype), up.astype(dtype), axes=1)


def split(params: Params) -> tuple[Params, Params]:
  """A tree with adapters → the adapters alone, and the tree without them."""
  flat = traverse_util.flatten_dict(params)
  adapters = {path: x for path, x in flat.items() if path[-1] in (DOWN, UP)}
  rest = {path: x for path, x in flat.items() if path not in adapters}
  unflatten = traverse_util.unflatten_dict
  return unflatten(adapters), unflatten(rest)


def merge(params: Params, adapters: Params, lora: Lora) -> Params:
  """The weights that compute the same without adapters: W + s · down · up.

  Args:
    params: without adapters; kernels [L, in…, out…].
    adapters: down [L, in…, R] and up [L, R, out…].
    lora: has the scale s.

  Returns:
    A tree like `params`, each sum rounded once to the kernel's dtype.
  """
  flat = traverse_util.flatten_dict(params, sep="/")
  merged = {
    path: merge_leaf(path, x, adapters, lora) for path, x in flat.items()
  }
  return traverse_util.unflatten_dict(merged, sep="/")


def merge_leaf(path: str, leaf: Array, adapters: Params, lora: Lora) -> Array:
  """`merge` for the leaf at `path`, with "/" between the keys."""
  pair = pair_of(path, adapters)
  if pair is None:
    return leaf
  # One layer at a time: the product is as large as the kernel.
  return jax.lax.map(lambda one: merge_layer(*one, lora=lora), (leaf, *pair))


def pair_of(path: str, adapters: Params) -> tuple[Array, Array] | None:
  """Down and up of the kernel at `path`; None: it has no adapters."""
  flat = traverse_util.flatten_dict(adapters, sep="/")
  parent, _, name = path.rpartition("/")
  if name != "kernel" or f"{parent}/{DOWN}" not in flat:
    return None
  return flat[f"{parent}/{DOWN}"], flat[f"{parent}/{UP}"]


def merge_layer(
  kernel: Float[Array, "..."],
  down: Float[Array, "... R"],
  up: Float[Array, "R ..."],
  lora: Lora,
) -> Float[Array, "..."]:
  """`merge` for one layer of a kernel [in…, out…]."""
  change = down.reshape(-1, lora.rank) @ up.reshape(lora.rank, -1)
  total = kernel.astype(jnp.float32) + lora.scale * change.reshape(kernel.shape)
  return total.astype(kernel.dtype)
