"""Two methods or models on the same examples, and what can be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Literal, TypeVar

import numpy as np

from s2d_jax.evaluation.members import count_units, have_several
from s2d_jax.evaluation.metrics import (
  Interval,
  difference_interval,
  holm,
  inputs_needed,
  paired_p,
)
from s2d_jax.evaluation.results import Groups, Score

Outcome = Literal["better", "no better", "worse", "unclear"]

FEWEST = 20  # independent examples; with fewer nothing is claimed
_SIGNIFICANT = 0.05
SLIGHT = 0.1  # a gain below this is not worth the thinking
# Where nothing differs in N examples, 3 / N of all may (the rule of three).
_FEWEST_ALIKE = round(3 / SLIGHT)

_Name = TypeVar("_Name")


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One method or model against another, on the examples of both.

  Attributes:
    first: its mean.
    second: mean of the one it is compared with.
    gain: first less second, paired by example.
    n: examples.
    units: clusters of examples, or the members that these share.
    shares_members: whether clusters have several members.
    changed: examples in which the two differ.
    p: two-sided p-value of the gain.
    needed: examples with which a gain of this size would likely be seen; None
      where there is none.
  """

  first: float
  second: float
  gain: Interval
  n: int
  units: int
  shares_members: bool
  changed: int
  p: float
  needed: int | None

  @property
  def outcome(self) -> Outcome:
    """What can be said of `first`; "no better": by less than ten points.

    Examples of one cluster are as good as one: clusters must be many enough.
    """
    if not self.is_too_small and self.p < _SIGNIFICANT:
      if self.gain.low > 0:
        return "better"
      if self.gain.high < 0:
        return "worse"
    if self.units >= _FEWEST_ALIKE and self.gain.high < SLIGHT:
      return "no better"
    return "unclear"

  @property
  def members_needed(self) -> int | None:
    """Members that as many examples as are needed have; None: not shared."""
    if not self.shares_members or self.needed is None:
      return None
    return math.ceil(self.units * self.needed / self.n)

  @property
  def is_too_small(self) -> bool:
    """Whether nothing is claimed, whatever was found."""
    return self.units < FEWEST

  @property
  def is_level(self) -> bool:
    """Whether `first` is not worse by as much as ten points, nor clearly."""
    is_worse = self.outcome == "worse"
    return (
      self.units >= _FEWEST_ALIKE and self.gain.low > -SLIGHT and not is_worse
    )


def _accuracy(name: str, score: Score) -> float | None:
  return score.metrics.get("accuracy")


def compare(
  first: Mapping[str, Score],
  second: Mapping[str, Score],
  value: Callable[[str, Score], float | None] = _accuracy,
) -> Comparison | None:
  """Compares two methods or models on the examples of both.

  Args:
    first: scores by example.
    second: scores by example, of what it is compared with.
    value: of an example and its score; None leaves the example out.

  Returns:
    None where nothing is left.
  """
  known, clusters = [], []
  for name in first:
    if name not in second:
      continue
    pair = value(name, first[name]), value(name, second[name])
    if None not in pair:
      known.append(pair)
      clusters.append(first[name].cluster)
  if not known:
    return None
  new, old = np.array(known, np.float64).T
  units = count_units(clusters)
  fewest = math.ceil(FEWEST * len(known) / units)
  needed = inputs_needed(new - old, clusters)
  return Comparison(
    first=float(new.mean()),
    second=float(old.mean()),
    gain=difference_interval(new, old, clusters),
    n=len(known),
    units=units,
    shares_members=have_several(clusters),
    changed=int(np.count_nonzero(new != old)),
    p=paired_p(new - old, clusters),
    needed=needed and max(fewest, needed),
  )


def adjusted(
  found: Mapping[_Name, Comparison],
) -> dict[_Name, Comparison]:
  """The same comparisons, their p-values adjusted for their number."""
  values = holm([one.p for one in found.values()])
  return {
    name: dataclasses.replace(one, p=p)
    for (name, one), p in zip(found.items(), values, strict=True)
  }


def pooled(groups: Groups, split: str) -> dict[tuple[str, str], dict]:
  """The scores of all splits as those of one, called `split`.

  The forms of an example are no independent examples: they are one cluster.
  """
  found: dict[tuple[str, str], dict[str, Score]] = {}
  for (method, form), scores in groups.items():
    group = found.setdefault((method, split), {})
    group |= {f"{name}/{form}": score for name, score in scores.items()}
  return found
