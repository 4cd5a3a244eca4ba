"""A list that hosts deal among themselves: each takes more when it needs more.

Guided self-scheduling (Polychronopoulos and Kuck 1987): who has nothing to do
takes the next chunk, a share of what is left, so that chunks are large while
much is left, and single items at the end. Which items the k-th chunk has
follows from k, and a counter of the coordination service says which chunk is
the next. So there is one request a chunk, and no item is taken twice or never.

A host that dies takes its items along: then all end (see `hosts`), and whoever
starts again deals what no file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import itertools
import math
from typing import Generic, TypeVar

from s2d_jax.parallel import hosts

T = TypeVar("T")

# A chunk is such a part of an even share of what is left. A host so many times
# slower than the others still ends its chunk before the list does.
_CHUNKS_PER_SHARE = 16
# What a host has begun is such a part, or what it needs to be busy.
_BEGUN_PER_SHARE = 4


class Deal(Generic[T]):
  """The items of a list that this host gets, in their order.

  All hosts make it, and iterate over it once. The next item is taken when it is
  asked for.

  Args:
    name: of the items.
    items: of all hosts, which have the same list.
    is_shared: False: this host gets all of them.

  Attributes:
    items: of all hosts.
    is_shared: whether other hosts get some.
  """

  def __init__(self, name: str, items: Sequence[T], is_shared: bool = True):
    self.items = items
    self._left = len(items)
    self._hosts = hosts.count() if is_shared else 1
    self.is_shared = self._hosts > 1
    self._counter = hosts.Counter(name) if self.is_shared else None

  def __iter__(self) -> Iterator[T]:
    if not self.is_shared:
      yield from self.items
      return
    coming, passed = chunks(len(self.items), self._hosts), 0
    while True:
      number = self._counter.add(1) - 1
      chunk = next(itertools.islice(coming, number - passed, None), None)
      passed = number + 1
      self._left = 0 if chunk is None else len(self.items) - chunk.stop
      if chunk is None:
        return
      for index in chunk:
        yield self.items[index]

  @property
  def most_begun(self) -> float:
    """Items beyond which a busy host should begin no more.

    What is begun cannot be dealt to others. So the less is left, as far as this
    host knows, the less is begun ahead.
    """
    if not self.is_shared:
      return math.inf
    return self._left / (_BEGUN_PER_SHARE * self._hosts)


def chunks(items: int, takers: int) -> Iterator[range]:
  """Yields the indices of each chunk: the first `items` numbers, in order."""
  start = 0
  while start < items:
    size = (items - start) // (_CHUNKS_PER_SHARE * takers)
    yield range(start, start := start + max(1, size))
