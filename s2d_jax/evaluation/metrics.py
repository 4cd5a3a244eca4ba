"""Means with confidence intervals, by the bootstrap over examples."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float
import numpy as np

_LEVEL = 0.95
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and its 95 % confidence interval."""

  value: float
  low: float
  high: float


def mean_interval(
  values: Float[np.ndarray, " N"],
  clusters: Sequence[str] | None = None,
  seed: int = 0,
) -> Interval:
  """Mean of one value an example, with a percentile bootstrap interval.

  Whole clusters are resampled (Efron 1979). N equal values give an interval of
  no width: what no example shows, no resample can.

  Args:
    values: one an example.
    clusters: of each example; None: each is its own.
    seed: of the resampling; the same values give the same interval.
  """
  values = np.asarray(values, np.float64)
  sums, sizes = values, np.ones(len(values))
  if clusters is not None:
    _, at = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(at, values), np.bincount(at)
  rng = np.random.default_rng(seed)
  chosen = rng.integers(0, len(sums), (_RESAMPLES, len(sums)), np.int32)
  means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
  tail = (1 - _LEVEL) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(float(values.mean()), float(low), float(high))


def difference_interval(
  after: Float[np.ndarray, " N"],
  before: Float[np.ndarray, " N"],
  seed: int = 0,
) -> Interval:
  """Mean of `after - before`, the two values of an example kept together."""
  return mean_interval(np.asarray(after) - np.asarray(before), seed=seed)
