"""What other thresholds would have kept, and how much of that is right."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import NamedTuple

from s2d_jax.curation.long_rows import REASON
from s2d_jax.records import Record

_MOST_LISTED = 4  # thresholds in a sentence
_WHY = {
  "tie": "ended in a tie",
  "unparsable": "had no answer that could be parsed",
  "given up": "were given up, as their other variants disagreed",
  REASON: "were too long",
  "no choice": "had no reply that the model chose",
  "votes": "had fewer votes than curation.min_votes",
}


class Outcome(NamedTuple):
  """What figures tell of a record of distill/: many records have the same.

  Attributes:
    variant: that the input was asked in.
    reason: why it was rejected; None: it is kept.
    has_winner: whether an answer was found.
    margin: of the vote; None where there was none.
    agreement: of the variants.
    is_right: whether the winner is right; None where that is not known. Labels
      are for looking back only: nothing is kept by them.
  """

  variant: str
  reason: str | None
  has_winner: bool
  margin: float | None
  agreement: float
  is_right: bool | None

  @classmethod
  def of(cls, record: Record, is_right: bool | None = None) -> Outcome:
    return cls(
      record["variant"],
      record.get("reason"),
      record["winner"] is not None,
      record["margin"],
      record["agreement"],
      is_right,
    )


Counts = Mapping[Outcome, int]  # how many inputs had each


@dataclasses.dataclass(frozen=True)
class Point:
  """What curation keeps with `min_margin=margin`.

  Attributes:
    margin: the threshold.
    kept: inputs kept.
    share: of all inputs that were sampled.
    precision: share of the kept ones whose winner is right; None where that is
      not known.
  """

  margin: float
  kept: int
  share: float
  precision: float | None


def threshold_curve(counts: Counts, min_agreement: float) -> list[Point]:
  """A point for each margin that occurs, from the lowest to the highest.

  Args:
    counts: of the inputs, accepted and rejected together.
    min_agreement: as in curation; what is below counts as not kept, and so do
      those with too few votes.
  """
  agreed, total = _agreed(counts, min_agreement), sum(counts.values())
  points = []
  for margin in sorted({outcome.margin for outcome in agreed}):
    kept = {one: agreed[one] for one in agreed if one.margin >= margin}
    size = sum(kept.values())
    is_known = all(one.is_right is not None for one in kept)
    right = sum(kept[one] for one in kept if one.is_right)
    points.append(
      Point(margin, size, size / total, right / size if is_known else None)
    )
  return points


def explain_empty(records: Sequence[Record], min_agreement: float) -> str:
  """Why nothing was kept, in one sentence: what lower thresholds would keep."""
  counts = collections.Counter(map(Outcome.of, records))
  voted = _agreed(counts, 0.0)
  if not voted:
    reasons = collections.Counter(record["reason"] for record in records)
    counts = ", ".join(
      f"{count} {_WHY.get(reason, reason)}" for reason, count in reasons.items()
    )
    return (
      f"of {len(records)} inputs {counts}; look at samples/, or draw more"
      " samples"
    )
  curve, condition = threshold_curve(counts, min_agreement), ""
  if not curve:
    best = _floor(max(outcome.agreement for outcome in voted))
    curve = threshold_curve(counts, best)
    condition = f" with curation.min_agreement={best:g}"
  points = curve[::-1][:_MOST_LISTED]  # the highest, and the lowest of all
  points += [curve[0]] if curve[0] not in points else []
  kept = ", ".join(f"{p.kept} at {_floor(p.margin):g}" for p in points)
  return (
    f"of {len(records)} inputs curation.min_margin would have kept {kept}"
    f"{condition}"
  )


def _floor(share: float) -> float:
  """Three decimals that, used as a threshold, keep what `share` keeps."""
  return math.floor(share * 1000) / 1000


def _agreed(counts: Counts, min_agreement: float) -> Counts:
  """Those that a lower margin could keep."""
  return {
    outcome: count
    for outcome, count in counts.items()
    if outcome.has_winner
    and outcome.margin is not None  # there was a vote
    and outcome.reason not in ("votes", REASON)  # whatever the margin
    and outcome.agreement >= min_agreement
  }
