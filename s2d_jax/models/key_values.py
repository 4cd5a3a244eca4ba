"""Keys and values of tokens, and how a batch keeps them.

Axis letters: P entries, K key-value heads, S tokens, H head size, L layers; R
rows an entry serves, T queries, G query heads a key-value head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s2d_jax.models.kernels import precision_of, unpack

# Lays out an array over devices by the logical names of its axes.
Shard = Callable[..., Array]

_AXES = ("layers", "batch", "kv_heads", None, None)


class KeyValues(NamedTuple):
  """Keys and values of tokens that came before, and who may see which.

  Entry p of P serves the query rows p * R … (p + 1) * R - 1: a prefix common to
  all rows has P = 1, a prompt has P = number of prompts, a row's own tokens
  have P = B. Rows share an entry without copying it. `valid` has R = 1 where
  all rows of an entry see the same keys; it is None until they are read.
  `positions` are those of the keys in their sequences, and are needed where
  layers have windows. In front of the axes below, `keys` and `values` carry the
  layer axis until the scan over layers takes it off.
  """

  keys: Float[Array, "*L P K S H"]
  values: Float[Array, "*L P K S H"]
  valid: Bool[Array, "P R S"] | None = None
  positions: Int[Array, "P S"] | None = None

  def scores(
    self, q: Float[Array, "P R T K G H"]
  ) -> Float[Array, "P K R T G S"]:
    """Products of queries with the keys of a layer, in float32."""
    return self._scores("prtkgh,pksh->pkrtgs", q)

  def _scores(self, axes: str, q):
    keys = unpack(self.keys)
    q = q.astype(keys.dtype)
    return _einsum(axes, q, keys)

  def weighted(
    self, weights: Float[Array, "P K R T G S"]
  ) -> Float[Array, "P K R T G H"]:
    """Sums of the values of a layer, in float32."""
    values = unpack(self.values)
    weights = weights.astype(values.dtype)
    return _einsum("pkrtgs,pksh->pkrtgh", weights, values)

  # A batch keeps them in arrays with capacity for more tokens.

  @property
  def capacity(self) -> int:
    """The most tokens of an entry."""
    return self.values.shape[-2]

  def _map(self, change: Callable[[Array], Array]):
    """Keys and values changed alike; `valid` is left as it is."""
    return self._replace(keys=change(self.keys), values=change(self.values))

  def sharded(self, shard: Shard):
    """Entries over the axes of a batch, heads over `tensor`."""
    by_entry = lambda x: shard(x, *_AXES[-x.ndim :])
    return self._map(by_entry)

  def extended(self, more: int):
    """With capacity for so many tokens more in every entry."""
    longer = lambda x: jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), (0, more), (0, 0)])
    return self._map(longer)

  def with_entries(
    self, at: Int[Array, " N"], new: KeyValues, source: Int[Array, " N"]
  ):
    """Entry `source[i]` of `new` in entry `at[i]`; out of range: nowhere."""

    def put(old, new):
      new = new[:, source]
      length = new.shape[-2]
      return old.at[..., at, :, :length, :].set(new, mode="drop")

    return self._replace(
      keys=put(self.keys, new.keys), values=put(self.values, new.values)
    )

  def with_token(self, new: KeyValues, column: Int[Array, " P"]):
    """One token of each entry in its column, in place."""
    cache = nn.logical_to_mesh_axes(_AXES)
    write = jax.shard_map(
      _write_rows,
      in_specs=(cache, cache, nn.logical_to_mesh_axes(("batch",))),
      out_specs=cache,
    )
    return self._replace(
      keys=write(self.keys, new.keys, column),
      values=write(self.values, new.values, column),
    )


def _einsum(axes: str, x: Array, y: Array) -> Array:
  """With a float32 result."""
  return jnp.einsum(
    axes,
    x,
    y,
    precision=precision_of(x.dtype),
    preferred_element_type=jnp.float32,
  )


def _write_rows(
  cache: Float[Array, "L P K S H"],
  new: Float[Array, "L P K 1 H"],
  column: Int[Array, " P"],
) -> Float[Array, "L P K S H"]:
  """A loop over the rows of a device.

  For a scatter, XLA for TPUs would lay the whole cache out anew; for rows that
  are not flat it may find no layout at all.
  """
  flat = jnp.moveaxis(new, 1, 0).reshape(new.shape[1], -1)
  layers, _, *token = new.shape

  def put(row, cache):
    written = flat[row].reshape(layers, 1, *token)
    at = 0, row, 0, column[row], 0
    return jax.lax.dynamic_update_slice(cache, written, at)

  return jax.lax.fori_loop(0, len(column), put, cache)
