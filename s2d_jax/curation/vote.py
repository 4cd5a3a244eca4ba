"""The vote of several samples of one input."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Vote:
  """What the samples agree on.

  Attributes:
    counts: votes of each answer, most votes first, then by answer.
    samples: how many, those without an answer too.
    winner: the answer with the most votes; None if there are no votes or the
      first place is shared.
    margin: votes of the winner less those of the runner-up, over `samples`;
      0 without a winner.
  """

  counts: Mapping[str, int]
  samples: int
  winner: str | None
  margin: float


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """How clear a vote must be.

  Attributes:
    min_votes: fewest votes of the winner in a full vote.
    min_margin: least margin, as a share of the samples.
  """

  min_votes: float = 0
  min_margin: float = 0.0

  def accept(self, first: int, second: int, samples: int, total: int) -> bool:
    """Whether `first` votes against a runner-up's `second` are enough.

    Args:
      first: votes of the winner.
      second: of the runner-up.
      samples: drawn, those without an answer too.
      total: samples of a full vote. Those that were not drawn count as if they
        were split like the others.
    """
    return (
      first > second
      and self.has_votes(first, samples, total)
      and (first - second) / samples >= self.min_margin
    )

  def has_votes(self, first: int, samples: int, total: int) -> bool:
    """Whether the winner has `min_votes`, by the arguments of `accept`."""
    return first * total >= self.min_votes * samples


def vote(answers: Sequence[str | None]) -> Vote:
  """Counts the answers; None is a sample without one, and no vote."""
  counted = collections.Counter(a for a in answers if a is not None)
  counts = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
  first, second, *_ = [*counts.values(), 0, 0]
  if first == second:  # 0 = 0 if there are no votes
    return Vote(counts, len(answers), None, 0.0)
  margin = (first - second) / len(answers)
  return Vote(counts, len(answers), next(iter(counts)), margin)
