"""Does thinking pay here, and did the distilled model keep the gain?

A claim needs evidence: a paired test at the 5 % level, and enough examples that
it means something. Everything else is "unclear". The split to judge by is named
before anything is measured, so what is said of it needs no correction; the
changes of all splits are corrected for their number.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Literal

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Way, directly
from s2d_jax.evaluation.decomposition import Decomposition, decompose
from s2d_jax.evaluation.paired import Comparison, adjusted, compare, pooled
from s2d_jax.evaluation.results import (
  ALL,
  Groups,
  Score,
  by_group,
  methods_of,
)
from s2d_jax.evaluation.thinking import Thinking, thinking
from s2d_jax.records import Record

Conclusion = Literal[
  "kept",  # thinking pays, and the distilled model gained by it
  "not kept",  # thinking pays, and the distilled model stays below it
  "not the thinking",  # what System 2 gains, the vote or the form gains, too
  "not distillable",  # System 2 is no better than System 1, or worse
  "unclear",
]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a run shows on one split; None is what was not measured.

  "The method" is System 2, or System 1 itself where its own votes are taught.

  Attributes:
    split: a variant.
    is_system2: whether the method is another than System 1.
    thinking: System 2 against System 1 of the same budget, on test inputs.
    greedy: the same with one greedy reply; None where `thinking` is no vote.
    overall: as `thinking`, over all splits together; None where there is but
      one.
    vote: the method's vote against one sample of System 1, on validation
      inputs.
    single: one sample of the method against one of System 1, there.
    votes: the method's vote against System 1's vote, there: what thinking
      gains over sampling more.
    margins: means of the margins of these two votes; needs no label.
    margin_samples: samples of an input that the margins are taken over.
    on_test: the method's vote, or one sample where there is none, against a
      direct answer of System 1, on test inputs.
    distilled: the distilled model against System 1, on test inputs; both
      answer directly, and greedily.
    distilled_vote: the distilled model against the method's vote, there.
    distilled_greedy: the same against its greedy reply.
    distilled_single: the same against one sample.
    distilled_own_vote: the same against System 1's vote.
    distilled_shots: the same against System 1 behind the worked examples of
      System 2, greedily.
    distilled_shots_vote: the same against its vote.
    distilled_overall: as `distilled`, over all splits together.
    splits: as `distilled`, of each split, p-values adjusted for their number.
    decompositions: what became right and what wrong, of each split.
    agreement: how often the distilled model and System 1 before it gave the
      answer of the method's vote, there; needs no label.
  """

  split: str
  is_system2: bool
  thinking: Thinking | None = None
  greedy: Thinking | None = None
  overall: Thinking | None = None
  vote: Comparison | None = None
  single: Comparison | None = None
  votes: Comparison | None = None
  margins: Comparison | None = None
  margin_samples: int = 0
  on_test: Comparison | None = None
  distilled: Comparison | None = None
  distilled_vote: Comparison | None = None
  distilled_greedy: Comparison | None = None
  distilled_single: Comparison | None = None
  distilled_own_vote: Comparison | None = None
  distilled_shots: Comparison | None = None
  distilled_shots_vote: Comparison | None = None
  distilled_overall: Comparison | None = None
  splits: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)
  decompositions: Mapping[str, Decomposition] = dataclasses.field(
    default_factory=dict
  )
  agreement: Comparison | None = None

  @property
  def teacher_gain(self) -> Comparison | None:
    """The method against System 1; on test inputs if validation is unclear."""
    found = self.vote or self.single
    is_clear = found is not None and found.outcome != "unclear"
    return found if is_clear or self.on_test is None else self.on_test

  @property
  def conclusion(self) -> Conclusion | None:
    """Of the run; None without labels.

    Test inputs decide, against System 1 of the same budget; where there are
    none yet, or System 1 is its own teacher, the vote on validation inputs.
    """
    gain = self.thinking or self.teacher_gain
    if gain is None:
      return None
    if gain.outcome in ("no better", "worse"):
      return "not distillable"
    if gain.outcome in ("the vote", "the form"):
      return "not the thinking"
    if gain.outcome not in ("thinking pays", "better"):
      return "unclear"
    if self.has_gained:
      return "kept"
    kept = self.distilled_vote or self.distilled_single
    return "not kept" if kept and kept.outcome == "worse" else "unclear"

  @property
  def has_gained(self) -> bool:
    """Whether the distilled model beats what System 1 gives untrained.

    That is a direct answer, and one behind worked examples.
    """
    untrained = [one for one in (self.distilled, self.distilled_shots) if one]
    return bool(untrained) and all(o.outcome == "better" for o in untrained)


def verdict(
  valid: Sequence[Record],
  base: Sequence[Record],
  distilled: Sequence[Record],
  split: str,
  has_shots: bool = True,
) -> Verdict:
  """Compares on one split, as far as there are rows and labels.

  Args:
    valid: rows of eval/valid.jsonl, the base model before anything is learnt.
    base: rows of eval/base.jsonl.
    distilled: rows of eval/distilled.jsonl.
    split: the variant to judge by, for instance the one that leads astray.
    has_shots: whether System 2 has worked examples.
  """
  method = _method([*valid, *base])
  before, test, after = map(by_group, (valid, base, distilled))
  direct = directly(*map(methods_of, (test, after) if after else (test,)))
  splits = list(dict.fromkeys(form for _, form in test))
  together = pooled(test, ALL) if len(splits) > 1 else {}
  margins, margin_samples = _margins(before, method, split)
  is_system2 = method != SYSTEM1
  voted = str(Way(method, "vote"))
  paid = thinking(test, method, split, has_shots) if is_system2 else None

  def among(groups: Groups, name: str, other: str) -> Comparison | None:
    return compare(
      groups.get((name, split), {}), groups.get((other, split), {})
    )

  def student(other: str, form: str = split) -> Comparison | None:
    return compare(after.get((direct, form), {}), test.get((other, form), {}))

  return Verdict(
    split=split,
    is_system2=is_system2,
    thinking=paid,
    greedy=thinking(test, method, split, has_shots, ["greedy"])
    if paid and paid.reply == "vote"
    else None,
    overall=thinking(together, method, ALL, has_shots)
    if paid and together
    else None,
    vote=among(before, voted, SYSTEM1),
    single=among(before, method, SYSTEM1) if is_system2 else None,
    votes=among(before, voted, str(Way(SYSTEM1, "vote")))
    if is_system2
    else None,
    margins=margins,
    margin_samples=margin_samples,
    on_test=among(test, voted, direct)
    or (among(test, method, direct) if is_system2 else None),
    distilled=student(direct),
    distilled_vote=student(voted),
    distilled_greedy=student(str(Way(method, "greedy")))
    if is_system2
    else None,
    distilled_single=student(method) if is_system2 else None,
    distilled_own_vote=student(str(Way(SYSTEM1, "vote")))
    if is_system2
    else None,
    distilled_shots=student(str(Way(SHOTS, "greedy"))),
    distilled_shots_vote=student(str(Way(SHOTS, "vote"))),
    distilled_overall=compare(
      pooled(after, ALL).get((direct, ALL), {}),
      together.get((direct, ALL), {}),
    ),
    splits=adjusted(
      {form: found for form in splits if (found := student(direct, form))}
    ),
    decompositions=_decompositions(after, test, direct, splits),
    agreement=_agreement(
      after.get((direct, split), {}),
      test.get((direct, split), {}),
      test.get((voted, split), {}),
    ),
  )


def _decompositions(
  after: Groups, before: Groups, direct: str, splits: Sequence[str]
) -> dict[str, Decomposition]:
  found = {}
  for form in splits:
    replies = (groups.get((direct, form), {}) for groups in (after, before))
    samples = (before.get((name, form), {}) for name in (SYSTEM1, SHOTS))
    if part := decompose(*replies, *samples):
      found[form] = part
  return found


def _method(rows: Sequence[Record]) -> str:
  methods = (row["method"] for row in rows)
  return next((m for m in methods if m not in (SYSTEM1, SHOTS)), SYSTEM1)


def _margins(
  groups: Groups, method: str, split: str
) -> tuple[Comparison | None, int]:
  """Over the first samples, as many as every input has of both.

  An input whose vote is decided is sampled no further, so a margin over all of
  its samples would be biased: sampling stopped because of it.
  """
  first, second = (groups.get((m, split), {}) for m in (method, SYSTEM1))
  lengths = [len(s.answers) for g in (first, second) for s in g.values()]
  fewest = min(lengths, default=0)
  if fewest < 2 or method == SYSTEM1:
    return None, fewest

  def margin(name: str, score: Score) -> float:
    return _margin(score.answers[:fewest])

  return compare(first, second, margin), fewest


def _margin(answers: Sequence[str | None]) -> float:
  """Votes of the winner less those of the runner-up, over all samples."""
  counts = collections.Counter(a for a in answers if a is not None)
  (_, first), (_, second), *_ = [*counts.most_common(2), ("", 0), ("", 0)]
  return (first - second) / len(answers)


def _agreement(
  after: Mapping[str, Score],
  before: Mapping[str, Score],
  voted: Mapping[str, Score],
) -> Comparison | None:
  """With the vote, where there is one."""

  def agrees(name: str, score: Score) -> float | None:
    answer = voted[name].answers[0] if name in voted else None
    return None if answer is None else float(score.answers[0] == answer)

  return compare(after, before, agrees)
