"""How short a thought may become, judged by System 2's vote and no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from s2d_jax.evaluation.controls import directly
from s2d_jax.evaluation.members import mean_of_sharing
from s2d_jax.evaluation.paired import Comparison, compare, pooled
from s2d_jax.evaluation.results import (
  ALL,
  Score,
  by_group,
  methods_of,
  votes_of,
)
from s2d_jax.records import Record

AGREEMENT = "agreement"

# Whether a run says what System 2's vote says, by input.
Agreement = Mapping[str, Score]


def agreement(
  student: Sequence[Record], thought: Sequence[Record], method: str
) -> Agreement:
  """Of a distilled model's greedy answers; inputs without a vote are left out.

  The forms of an example are one cluster. A reply without an answer says
  something else.

  Args:
    student: rows of eval/distilled-valid.jsonl.
    thought: rows of eval/valid.jsonl.
    method: System 2.
  """
  direct = pooled(by_group(student), ALL)
  own = direct.get((directly(methods_of(direct)), ALL), {})
  votes = votes_of(pooled(by_group(thought), ALL), method, ALL)
  return {
    name: dataclasses.replace(score, metrics={AGREEMENT: float(same)})
    for name, score in own.items()
    if name in votes and (answer := votes[name].answers[0]) is not None
    for same in [score.answers[0] == answer]
  }


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which stage to use.

  Attributes:
    shares: agreement of each stage.
    best: the stage with most; the later one of two.
    use: the last stage that is within a standard error of it.
    over_best: `use` against `best`.
    over_direct: `use` against the control; None where that is not finished.
    is_direct_as_good: whether the control is within a standard error of `use`,
      or better; None likewise.
  """

  shares: tuple[float, ...]
  best: int
  use: int
  over_best: Comparison
  over_direct: Comparison | None
  is_direct_as_good: bool | None

  @property
  def buys_nothing(self) -> bool:
    """Whether the control is as good, and `use` not better by ten points."""
    over = self.over_direct
    is_certain = over is not None and over.outcome in ("no better", "worse")
    return is_certain and bool(self.is_direct_as_good)


def choose(
  stages: Sequence[Agreement], direct: Agreement | None
) -> Choice | None:
  """The shortest thought that is as good as the best, by agreement.

  Args:
    stages: from whole thoughts to none.
    direct: of the control; None where it is not finished.

  Returns:
    None without any vote to agree with.
  """
  if not all(stages):
    return None
  shares = tuple(
    float(np.mean([score.metrics[AGREEMENT] for score in one.values()]))
    for one in stages
  )
  best = max(range(len(stages)), key=lambda stage: (shares[stage], stage))
  use = max(
    stage for stage, one in enumerate(stages) if _is_as_good(one, stages[best])
  )
  return Choice(
    shares,
    best,
    use,
    _compare(stages[use], stages[best]),
    _compare(stages[use], direct) if direct else None,
    _is_as_good(direct, stages[use]) if direct else None,
  )


def _is_as_good(one: Agreement, other: Agreement) -> bool:
  """Whether it is at most a standard error of the difference below."""
  names = [name for name in one if name in other]
  lost = [
    other[name].metrics[AGREEMENT] - one[name].metrics[AGREEMENT]
    for name in names
  ]
  found = mean_of_sharing(np.array(lost), [one[name].cluster for name in names])
  return found.value <= found.error


def _compare(one: Agreement, other: Agreement) -> Comparison | None:
  return compare(one, other, lambda _, score: score.metrics[AGREEMENT])
