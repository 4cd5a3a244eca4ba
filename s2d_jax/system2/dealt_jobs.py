"""Jobs of items that hosts deal among themselves, made when there is room."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

from s2d_jax.parallel.dealing import Deal
from s2d_jax.system2.scheduler import Job, Scheduler

T = TypeVar("T")


class DealtJobs(Generic[T]):
  """A line of jobs, in which an item's are made when its turn comes.

  As long as much is left to deal, so many are begun ahead as the scheduler
  asks for. In the end no more than fill a batch: the others wait for a host
  that has more, and have nothing to do.

  Args:
    deal: of the items.
    jobs_of: makes the first jobs of an item.
    begun: how many jobs are under way.
    batch: how many fill a batch.
  """

  def __init__(
    self,
    deal: Deal[T],
    jobs_of: Callable[[T], Sequence[Job]],
    begun: Callable[[], int],
    batch: int,
  ):
    self._deal, self._items = deal, iter(deal)
    self._jobs_of, self._begun, self._batch = jobs_of, begun, batch
    self._line: collections.deque[Job] = collections.deque()
    self._jobs_an_item = 1

  @classmethod
  def of(
    cls,
    deal: Deal[T],
    jobs_of: Callable[[T], Sequence[Job]],
    schedulers: Collection[Scheduler],
  ) -> DealtJobs[T]:
    """Those for schedulers of one engine, which advance them together."""
    [rows] = {one.rows for one in schedulers}
    begun = lambda: sum(one.in_flight for one in schedulers)
    return cls(deal, jobs_of, begun, rows)

  def __bool__(self) -> bool:
    while not self._line and self._has_room():
      try:
        item = next(self._items)
      except StopIteration:
        break
      self._line.extend(self._jobs_of(item))
      self._jobs_an_item = max(1, len(self._line))
    return bool(self._line)

  def popleft(self) -> Job:
    return self._line.popleft()

  def put_first(self, jobs: Sequence[Job]) -> None:
    """They are drawn before more items are begun."""
    self._line.extendleft(reversed(jobs))

  def _has_room(self) -> bool:
    most = self._deal.most_begun * self._jobs_an_item
    return self._begun() < max(self._batch, most)
