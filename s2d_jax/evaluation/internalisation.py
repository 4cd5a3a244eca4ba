"""How short a thought may become, judged by System 2's vote and no label."""

from __future__ import annotations

import collections
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

# How far a run says what System 2's vote says, by input; the mean is kappa.
Agreement = Mapping[str, Score]


def agreement(
  student: Sequence[Record], thought: Sequence[Record], method: str
) -> Agreement:
  """Of a distilled model's greedy answers; inputs without a vote are left out.

  Beyond chance (Cohen 1960): of two answers a model that always gives the more
  frequent one agrees with half of the votes and more, and knows nothing. The
  mean over the inputs is kappa, 1 for the same answers and 0 for as many equal
  ones as the shares of the answers lead to by chance.

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
  pairs = {
    name: (score.answers[0], votes[name].answers[0])
    for name, score in own.items()
    if name in votes and votes[name].answers[0] is not None
  }
  chance = _by_chance([*pairs.values()])
  return {
    name: dataclasses.replace(
      own[name], metrics={AGREEMENT: _beyond(float(said == voted), chance)}
    )
    for name, (said, voted) in pairs.items()
  }


def _by_chance(pairs: Sequence[tuple[str | None, str | None]]) -> float:
  """Of how many inputs two answers would be equal if they were unrelated."""
  said = collections.Counter(pair[0] for pair in pairs)
  voted = collections.Counter(pair[1] for pair in pairs)
  return sum(said[one] * voted[one] for one in voted) / max(len(pairs), 1) ** 2


def _beyond(agreement: float, chance: float) -> float:
  """All of one answer, on both sides, is no agreement beyond chance."""
  return (agreement - chance) / (1 - chance) if chance < 1 else 0.0


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which stage to use.

  Attributes:
    kappas: agreement of each stage with System 2's vote, beyond chance.
    best: the stage with most; the later one of two.
    use: the last stage that is within a standard error of it.
    over_best: `use` against `best`.
    over_direct: `use` against the control; None where that is not finished.
    is_direct_as_good: whether the control is within a standard error of `use`,
      or better; None likewise.
  """

  kappas: tuple[float, ...]
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
  kappas = tuple(
    float(np.mean([score.metrics[AGREEMENT] for score in one.values()]))
    for one in stages
  )
  best = max(range(len(stages)), key=lambda stage: (kappas[stage], stage))
  use = max(
    stage for stage, one in enumerate(stages) if _is_as_good(one, stages[best])
  )
  return Choice(
    kappas,
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
