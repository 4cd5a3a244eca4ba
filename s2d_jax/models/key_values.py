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


class Owners(NamedTuple):
  """Whose the entries of a past are, where a row may have several, or none.

  On each of D shards of a batch, M entries and some rows.
  """

  row: Int[Array, "D M"]  # of the shard; beyond its rows: nobody's
  order: Int[Array, "D M"]  # entries by row, those of a row as its tokens stand


class KeyValues(NamedTuple):
  """Keys and values of tokens that came before, and who may see which.

  Entry p of P serves the query rows p * R … (p + 1) * R - 1: a prefix common to
  all rows has P = 1, a prompt has P = number of prompts, a row's own tokens
  have P = B. Rows share an entry without copying it. `valid` has R = 1 where
  all rows of an entry see the same keys; it is None until they are read.
  `positions` are those of the keys in their sequences, and are needed where
  layers have windows. `owners` say whose entries are that are no row's only
  one: then R = 1. In front of the axes below, `keys` and `values` carry the
  layer axis until the scan over layers takes it off.
  """

  keys: Float[Array, "*L P K S H"]
  values: Float[Array, "*L P K S H"]
  valid: Bool[Array, "P R S"] | None = None
  positions: Int[Array, "P S"] | None = None
  owners: Owners | None = None

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

  @property
  def reach(self) -> int:
    """The most tokens of a row."""
    entries = 1 if self.owners is None else self.owners.row.shape[1]
    return entries * self.capacity

  def _map(self, change: Callable[[Array], Array]):
    """Keys and values changed alike; `valid` is left as it is."""
    keys, values = jax.tree.map(change, (self.keys, self.values))
    return self._replace(keys=keys, values=values)

  def sharded(self, shard: Shard):
    """Entries over the axes of a batch, heads over `tensor`."""
    by_entry = lambda x: shard(x, *_AXES[-x.ndim :])
    return self._map(by_entry)

  def extended(self, more: int):
    """With capacity for so many tokens more in every entry."""
    longer = lambda x: jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), (0, more), (0, 0)])
    return self._map(longer)

  def with_more_entries(self, shards: int, more: int):
    """With so many entries more behind those of each shard."""

    longer = lambda x: jnp.pad(
      x, [*[(0, 0)] * (x.ndim - 4), (0, more), *[(0, 0)] * 3]
    )
    return self._map(_of_each_shard(shards, longer))

  def first_entries(self, shards: int, count: int):
    """So many of those of each shard; all of them: as they are."""

    cut = lambda x: jax.lax.slice_in_dim(x, 0, count, axis=x.ndim - 4)
    if self.values.shape[-4] == shards * count:
      return self
    return self._map(_of_each_shard(shards, cut))

  def with_moved(
    self,
    source: Int[Array, "D M"],
    target: Int[Array, "D M"],
    count: Int[Array, " D"],
  ):
    """On each shard entries that take the place of others, in place.

    The first `count` of them; what was there is lost.
    """
    cache = nn.logical_to_mesh_axes(_AXES)
    shard = nn.logical_to_mesh_axes(("batch",))
    move = jax.shard_map(
      _move_entries, in_specs=(cache, shard, shard, shard), out_specs=cache
    )
    return self._map(lambda x: move(x, source, target, count))

  def with_entries(
    self, at: Int[Array, " N"], new: KeyValues, source: Int[Array, " N"]
  ):
    """Entry `source[i]` of `new`, which lies as this, in entry `at[i]`.

    Those that are out of range, which stand behind all others, go nowhere.
    """

    def put(old, new):
      new = new[:, source]
      length = new.shape[-2]
      return old.at[..., at, :, :length, :].set(new, mode="drop")

    return self._replace(
      keys=put(self.keys, new.keys), values=put(self.values, new.values)
    )

  def with_token(
    self, new: KeyValues, entry: Int[Array, " B"], column: Int[Array, " B"]
  ):
    """A token of each row in its entry, of those of its shard, in place."""
    cache = nn.logical_to_mesh_axes(_AXES)
    rows = nn.logical_to_mesh_axes(("batch",))
    write = jax.shard_map(
      _write_rows, in_specs=(cache, cache, rows, rows), out_specs=cache
    )
    return self._replace(
      keys=write(self.keys, new.keys, entry, column),
      values=write(self.values, new.values, entry, column),
    )


def _of_each_shard(
  shards: int, change: Callable[[Array], Array]
) -> Callable[[Array], Array]:
  """The change of [… D M K S H] for arrays [… D * M K S H]."""

  def changed(x):
    *layers, entries, heads, tokens, size = x.shape
    token = heads, tokens, size
    x = change(x.reshape(*layers, shards, entries // shards, *token))
    return x.reshape(*layers, -1, *token)

  return changed


def _einsum(axes: str, x: Array, y: Array) -> Array:
  """With a float32 result."""
  return jnp.einsum(
    axes,
    x,
    y,
    precision=precision_of(x.dtype),
    preferred_element_type=jnp.float32,
  )


def _move_entries(
  cache: Float[Array, "L P K S H"],
  source: Int[Array, "1 M"],
  target: Int[Array, "1 M"],
  count: Int[Array, " 1"],
) -> Float[Array, "L P K S H"]:

  def move(index, cache):
    entry = jax.lax.dynamic_slice_in_dim(cache, source[0, index], 1, 1)
    return jax.lax.dynamic_update_slice_in_dim(
      cache, entry, target[0, index], 1
    )

  return jax.lax.fori_loop(0, count[0], move, cache)


def _write_rows(
  cache: Float[Array, "L P K S H"],
  new: Float[Array, "L B K 1 H"],
  entry: Int[Array, " B"],
  column: Int[Array, " B"],
) -> Float[Array, "L P K S H"]:
  """A loop over the rows of a device.

  For a scatter, XLA for TPUs would lay the whole cache out anew; for rows that
  are not flat it may find no layout at all.
  """
  flat = jnp.moveaxis(new, 1, 0).reshape(new.shape[1], -1)
  layers, _, *token = new.shape

  def put(row, cache):
    written = flat[row].reshape(layers, 1, *token)
    at = 0, entry[row], 0, column[row], 0
    return jax.lax.dynamic_update_slice(cache, written, at)

  return jax.lax.fori_loop(0, len(column), put, cache)
