"""Where keys and values of replies lie: in pages, which rows take as they grow.

D shards of a mesh have M pages of S tokens and R rows each, and a row has pages
of its own shard. A page belongs to one row at a time, and lies anywhere: what a
row has drawn is seen page by page, and put together in the order of its tokens
(`models.attention`). So nothing depends, to the last bit, on which pages a row
has. Neither the room that is reserved nor what a step reads goes by the longest
reply that is allowed, or by the longest that there is.

The device gives pages to rows by itself: the host is asked only when there are
not enough of them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from s2d_jax.models.key_values import KeyValues, Owners, Shard
from s2d_jax.models.llama import Llama


class Pages(NamedTuple):
  """The pages of a batch, and whose they are.

  A row always has the page that it writes into, before its first token too, so
  that there is a place for what a row computes that has nothing to draw.
  """

  cache: KeyValues  # [L, D * M, K, S, H]
  row: Int[Array, "D M"]  # whose page it is; R: nobody's
  number: Int[Array, "D M"]  # which of the pages of its row
  current: Int[Array, "D R"]  # the page that a row writes into

  @property
  def size(self) -> int:
    """Tokens of a page."""
    return self.cache.capacity

  def sharded(self, shard: Shard) -> Pages:
    cache, *fields = self
    by_shard = lambda x: shard(x, "batch", None)
    return Pages(cache.sharded(shard), *map(by_shard, fields))

  @property
  def used(self) -> Int[Array, " D"]:
    """Pages that are somebody's."""
    return (self.row < self.current.shape[1]).sum(-1)

  def has_room(
    self, active: Bool[Array, " B"], count: Int[Array, " B"], read: int
  ) -> Bool[Array, ""]:
    """Whether rows that have drawn `count` tokens can all draw one more.

    With pages out of the first `read` of each shard.
    """
    needs = active & (count % self.size == 0) & (count > 0)
    needed = needs.reshape(self.current.shape).sum(-1)
    return (self.used + needed <= read).all()

  def gathered(self, read: int) -> Pages:
    """With all that is used among the first `read` pages of each shard.

    As many as are used, or more.
    """

    def of_shard(row, number, current):
      index, rows = jnp.arange(len(row)), len(current)
      first = lambda which: jnp.argsort(~which)  # in order, then the others
      moves = (index >= read) & (row < rows)
      source, target = first(moves), first((index < read) & (row == rows))
      at = jnp.where(index < moves.sum(), target, len(row))  # else: nowhere
      number = number.at[at].set(number[source], mode="drop")
      row = row.at[at].set(row[source], mode="drop")
      place = index.at[source].set(jnp.where(at < len(row), at, source))
      row = jnp.where(moves, rows, row)
      return row, number, place[current], source, target, moves.sum()

    if read == self.row.shape[1]:
      return self
    *changed, source, target, count = jax.vmap(of_shard)(*self[1:])
    return Pages(self.cache.with_moved(source, target, count), *changed)

  def freed(self, keep: Bool[Array, " B"]) -> Pages:
    """Rows without `keep` have one page left, which is their first again."""

    def of_shard(row, number, current, keep):
      kept = keep.at[row].get(mode="fill", fill_value=False)
      is_current = jnp.zeros_like(kept).at[current].set(True)
      row = jnp.where(kept | is_current, row, len(current))
      return row, jnp.where(kept, number, 0)

    row, number = jax.vmap(of_shard)(
      self.row, self.number, self.current, keep.reshape(self.current.shape)
    )
    return self._replace(row=row, number=number)

  def taken(self, active: Bool[Array, " B"], last: Int[Array, " B"]) -> Pages:
    """Rows whose token `last` is the first of a page have a page for it."""

    def of_shard(row, number, current, needs, next_number):
      rows = jnp.arange(len(current))
      free = jnp.cumsum(row == len(current))
      # The n-th row that needs a page takes the n-th that is free: the used
      # ones keep to the first pages.
      place = jnp.searchsorted(free, jnp.cumsum(needs), method="compare_all")
      at = jnp.where(needs, place, len(row))  # out of range: nowhere
      return (
        row.at[at].set(rows, mode="drop"),
        number.at[at].set(next_number, mode="drop"),
        jnp.where(needs, place, current),
      )

    needs = active & (last % self.size == 0) & (last > 0)
    by_shard = lambda x: x.reshape(self.current.shape)
    changed = jax.vmap(of_shard)(
      *self[1:], by_shard(needs), by_shard(last // self.size)
    )
    return Pages(self.cache, *changed)

  def past(
    self,
    seen: Int[Array, " B"],
    start: Int[Array, " B"],
    read: int,
    is_whole: bool,
  ) -> KeyValues:
    """The first `seen` tokens of each row, which stand behind `start` others.

    In the first `read` pages of each shard; `is_whole` says that a page has all
    tokens of a row.
    """
    row, number = self.row[:, :read], self.number[:, :read]
    of_row = jax.vmap(lambda x, row: x.at[row].get(mode="fill", fill_value=0))
    by_page = lambda x: of_row(x.reshape(len(row), -1), row).reshape(-1, 1)
    index = number.reshape(-1, 1) * self.size + jnp.arange(self.size)
    past = self.cache._replace(
      valid=(index < by_page(seen))[:, None], positions=by_page(start) + index
    )
    if is_whole:
      return past
    order = jnp.argsort(row * self.row.shape[1] + number, axis=-1)
    return past._replace(owners=Owners(row, order))

  def with_token(self, new: KeyValues, last: Int[Array, " B"]) -> Pages:
    """The token `last` of each row, in its page."""
    column = last % self.size
    cache = self.cache.with_token(new, self.current.reshape(-1), column)
    return self._replace(cache=cache)

  def extended(self, more: int) -> Pages:
    """With so many pages more in every shard; copies the others."""
    shards, rows = self.current.shape
    behind = lambda x, value: jnp.pad(
      x, ((0, 0), (0, more)), constant_values=value
    )
    return self._replace(
      cache=self.cache.with_more_entries(shards, more),
      row=behind(self.row, rows),
      number=behind(self.number, 0),
    )


def empty(model: Llama, shards: int, rows: int, pages: int, size: int) -> Pages:
  """`pages` of `size` tokens for the `rows` of each shard."""
  index = jnp.arange(pages)
  every = lambda x: jnp.broadcast_to(x, (shards, *x.shape))
  return Pages(
    cache=model.empty_cache(shards * pages, size),
    row=every(jnp.minimum(index, rows)),
    number=every(jnp.zeros_like(index)),
    current=every(jnp.arange(rows)),
  )
