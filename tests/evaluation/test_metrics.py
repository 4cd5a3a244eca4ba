from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.metrics import difference_interval, mean_interval


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
