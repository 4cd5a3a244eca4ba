"""The curve of a confidence, and the figures that describe it."""

import itertools

import numpy as np
import pytest

from s2d_jax.gate.curve import Curve, auroc, calibration_error, trade_off


def test_a_curve_by_hand():
  """Of four inputs two are equally sure: they are thought about alike."""
  curve = trade_off(
    np.array([-1.0, -3.0, -2.0, -2.0]),
    fast=np.array([1, 0, 0, 1]),
    slow=np.array([1, 1, 1, 0]),
    fast_tokens=np.array([2, 2, 4, 2]),
    slow_tokens=np.array([20, 40, 10, 30]),
  )
  assert curve.tokens == (10 / 4, 50 / 4, 90 / 4, 110 / 4)
  assert curve.accuracy == (2 / 4, 3 / 4, 3 / 4, 3 / 4)
  # Two trapezes over 25 tokens: 10 * .625 and 15 * .75, less the chord's .625.
  assert curve.area == pytest.approx((10 * 0.625 + 15 * 0.75) / 25 - 0.625)
  assert curve.at_random(15.0) == pytest.approx(0.625)
  assert curve.reaching(0.7) == 12.5 and curve.reaching(0.8) is None


def test_thinking_at_random_has_no_area():
  rng = np.random.default_rng(0)
  n = 40_000
  slow = rng.random(n) < 0.8
  fast = rng.random(n) < 0.5
  cost = np.full(n, 40.0)
  found = trade_off(rng.random(n), fast, slow, np.ones(n), cost)
  assert abs(found.area) < 0.01
  knows = trade_off(fast + 0.5 * rng.random(n), fast, slow, np.ones(n), cost)
  # All that is wrong comes first: .5 + .5 * .8 at half the price.
  assert knows.reaching(0.89) == pytest.approx(21, abs=1)
  assert Curve((2.0, 2.0), (0.5, 0.5)).area == 0


def test_calibration_error_is_that_of_bins_of_as_many_inputs():
  probabilities = np.repeat(np.linspace(0.05, 0.95, 10), 100)
  happened = np.concatenate(
    [np.arange(100) < 100 * p for p in np.linspace(0.05, 0.95, 10)]
  )
  assert calibration_error(probabilities, happened) == pytest.approx(0)
  assert calibration_error(probabilities / 2, happened) == pytest.approx(
    np.mean(probabilities) / 2
  )
  # One probability for all: it is their mean that counts, in any order.
  mixed = np.random.default_rng(0).permutation(happened)
  assert calibration_error(np.full(1000, 0.8), mixed) == pytest.approx(
    0.8 - happened.mean()
  )


def _by_pairs(confidences, happened):
  """The definition: pairs in order, and half of those that are tied."""
  ups, downs = confidences[happened], confidences[~happened]
  won = [np.sign(a - b) / 2 + 0.5 for a, b in itertools.product(ups, downs)]
  return np.mean(won)


@pytest.mark.parametrize("levels", [3, 1000])
def test_auroc_is_the_share_of_pairs_in_order(levels):
  rng = np.random.default_rng(levels)
  happened = rng.random(80) < 0.3
  confidences = rng.integers(levels, size=80) + 0.3 * levels * happened // 1
  found = auroc(confidences, happened, range(80))
  assert found.value == pytest.approx(_by_pairs(confidences, happened))
  assert auroc(confidences, happened | True, range(80)) is None


def test_its_interval_holds_chance_as_often_as_it_says():
  rng = np.random.default_rng(1)
  for copies in (1, 4):  # of each input: a cluster is one input
    held = 0
    for _ in range(150):
      confidences, happened = rng.random(60), rng.random(60) < 0.4
      found = auroc(
        np.repeat(confidences, copies),
        np.repeat(happened, copies),
        np.repeat(np.arange(60), copies).tolist(),
      )
      held += found.low <= 0.5 <= found.high
    assert 0.9 < held / 150 < 0.99
