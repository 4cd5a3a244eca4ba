"""Jobs of items that hosts deal: how many are begun ahead."""

from __future__ import annotations

import collections

import pytest

from s2d_jax.generation.sampling import GREEDY
from s2d_jax.parallel.dealing import Deal
from s2d_jax.system2.dealt_jobs import DealtJobs
from s2d_jax.system2.scheduler import Job
from tests.counters import Counters

_BATCH, _MOST, _SAMPLES = 8, 32, 2


class _Host:
  """Draws the samples of items, a batch at once, as a scheduler does.

  Attributes:
    under_way: jobs that were taken and have not ended.
    ended: how many have.
  """

  def __init__(self, items: range):
    self.under_way: collections.deque[Job] = collections.deque()
    self.ended = 0
    self.jobs = DealtJobs(
      Deal("items", items), self._begin, lambda: len(self.under_way), _BATCH
    )

  def _begin(self, item: int) -> list[Job]:
    return [Job((item, number), {}, GREEDY) for number in range(_SAMPLES)]

  def take(self) -> None:
    while len(self.under_way) < _MOST and self.jobs:
      self.under_way.append(self.jobs.popleft())

  def end(self) -> list[tuple]:
    """The names of a batch of jobs, which have ended."""
    count = min(_BATCH, len(self.under_way))
    self.ended += count
    return [self.under_way.popleft().name for _ in range(count)]


@pytest.mark.parametrize("slowness", [1, 2, 3])
def test_no_more_than_a_batch_is_under_way_when_the_list_ends(
  monkeypatch, slowness
):
  """The first host is slower, and still has no more than the others."""
  Counters().made_by(4, monkeypatch)
  group = [_Host(range(3000)) for _ in range(4)]
  most, found, steps, last = 0, [], 0, None
  while last is None or any(host.under_way for host in group):
    for host in group:
      host.take()
      most = max(most, len(host.under_way))
    if last is None and sum(h.ended + len(h.under_way) for h in group) == 6000:
      last = [len(host.under_way) for host in group]
    steps += 1
    for number, host in enumerate(group):
      if number or steps % slowness == 0:
        found += host.end()
  assert sorted(found) == [(i, n) for i in range(3000) for n in range(_SAMPLES)]
  assert most == _MOST  # while much is left
  assert max(last) < _BATCH + _SAMPLES


def test_one_host_takes_all_that_it_is_asked_for():
  host = _Host(range(100))
  for _ in range(100 * _SAMPLES // _BATCH - 3):
    host.take()
    assert len(host.under_way) == _MOST
    host.end()
  host.jobs.put_first([Job((7, "again"), {}, GREEDY)])
  assert host.jobs.popleft().name == (7, "again")


def test_what_goes_on_is_drawn_before_more_is_begun():
  host = _Host(range(3))
  assert host.jobs and host.jobs.popleft().name == (0, 0)
  host.jobs.put_first([Job((0, number), {}, GREEDY) for number in (2, 3)])
  names = []
  while host.jobs:
    names.append(host.jobs.popleft().name)
  assert names == [(0, 2), (0, 3), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
