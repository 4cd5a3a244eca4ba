"""Items that hosts deal: none lost, none doubled, no long wait in the end."""

from __future__ import annotations

import collections
import heapq
import math
import random

import pytest

from s2d_jax.parallel.dealing import Deal, chunks
from tests.counters import Counters


@pytest.fixture
def counters() -> Counters:
  return Counters()


def _deals(monkeypatch, counters, count, items, **options) -> list[Deal]:
  counters.made_by(count, monkeypatch)
  return [Deal("items", items, **options) for _ in range(count)]


@pytest.mark.parametrize("takers", [1, 2, 5, 16])
@pytest.mark.parametrize("items", [0, 1, 7, 1000, 12_345])
def test_chunks_are_the_list_and_shrink(items, takers):
  found = list(chunks(items, takers))
  assert [i for chunk in found for i in chunk] == list(range(items))
  for chunk in found:
    share = (items - chunk.start) / takers
    assert len(chunk) == 1 or len(chunk) <= share / 16
  sizes = list(map(len, found))
  assert sizes == sorted(sizes, reverse=True)
  # Each chunk leaves (1 - 1/16p) of the list, until chunks are single items.
  large = 16 * takers * math.log(max(items / (16 * takers), 1))
  assert len(found) <= large + 2 * 16 * takers


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_or_doubled_in_any_order(monkeypatch, counters, seed):
  """Hosts take turns as they like, some for long, some hardly ever."""
  rng = random.Random(seed)
  count, items = rng.choice([2, 3, 16]), list(range(rng.choice([0, 5, 3000])))
  taking = {
    host: iter(deal)
    for host, deal in enumerate(_deals(monkeypatch, counters, count, items))
  }
  taken, turn = collections.defaultdict(list), 0
  while taking:
    if turn not in taking or rng.random() < 0.2:
      turn = rng.choice(list(taking))
    item = next(taking[turn], None)
    if item is None:
      del taking[turn]
    else:
      taken[turn].append(item)
  assert sorted(i for own in taken.values() for i in own) == items
  assert all(own == sorted(own) for own in taken.values())


def _last_waits(monkeypatch, counters, count, items, seconds) -> float:
  """How long the first host to end waits for the last one, in a simulation.

  A host works on one item at a time, as many seconds as it takes there.
  """
  deals = [
    iter(deal) for deal in _deals(monkeypatch, counters, count, range(items))
  ]
  turns, ends = [(0.0, host) for host in range(count)], []
  while turns:
    now, host = heapq.heappop(turns)
    if next(deals[host], None) is None:
      ends.append(now)
    else:
      heapq.heappush(turns, (now + seconds(host), host))
  return max(ends) - min(ends)


@pytest.mark.parametrize("seed", range(4))
def test_no_host_waits_longer_than_one_item_takes(monkeypatch, counters, seed):
  """Whatever the hosts' speeds are, if none is 16 times slower than the mean.

  A chunk of c > 1 items is taken where at least 16 p c are left to p hosts, who
  need at least 16 c times the mean seconds of an item for them. So it has ended
  when the list has, and only single items are under way.
  """
  rng = random.Random(seed)
  pace = [rng.uniform(1, 10) for _ in range(rng.choice([2, 7, 16]))]
  seconds = lambda host: pace[host]
  waits = _last_waits(monkeypatch, counters, len(pace), 5000, seconds)
  assert waits <= max(pace) + 1e-6
  mean = len(pace) / sum(1 / one for one in pace)
  fixed = 5000 / len(pace) * (max(pace) - min(pace))
  assert waits < fixed / 10 and max(pace) < 16 * mean


def test_one_host_has_all(monkeypatch, counters):
  (alone,) = _deals(monkeypatch, counters, 1, "abc")
  assert list(alone) == [*"abc"] and not counters.values
  assert alone.most_begun == math.inf
  both = _deals(monkeypatch, counters, 2, "abc", is_shared=False)
  assert [list(one) for one in both] == [[*"abc"]] * 2
  assert not counters.values


def test_less_is_begun_ahead_the_less_is_left(monkeypatch, counters):
  deal, other = _deals(monkeypatch, counters, 2, range(800))
  assert deal.most_begun == 800 / 4 / 2
  taking, before = iter(deal), math.inf
  for item in taking:
    assert deal.most_begun <= min(before, (800 - item) / 4 / 2)
    before = deal.most_begun
  assert deal.most_begun == 0
  assert list(other) == []
