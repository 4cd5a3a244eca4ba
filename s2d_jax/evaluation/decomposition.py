"""What the fine-tune changed: which replies became right, and which wrong.

A model that was taught to name something gains without having learnt to think.
So gains are told apart by what stood there before, and by whether System 1 had
the right answer among its samples anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Literal

from s2d_jax.evaluation.results import Score

Wrong = Literal["nothing", "suggestion", "other"]
WRONG: tuple[Wrong, ...] = ("nothing", "suggestion", "other")


@dataclasses.dataclass(frozen=True)
class Decomposition:
  """Counts of examples; the distilled model against System 1 before.

  Attributes:
    n: examples.
    mended: became right, by what was named before: nothing, the suggestion of
      the prompt, another wrong answer.
    lost: became wrong, by what is named now.
    still_right: right before and after.
    still_wrong: wrong before and after, also where the answer is another.
    sampled: of the mended, those whose right answer is among the samples of
      System 1; None where it was not sampled.
    sampled_shots: the same behind worked examples.
  """

  n: int
  mended: Mapping[Wrong, int]
  lost: Mapping[Wrong, int]
  still_right: int
  still_wrong: int
  sampled: int | None
  sampled_shots: int | None


def decompose(
  after: Mapping[str, Score],
  before: Mapping[str, Score],
  samples: Mapping[str, Score],
  shots: Mapping[str, Score],
) -> Decomposition | None:
  """Compares one reply each of two models, by example.

  Args:
    after: scores of the distilled model.
    before: of System 1 before.
    samples: of System 1 before, several an example.
    shots: the same behind worked examples.

  Returns:
    None without an example that has a label and one reply of both models.
  """
  names = [
    name
    for name in after
    if all(_is_one_reply(scores.get(name)) for scores in (after, before))
  ]
  if not names:
    return None
  old, new = ([_wrong(s[name]) for name in names] for s in (before, after))
  moves = list(zip(old, new, strict=True))
  mended = [
    name
    for name, (was, now) in zip(names, moves, strict=True)
    if was is not None and now is None
  ]
  right = {name: after[name].answers[0] for name in mended}
  return Decomposition(
    n=len(names),
    mended={wrong: moves.count((wrong, None)) for wrong in WRONG},
    lost={wrong: moves.count((None, wrong)) for wrong in WRONG},
    still_right=moves.count((None, None)),
    still_wrong=sum(None not in move for move in moves),
    sampled=_occurring(right, samples),
    sampled_shots=_occurring(right, shots),
  )


def _is_one_reply(score: Score | None) -> bool:
  """Whether it is that of one reply, and there is a label."""
  has_label = score is not None and "accuracy" in score.metrics
  return has_label and len(score.answers) == 1


def _wrong(score: Score) -> Wrong | None:
  """How a reply is wrong; None if it is right."""
  if score.metrics["accuracy"] == 1:
    return None
  if score.answers[0] is None:
    return "nothing"
  repeats = score.metrics.get("repeats_suggestion") == 1
  return "suggestion" if repeats else "other"


def _occurring(
  right: Mapping[str, str | None], samples: Mapping[str, Score]
) -> int | None:
  if max((len(s.answers) for s in samples.values()), default=0) < 2:
    return None
  return sum(
    answer in _answers(samples.get(name)) for name, answer in right.items()
  )


def _answers(score: Score | None) -> Sequence[str | None]:
  return score.answers if score else ()
