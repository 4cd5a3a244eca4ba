"""What other thresholds would have kept, and how much of that is right."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import dataclasses
import math

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


def threshold_curve(
  records: Sequence[Record],
  min_agreement: float,
  is_right: Callable[[Record], bool] | None = None,
) -> list[Point]:
  """A point for each margin that occurs, from the lowest to the highest.

  Args:
    records: distill records, accepted and rejected together.
    min_agreement: as in curation; records below it count as not kept, and so
      do those with too few votes.
    is_right: whether the winner of a record is right. Labels are for looking
      back only: nothing is kept by them.
  """
  agreed = _agreed(records, min_agreement)
  points = []
  for margin in sorted({record["margin"] for record in agreed}):
    kept = [record for record in agreed if record["margin"] >= margin]
    right = None if is_right is None else sum(map(is_right, kept)) / len(kept)
    points.append(Point(margin, len(kept), len(kept) / len(records), right))
  return points


def explain_empty(records: Sequence[Record], min_agreement: float) -> str:
  """Why nothing was kept, in one sentence: what lower thresholds would keep."""
  voted = _agreed(records, 0.0)
  if not voted:
    reasons = collections.Counter(record["reason"] for record in records)
    counts = ", ".join(
      f"{count} {_WHY.get(reason, reason)}" for reason, count in reasons.items()
    )
    return (
      f"of {len(records)} inputs {counts}; look at samples/, or draw more"
      " samples"
    )
  curve, condition = threshold_curve(records, min_agreement), ""
  if not curve:
    best = _floor(max(record["agreement"] for record in voted))
    curve = threshold_curve(records, best)
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


def _agreed(records: Sequence[Record], min_agreement: float) -> list[Record]:
  return [
    record
    for record in records
    if record["winner"] is not None
    and record["margin"] is not None  # there was a vote
    and record.get("reason") not in ("votes", REASON)  # whatever the margin
    and record["agreement"] >= min_agreement
  ]
