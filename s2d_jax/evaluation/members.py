"""Means of examples that depend on each other through what they share.

A cluster of examples may have several members. Pairs of countries are right or
wrong together if they share a country, first or second; resampling whole
clusters would take pairs with another first country for independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
import dataclasses
import math

from jaxtyping import Float
import numpy as np
import scipy  # its stats are loaded where they are used

Cluster = Hashable  # a tuple: its members
_ROUNDING = 1e-9  # what is smaller is an error of floats


def members_of(cluster: Cluster) -> tuple[Hashable, ...]:
  """What its examples share with others: the cluster itself, or its members."""
  return cluster if isinstance(cluster, tuple) else (cluster,)


def have_several(clusters: Sequence[Cluster] | None) -> bool:
  """Whether any cluster has several members."""
  if clusters is None:
    return False
  return any(len(_unordered(cluster)) > 1 for cluster in clusters)


def count_units(clusters: Sequence[Cluster]) -> int:
  """Clusters that differ, or their members where these are fewer."""
  members = {name for cluster in clusters for name in members_of(cluster)}
  return min(len(members), len({*map(_unordered, clusters)}))


def count_disjoint(clusters: Sequence[Cluster]) -> int:
  """At most so many clusters have no member in common."""
  different = {*map(_unordered, clusters)}
  members = frozenset().union(*different)
  return max(1, len(members) // max(map(len, different)))


@dataclasses.dataclass(frozen=True)
class Mean:
  """A mean, and how uncertain it is.

  Attributes:
    value: the mean.
    error: its standard error.
    disjoint: at most so many clusters have no member in common.
  """

  value: float
  error: float
  disjoint: int

  def reach(self, level: float) -> float:
    """Half the width of the confidence interval of Student's t."""
    return self.error * float(scipy.stats.t.ppf((1 + level) / 2, self._degrees))

  @property
  def p(self) -> float:
    """Two-sided p-value of the mean being zero.

    Where all clusters differ alike, that of the sign test of those that have no
    member in common.
    """
    if self.error > _ROUNDING:
      tail = scipy.stats.t.sf(abs(self.value) / self.error, self._degrees)
    else:
      tail = 0.5**self.disjoint if abs(self.value) > _ROUNDING else 0.5
    return 2 * float(tail)

  @property
  def _degrees(self) -> int:
    return max(1, self.disjoint - 1)


def mean_of_sharing(
  values: Float[np.ndarray, " N"], clusters: Sequence[Cluster]
) -> Mean:
  """Mean of examples that are independent unless they share a member.

  Its variance is robust to any dependence by shared members (Fafchamps and
  Gubert 2007; Aronow, Samii and Assenova 2015), with residuals as large as if
  each member had been left out, as in the jackknife. Two things keep intervals
  from being too narrow where members are few: it is never below the variance of
  independent clusters, and t has one degree of freedom less than clusters
  without a common member can be. Resampling members and multiplying how often
  they were drawn (Owen 2007) would count the noise of a pair three times.

  Args:
    values: one an example.
    clusters: of each example.
  """
  n, value = len(values), float(np.mean(values))
  residuals: dict[frozenset[Hashable], float] = {}
  sizes: dict[Hashable, int] = {}
  for one, cluster in zip(values, clusters, strict=True):
    names = _unordered(cluster)
    residuals[names] = residuals.get(names, 0.0) + float(one) - value
    for name in names:
      sizes[name] = sizes.get(name, 0) + 1
  by_member = dict.fromkeys(sizes, 0.0)
  for names, residual in residuals.items():
    for name in names:
      by_member[name] += residual
  shared = sum(
    (residual * n / max(1, n - sizes[name])) ** 2
    for name, residual in by_member.items()
  )
  alone = sum(residual**2 for residual in residuals.values())
  # The sums of members have a cluster as often as it has members.
  again = sum((len(names) - 1) * r**2 for names, r in residuals.items())
  variance = max(shared - again, alone)
  return Mean(value, math.sqrt(variance) / n, count_disjoint(clusters))


def _unordered(cluster: Cluster) -> frozenset[Hashable]:
  return frozenset(members_of(cluster))
