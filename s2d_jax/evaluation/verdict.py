"""Does thinking pay here, and did the distilled model keep the gain?

A claim needs evidence: the 95 % interval of a paired difference, and enough
examples that an interval means something. Everything else is "unclear".
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Literal

import numpy as np

from s2d_jax.evaluation.metrics import Interval, difference_interval
from s2d_jax.evaluation.results import SYSTEM1, Groups, Score, by_group
from s2d_jax.records import Record

Outcome = Literal["better", "no better", "worse", "unclear"]
Conclusion = Literal["kept", "not kept", "not distillable", "unclear"]

_FEWEST = 20  # examples; with fewer nothing is claimed
# In the exact sign test, six differences of one sign are the fewest that are
# significant at 5 %: 2 / 2**6 < 0.05. The bootstrap would believe fewer.
_FEWEST_CHANGED = 6
_SLIGHT = 0.1  # a gain below this is not worth the thinking
# Where nothing differs in N examples, 3 / N of all may (the rule of three).
_FEWEST_ALIKE = round(3 / _SLIGHT)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One method or model against another, on the examples of both.

  Attributes:
    first: its mean.
    second: mean of the one it is compared with.
    gain: first less second, paired by example.
    n: examples.
    changed: examples in which the two differ.
  """

  first: float
  second: float
  gain: Interval
  n: int
  changed: int

  @property
  def outcome(self) -> Outcome:
    """What can be said of `first`; "no better": by less than ten points."""
    if self.n >= _FEWEST and self.changed >= _FEWEST_CHANGED:
      if self.gain.low > 0:
        return "better"
      if self.gain.high < 0:
        return "worse"
    if self.n >= _FEWEST_ALIKE and self.gain.high < _SLIGHT:
      return "no better"
    return "unclear"

  @property
  def is_level(self) -> bool:
    """Whether `first` is not worse by as much as ten points, nor clearly."""
    is_worse = self.outcome == "worse"
    return self.n >= _FEWEST_ALIKE and self.gain.low > -_SLIGHT and not is_worse


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a run shows on one split; None is what was not measured.

  "The method" is System 2, or System 1 itself where its own votes are taught.

  Attributes:
    split: a variant.
    is_system2: whether the method is another than System 1.
    vote: the method's vote against one sample of System 1, on validation
      inputs.
    single: one sample of the method against one of System 1, there.
    votes: the method's vote against System 1's vote, there: what thinking
      gains over sampling more.
    margins: means of the margins of these two votes; needs no label.
    margin_samples: samples of an input that the margins are taken over.
    on_test: as `vote`, or as `single` where there is none, on test inputs.
    distilled: the distilled model against System 1, on test inputs.
    distilled_vote: the distilled model against the method's vote, there.
    distilled_single: the same against one sample.
    agreement: how often the distilled model and System 1 before it gave the
      answer of the method's vote, there; needs no label.
  """

  split: str
  is_system2: bool
  vote: Comparison | None
  single: Comparison | None
  votes: Comparison | None
  margins: Comparison | None
  margin_samples: int
  on_test: Comparison | None
  distilled: Comparison | None
  distilled_vote: Comparison | None
  distilled_single: Comparison | None
  agreement: Comparison | None

  @property
  def teacher_gain(self) -> Comparison | None:
    """The method against System 1; on test inputs if validation is unclear."""
    found = self.vote or self.single
    is_clear = found is not None and found.outcome != "unclear"
    return found if is_clear or self.on_test is None else self.on_test

  @property
  def conclusion(self) -> Conclusion | None:
    """Of the run; None without labels."""
    if self.teacher_gain is None:
      return None
    if self.teacher_gain.outcome in ("no better", "worse"):
      return "not distillable"
    if self.teacher_gain.outcome == "unclear" or self.distilled is None:
      return "unclear"
    if self.distilled.outcome == "better":
      return "kept"
    kept = self.distilled_vote or self.distilled_single
    return "not kept" if kept and kept.outcome == "worse" else "unclear"


def verdict(
  valid: Sequence[Record],
  base: Sequence[Record],
  distilled: Sequence[Record],
  split: str,
) -> Verdict:
  """Compares on one split, as far as there are rows and labels.

  Args:
    valid: rows of eval/valid.jsonl, the base model before anything is learnt.
    base: rows of eval/base.jsonl.
    distilled: rows of eval/distilled.jsonl.
    split: the variant to judge by, for instance the one that leads astray.
  """
  method = _method([*valid, *base])
  before, test, after = map(by_group, (valid, base, distilled))
  directly, voted = (SYSTEM1, split), (method + "_vote", split)
  margins, margin_samples = _margins(before, method, split)
  is_system2 = method != SYSTEM1

  def scored(groups: Groups, name, others: Groups, other) -> Comparison | None:
    return compare(groups.get(name, {}), others.get(other, {}))

  def single(groups: Groups) -> Comparison | None:
    sampled = method, split
    return scored(groups, sampled, groups, directly) if is_system2 else None

  return Verdict(
    split=split,
    is_system2=is_system2,
    vote=scored(before, voted, before, directly),
    single=single(before),
    votes=scored(before, voted, before, (SYSTEM1 + "_vote", split))
    if is_system2
    else None,
    margins=margins,
    margin_samples=margin_samples,
    on_test=scored(test, voted, test, directly) or single(test),
    distilled=scored(after, directly, test, directly),
    distilled_vote=scored(after, directly, test, voted),
    distilled_single=scored(after, directly, test, (method, split))
    if is_system2
    else None,
    agreement=_agreement(
      after.get(directly, {}), test.get(directly, {}), test.get(voted, {})
    ),
  )


def _method(rows: Sequence[Record]) -> str:
  methods = (row["method"] for row in rows if row["method"] != SYSTEM1)
  return next(methods, SYSTEM1)


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
  pairs = [
    (value(name, first[name]), value(name, second[name]))
    for name in first
    if name in second
  ]
  known = [pair for pair in pairs if None not in pair]
  if not known:
    return None
  new, old = np.array(known, np.float64).T
  gain = difference_interval(new, old)
  changed = int(np.count_nonzero(new != old))
  return Comparison(
    float(new.mean()), float(old.mean()), gain, len(known), changed
  )


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
