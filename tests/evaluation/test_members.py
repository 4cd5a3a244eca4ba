from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.members import count_units, mean_of_sharing
from s2d_jax.evaluation.metrics import (
  difference_interval,
  inputs_needed,
  mean_interval,
  paired_p,
  rate_interval,
  share_interval,
)


def pairs_of(members, count, seed=0):
  """Different pairs, in either order."""
  rng = np.random.default_rng(seed)
  pairs = list(itertools.combinations(map(str, range(members)), 2))
  chosen = rng.choice(len(pairs), count, replace=False)
  return [tuple(rng.permutation(pairs[place])) for place in chosen]


def outcomes(pairs, rng):
  """Right or wrong by what is known of both members."""
  known = rng.normal(0, 1, 36)[np.array(pairs, int)].sum(1)
  return (rng.random(len(pairs)) < 1 / (1 + np.exp(-known))) * 1.0


def test_the_error_is_that_of_leaving_members_out():
  """The jackknife over members, less what it counts of a pair twice."""
  pairs = pairs_of(12, 30)
  values = np.random.default_rng(1).normal(size=30)
  left_out = [
    values[[name not in pair for pair in pairs]].mean() - values.mean()
    for name in map(str, range(12))
  ]
  alone = np.sum((values - values.mean()) ** 2) / 30**2
  wanted = max(np.sum(np.square(left_out)) - alone, alone)
  found = mean_of_sharing(values, pairs)
  assert found.error == pytest.approx(np.sqrt(wanted))
  assert found.value == pytest.approx(values.mean())
  assert found.disjoint == 6
  # The test and the interval are those of Student's t with five degrees.
  test = stats.t(5)
  assert found.p == pytest.approx(2 * test.sf(abs(found.value) / found.error))
  assert found.reach(0.95) == pytest.approx(test.ppf(0.975) * found.error)


def test_by_hand():
  """Pairs of a, b and c: residuals of 2, -1 and -1 about a mean of 1."""
  pairs = [("a", "b"), ("a", "c"), ("c", "b")]
  found = mean_of_sharing(np.array([3.0, 0, 0]), pairs)
  # Of a and b 2 - 1, of c -1 - 1, thrice as without the two pairs of each;
  # less 4 + 1 + 1.
  assert found.error == pytest.approx(np.sqrt(9 * (1 + 1 + 4) - 6) / 3)
  assert found.disjoint == 1


def test_both_orders_of_a_pair_are_one():
  pairs = pairs_of(20, 60)
  values = np.random.default_rng(0).normal(size=60)
  once = mean_of_sharing(values, pairs)
  again = [pair[::-1] for pair in pairs]
  twice = mean_of_sharing(np.tile(values, 2), pairs + again)
  assert twice.error == pytest.approx(once.error)
  assert count_units(pairs + again) == count_units(pairs) == 20
  assert count_units([("a", "b"), ("b", "a")]) == 1
  assert count_units(["a", "b", "a"]) == 2


def test_intervals_hold_what_they_say_and_tests_have_their_size():
  """200 pairs of 36 members, of which two methods know different ones."""
  pairs = pairs_of(36, 200)
  firsts = [one for one, _ in pairs]
  rng = np.random.default_rng(2)
  covered = {"members": 0, "firsts": 0}
  rejected, trials = 0, 250
  for _ in range(trials):
    after, before = (outcomes(pairs, rng) for _ in range(2))
    for name, clusters in (("members", pairs), ("firsts", firsts)):
      found = difference_interval(after, before, clusters)
      covered[name] += found.low <= 0 <= found.high
    rejected += paired_p(after - before, pairs) < 0.05
  assert 0.92 <= covered["members"] / trials <= 0.98
  assert rejected == trials - covered["members"]
  assert covered["firsts"] / trials < 0.85


def test_where_all_differ_alike():
  """As so many pairs as have no member in common: 18 of 36."""
  pairs = pairs_of(36, 200)
  same = np.ones(200)
  assert share_interval(same, pairs) == rate_interval(np.ones(18))
  found = difference_interval(same, same, pairs)
  unseen = 1 - 0.05 ** (1 / 18)
  assert (found.low, found.high) == pytest.approx((-unseen, unseen))
  for gain in (same, same / 3, -0.7 * same):
    assert paired_p(gain, pairs) == pytest.approx(2 * 0.5**18)
  assert paired_p(0 * same, pairs) == 1
  assert inputs_needed(0 * same, pairs) is None
  assert inputs_needed(same, pairs) == pytest.approx(1.96**2 * 200 / 18, abs=1)
  # A single pair says next to nothing.
  alone = difference_interval(same[:1], 0 * same[:1], pairs[:1])
  assert (alone.low, alone.high) == pytest.approx((-0.9, 1))


def test_the_pairs_needed_are_connors_with_the_error_of_members():
  pairs = pairs_of(36, 200)
  rng = np.random.default_rng(3)
  gain = outcomes(pairs, rng) - outcomes(pairs, rng) * rng.integers(0, 2, 200)
  found = mean_of_sharing(gain, pairs)
  flat = np.sqrt(found.error**2 + found.value**2 / 18)
  spread = 1.96 * flat + 0.8416 * found.error
  wanted = 200 * (spread / found.value) ** 2
  assert inputs_needed(gain, pairs) == pytest.approx(wanted, rel=0.01)
  firsts = [one for one, _ in pairs]
  assert inputs_needed(gain, pairs) > inputs_needed(gain, firsts)


def test_a_share_is_no_more_than_all():
  pairs = pairs_of(20, 60)
  found = share_interval(np.repeat([1.0, 0], [58, 2]), pairs)
  assert found.low < 58 / 60 < found.high == 1
  assert share_interval(np.repeat([1.0, 0], [2, 58]), pairs).low == 0


# Of 60 values in 20 clusters, and of the same without clusters: computed before
# clusters could have members.
_BEFORE: dict[str, list[float]] = {
  "none": [
    0.016666666666666666, 0.35, 0.38333333333333336, 0.5722222222222222,
    0.016666666666666666, 0.35, 0.2130586755236652, 0.44233767026176773,
    0.052238985896110535, 103,
  ],
  "clusters": [
    0.03333333333333333, 0.3333333333333333, 0.39444444444444443,
    0.5666666666666667, 0.03333333333333333, 0.3333333333333333,
    0.21666666666666667, 0.4166666666666667, 0.050047497625118745, 98,
  ],
}  # fmt: skip


@pytest.mark.parametrize("name", _BEFORE)
def test_clusters_of_one_member_are_as_ever(name):
  rng = np.random.default_rng(11)
  gain = rng.choice([-1.0, 0, 1], 60, p=[0.1, 0.5, 0.4])
  shares = rng.integers(0, 4, 60) / 3
  names = [f"c{index // 3}" for index in range(60)]
  several = [names, [(one,) for one in names], [(one, one) for one in names]]
  for clusters in [None] if name == "none" else several:
    intervals = (
      difference_interval(gain, 0 * gain, clusters),
      share_interval(shares, clusters),
      mean_interval(gain, clusters, seed=4),
      share_interval((gain > 0) * 1.0, clusters),
    )
    found = [end for one in intervals for end in (one.low, one.high)]
    found += [paired_p(gain, clusters), inputs_needed(gain, clusters)]
    assert found == pytest.approx(_BEFORE[name], rel=1e-12)
