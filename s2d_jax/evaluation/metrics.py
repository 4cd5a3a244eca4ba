"""Means with confidence intervals, by the bootstrap over examples."""

from __future__ import annotations

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


def mean_interval(values: Float[np.ndarray, " N"], seed: int = 0) -> Interval:
  """Mean of one value an example, with a percentile bootstrap interval.

  Whole examples are resampled (Efron 1979). N equal values give an interval of
  no width: what no example shows, no resample can.

  Args:
    values: one an example.
    seed: of the resampling; the same values give the same interval.
  """
  values = np.asarray(values, np.float64)
  rng = np.random.default_rng(seed)
  chosen = rng.integers(0, len(values), (_RESAMPLES, len(values)), np.int32)
  tail = (1 - _LEVEL) / 2
  low, high = np.quantile(values[chosen].mean(axis=1), [tail, 1 - tail])
  return Interval(float(values.mean()), float(low), float(high))


def difference_interval(
  after: Float[np.ndarray, " N"],
  before: Float[np.ndarray, " N"],
  seed: int = 0,
) -> Interval:
  """Mean of `after - before`, the two values of an example kept together."""
  return mean_interval(np.asarray(after) - np.asarray(before), seed)
