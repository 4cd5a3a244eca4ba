"""Confidence intervals, tests of pairs, and how many inputs a test needs.

Examples of one cluster (four forms of a question, facts about a country) are
not independent, so clusters are what is resampled and what is tested. Clusters
that have members in common (pairs of countries) are in `members`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import math

from jaxtyping import Float
import numpy as np
import scipy  # its stats are loaded where they are used

from s2d_jax.evaluation.members import (
  Cluster,
  count_disjoint,
  have_several,
  mean_of_sharing,
  members_of,
)

_LEVEL = 0.95
_POWER = 0.8
_RESAMPLES = 2000
_FLIPS = 20_000
_FEW = 12  # clusters: all of their 2**12 signs are tried
_AT_ONCE = 2**22  # counts of a resampling that are held at once

Clusters = Sequence[Cluster] | None


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and its 95 % confidence interval."""

  value: float
  low: float
  high: float


def rate_interval(values: Float[np.ndarray, " N"]) -> Interval:
  """The share of ones, with Wilson's score interval (1927).

  It has width where none or all of the values are one: 0 of 48 gives 0 to
  7.4 %.

  Args:
    values: 0 or 1, independent of each other.
  """
  values = np.asarray(values)
  test = scipy.stats.binomtest(int(np.count_nonzero(values)), len(values))
  low, high = test.proportion_ci(_LEVEL, "wilson")
  return Interval(float(values.mean()), float(low), float(high))


def mean_interval(
  values: Float[np.ndarray, " N"], clusters: Clusters = None, seed: int = 0
) -> Interval:
  """Mean of one value an example, with a percentile bootstrap interval.

  Whole clusters are resampled (Efron 1979; Field and Welsh 2007). Equal values
  give an interval of no width: what no example shows, no resample can. Of
  clusters with several members it is the interval of `members.mean_of_sharing`.

  Args:
    values: one an example.
    clusters: of each example, a tuple where it has several members; None: each
      is its own.
    seed: of the resampling; the same values give the same interval.
  """
  values = np.asarray(values, np.float64)
  if have_several(clusters):
    mean = mean_of_sharing(values, clusters)
    reach = mean.reach(_LEVEL)
    return Interval(mean.value, mean.value - reach, mean.value + reach)
  sums, sizes = _by_cluster(values, clusters)
  # How often each kind of cluster is drawn is multinomial, and kinds are few.
  kinds, counts = np.unique([sums, sizes], axis=1, return_counts=True)
  rng = np.random.default_rng(seed)
  means = []
  for draws in _in_parts(_RESAMPLES, len(counts)):
    drawn = rng.multinomial(len(sums), counts / len(sums), draws)
    means.append(drawn @ kinds[0] / (drawn @ kinds[1]))
  tail = (1 - _LEVEL) / 2
  low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
  return Interval(float(values.mean()), float(low), float(high))


def share_interval(
  values: Float[np.ndarray, " N"], clusters: Clusters = None, seed: int = 0
) -> Interval:
  """Mean of shares: Wilson's interval for rates, else the bootstrap's.

  A rate is a mean of zeros and ones of examples that are independent. Where all
  values are alike, a resampling says nothing, whatever they are: see
  `difference_interval`.

  Args:
    values: 0 to 1, one an example.
    clusters: as for `mean_interval`.
    seed: as for `mean_interval`.
  """
  values = np.asarray(values, np.float64)
  units = _independent(values, clusters)
  if np.isin(values, (0, 1)).all():
    if units == len(values):
      return rate_interval(values)
    if np.ptp(values) == 0:  # a cluster counts once
      return rate_interval(values[:units])
  found = _with_unseen(mean_interval(values, clusters, seed), units, 0)
  return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def difference_interval(
  after: Float[np.ndarray, " N"],
  before: Float[np.ndarray, " N"],
  clusters: Clusters = None,
  seed: int = 0,
) -> Interval:
  """Mean of `after - before`, the two values of an example kept together.

  By the bootstrap over clusters. Where all of N clusters differ alike, or none
  does, up to 1 - 0.05**(1/N) of all others may differ in any way without having
  been seen (about 3/N, the rule of three: Hanley and Lippman-Hand 1983).

  Args:
    after: shares, one an example.
    before: shares of the same examples.
    clusters: as for `mean_interval`.
    seed: as for `mean_interval`.
  """
  gain = np.asarray(after, np.float64) - np.asarray(before, np.float64)
  units = _independent(gain, clusters)
  return _with_unseen(mean_interval(gain, clusters, seed), units, -1)


def _with_unseen(found: Interval, units: int, lowest: float) -> Interval:
  """An interval without width, widened by what may not have been seen."""
  if not math.isclose(found.low, found.high, abs_tol=1e-9):
    return found
  unseen = (1 - _LEVEL) ** (1 / units)
  low, high = ((1 - unseen) * end for end in (lowest, 1))
  value = found.value
  return Interval(value, unseen * value + low, unseen * value + high)


def mcnemar(better: int, worse: int) -> float:
  """Two-sided p-value of McNemar's exact test (1947).

  Args:
    better: pairs in which the first is right and the second wrong.
    worse: pairs in which it is the other way round.
  """
  changed = better + worse
  return (
    float(scipy.stats.binomtest(better, changed).pvalue) if changed else 1.0
  )


def paired_p(
  differences: Float[np.ndarray, " N"], clusters: Clusters = None
) -> float:
  """Two-sided p-value of a mean difference of pairs being zero.

  The signs of whole clusters are flipped (Fisher 1935). Where clusters differ
  by one amount, as pairs of zeros and ones do, this is McNemar's exact test. Of
  few clusters all signs are tried, otherwise 20,000 draws; the observed signs
  count as one more, so that the p-value is valid (Phipson and Smyth 2010). The
  signs of clusters that share members cannot be flipped one by one: theirs is
  the t-test of `members.mean_of_sharing`.

  Args:
    differences: of the two values of an example.
    clusters: as for `mean_interval`.
  """
  if have_several(clusters):
    return mean_of_sharing(differences, clusters).p
  sums, _ = _by_cluster(np.asarray(differences, np.float64), clusters)
  sums = sums[np.abs(sums) > 1e-9]
  sizes, counts = np.unique(np.abs(sums).round(9), return_counts=True)
  if len(sizes) < 2:
    return mcnemar(int(np.sum(sums > 0)), int(np.sum(sums < 0)))
  observed = abs(sums.sum()) - 1e-9
  if len(sums) <= _FEW:
    bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))
    return float(np.mean(np.abs((1 - 2 * (bits & 1)) @ sums) >= observed))
  rng = np.random.default_rng(0)
  as_far = 1
  for draws in _in_parts(_FLIPS, len(sizes)):
    up = rng.binomial(counts, 0.5, (draws, len(sizes)))
    as_far += np.count_nonzero(np.abs((2 * up - counts) @ sizes) >= observed)
  return as_far / (_FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
  """P-values adjusted for their number (Holm 1979)."""
  adjusted = [0.0] * len(p_values)
  highest = 0.0
  order = sorted(range(len(p_values)), key=lambda index: p_values[index])
  for rank, index in enumerate(order):
    highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
    adjusted[index] = highest
  return adjusted


def inputs_needed(
  differences: Float[np.ndarray, " N"], clusters: Clusters = None
) -> int | None:
  """Examples with which a difference of this size would likely be seen.

  At the 5 % level with 80 % power, by Connor (Biometrics 43, 1987) for
  McNemar's test: (z₁ √d + z₂ √(d − g²))² / g² pairs, where g is the mean
  difference and d the mean of its squares, which is the share of pairs that
  differ if the values are zeros and ones. Of clusters that differ in size,
  clusters of the mean size are counted. Where they share members, the variances
  are those of `members.mean_of_sharing`, and more examples have as many more
  members.

  Args:
    differences: of the two values of an example, as they were found.
    clusters: as for `mean_interval`.

  Returns:
    None where the mean difference is zero.
  """
  if have_several(clusters):
    mean = mean_of_sharing(differences, clusters)
    per_unit, gain = len(differences) / mean.disjoint, mean.value
    variance = mean.disjoint * mean.error**2
    squares = variance + gain**2
  else:
    sums, sizes = _by_cluster(np.asarray(differences, np.float64), clusters)
    per_unit, gain = sizes.mean(), sums.mean()
    squares, variance = np.mean(sums**2), np.var(sums)
  if abs(gain) < 1e-9:
    return None
  first, second = scipy.stats.norm.ppf([(1 + _LEVEL) / 2, _POWER])
  spread = first * np.sqrt(squares) + second * np.sqrt(variance)
  return math.ceil(per_unit * (spread / gain) ** 2)


def _in_parts(draws: int, kinds: int) -> Iterator[int]:
  """How many to draw at once, so that the counts of all kinds fit memory."""
  at_once = max(1, _AT_ONCE // kinds)
  for start in range(0, draws, at_once):
    yield min(at_once, draws - start)


def _independent(values: Float[np.ndarray, " N"], clusters: Clusters) -> int:
  """Clusters, at most so many of them as have no member in common."""
  if have_several(clusters):
    return count_disjoint(clusters)
  return len(_by_cluster(values, clusters)[0])


def _by_cluster(
  values: Float[np.ndarray, " N"], clusters: Clusters
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
  """Sums of the values of each cluster, and how many they are."""
  if clusters is None:
    return values, np.ones(len(values))
  names = [members_of(cluster)[0] for cluster in clusters]  # none has another
  _, at = np.unique(names, return_inverse=True)
  return np.bincount(at, values), np.bincount(at).astype(np.float64)
