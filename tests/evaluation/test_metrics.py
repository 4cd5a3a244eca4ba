from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.metrics import (
  difference_interval,
  holm,
  inputs_needed,
  mcnemar,
  mean_interval,
  paired_p,
  rate_interval,
  share_interval,
)


@pytest.mark.parametrize("p, n", [(0.4, 96), (0.15, 96), (0.5, 48)])
def test_covers_the_true_mean_as_often_as_it_says(p, n):
  rng = np.random.default_rng(7)
  trials = 400
  covered = 0
  for seed in range(trials):
    found = mean_interval(rng.binomial(1, p, n).astype(float), seed=seed)
    assert found.low <= found.value <= found.high
    covered += found.low <= p <= found.high
  assert 0.90 <= covered / trials <= 0.98


def test_agrees_with_scipy():
  values = np.random.default_rng(0).gamma(2.0, size=60)
  found = mean_interval(values)
  wanted = stats.bootstrap(
    (values,), np.mean, n_resamples=20000, method="percentile", rng=1
  ).confidence_interval
  assert found.value == values.mean()
  width = wanted.high - wanted.low
  np.testing.assert_allclose(
    [found.low, found.high], wanted, atol=0.05 * width, rtol=0
  )


def test_same_values_same_interval():
  values = np.arange(10.0)
  assert mean_interval(values) == mean_interval(values)
  assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_equal_values_have_no_width():
  found = mean_interval(np.ones(5))
  assert (found.low, found.value, found.high) == (1, 1, 1)


def test_differences_are_paired():
  """Apart, the two are far too uncertain to tell; in pairs they are not."""
  rng = np.random.default_rng(0)
  before = rng.normal(0, 10, 200)
  after = before + rng.normal(1, 0.5, 200)
  found = difference_interval(after, before)
  assert 0.8 < found.low < found.value < found.high < 1.2
  assert found.value == pytest.approx(after.mean() - before.mean())
  back = difference_interval(before, after)
  assert back.value == -found.value and back.high < 0


@pytest.mark.parametrize("right, n", [(0, 48), (8, 8), (1, 3), (65, 192)])
def test_a_rate_has_wilsons_interval(right, n):
  """By the formula of Wilson's paper, which scipy has, too."""
  values = np.repeat([1, 0], [right, n - right])
  found = rate_interval(values)
  wanted = stats.binomtest(right, n).proportion_ci(method="wilson")
  assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
  z, p = stats.norm.ppf(0.975), right / n
  center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
  half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
  assert (found.low, found.high) == pytest.approx(
    (center - half, center + half)
  )
  assert found == share_interval(values)


def test_none_of_48_may_be_seven_percent():
  found = share_interval(np.zeros(48))
  assert (found.value, found.low) == (0, 0)
  assert found.high == pytest.approx(0.0741, abs=1e-4)


def test_a_cluster_of_equal_values_counts_once():
  clusters = np.repeat(range(12), 4)
  found = share_interval(np.zeros(48), clusters)
  assert found == rate_interval(np.zeros(12))
  values = np.repeat([1, 0], [24, 24])
  alone, together = share_interval(values), share_interval(values, clusters)
  assert together.value == alone.value == 0.5
  # Four alike are as one: the interval is twice as wide.
  ratio = (together.high - together.low) / (alone.high - alone.low)
  assert 1.8 < ratio < 2.3


def test_the_bootstrap_by_clusters_by_hand():
  """Of two clusters of 1 and 3 values four resamples are equally likely."""
  found = mean_interval(np.array([1.0, 0, 0, 1]), ["a", "b", "b", "b"])
  # a a: 2 of 2; a b, b a: 2 of 4; b b: 2 of 6.
  assert (found.value, found.low, found.high) == (0.5, 2 / 6, 1)


def test_the_bootstrap_by_clusters_agrees_with_scipy():
  rng = np.random.default_rng(3)
  means = rng.normal(size=40)
  values = np.repeat(means, 5)  # of equal clusters, means are resampled
  found = mean_interval(values, np.repeat(range(40), 5))
  wanted = stats.bootstrap(
    (means,), np.mean, n_resamples=20000, method="percentile", rng=1
  ).confidence_interval
  atol = 0.05 * (wanted.high - wanted.low)
  np.testing.assert_allclose([found.low, found.high], wanted, atol=atol, rtol=0)


def test_what_was_not_seen_may_still_be():
  """By the rule of three: 0 of 30 leaves up to 9.5 %."""
  same = np.ones(30)
  found = difference_interval(same, same)
  unseen = 1 - 0.05 ** (1 / 30)
  assert (found.low, found.high) == pytest.approx((-unseen, unseen))
  found = difference_interval(same, 0 * same)
  assert (found.low, found.high) == pytest.approx((1 - 2 * unseen, 1))
  pairs = np.repeat(range(15), 2)
  assert difference_interval(same, same, pairs).high == pytest.approx(
    1 - 0.05 ** (1 / 15)
  )


@pytest.mark.parametrize("better, worse", [(6, 0), (5, 0), (3, 9), (20, 41)])
def test_mcnemar_is_the_exact_test_of_scipy(better, worse):
  wanted = stats.binomtest(better, better + worse).pvalue
  assert mcnemar(better, worse) == pytest.approx(wanted)
  differences = np.repeat([1, -1, 0], [better, worse, 30])
  assert paired_p(differences) == pytest.approx(wanted)
  # By hand: twice the tail of the binomial distribution.
  tail = stats.binom(better + worse, 0.5).cdf(min(better, worse))
  assert wanted == pytest.approx(2 * tail)


def test_nothing_differs():
  assert mcnemar(0, 0) == paired_p(np.zeros(30)) == 1
  assert inputs_needed(np.zeros(30)) is None


def test_signs_are_those_of_whole_clusters():
  """All of 2**4 signs: only two are as far from zero as 4 + 3 + 2 + 1."""
  sums = [4.0, 3, 2, 1]
  assert paired_p(np.array(sums)) == 2 / 16
  values = np.repeat([1.0] * 4, [4, 3, 2, 1])
  clusters = np.repeat(range(4), [4, 3, 2, 1])
  assert paired_p(values, clusters) == 2 / 16
  assert paired_p(values) == pytest.approx(2 / 2**10)


@pytest.mark.parametrize("n", [12, 30])
def test_signs_agree_with_scipys_permutation_test(n):
  values = np.random.default_rng(5).normal(0.4, 1, n)
  wanted = stats.permutation_test(
    (values,), np.sum, permutation_type="samples", n_resamples=20000, rng=0
  ).pvalue
  assert paired_p(values) == pytest.approx(wanted, abs=0.01)


def test_many_different_values_do_not_fill_memory():
  values = np.random.default_rng(0).normal(0.3, 1, 500)
  tracemalloc.start()
  assert paired_p(values) < 0.001
  assert tracemalloc.get_traced_memory()[1] < 150e6
  tracemalloc.stop()


def test_holm_by_hand():
  assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
  assert holm([0.6, 0.5]) == [1, 1]
  assert holm([]) == []


@pytest.mark.parametrize("size", [1, 4])
def test_as_many_inputs_as_needed_have_the_power(size):
  """Pairs of which 30 % gain and 10 % lose, alone or in fours alike."""
  population = np.repeat([1.0, -1, 0], [30, 10, 60])
  needed = inputs_needed(
    np.repeat(population, size), np.repeat(range(100), size)
  )
  units = -(-needed // size)
  # Connor's formula by hand.
  g, d = 0.2, 0.4
  wanted = (1.96 * np.sqrt(d) + 0.8416 * np.sqrt(d - g**2)) ** 2 / g**2
  assert units == pytest.approx(wanted, abs=1)
  rng = np.random.default_rng(0)
  clusters = np.repeat(range(units), size)
  seen = [
    paired_p(np.repeat(rng.choice(population, units), size), clusters) < 0.05
    for _ in range(400)
  ]
  assert 0.73 < np.mean(seen) < 0.87
