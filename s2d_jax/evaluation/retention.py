"""What the fine-tune did to the rest, from the rows of eval/retention-*.jsonl.

A measure that stands at its floor before the fine-tune cannot fall, and one at
its ceiling cannot rise: where they did not go the other way, they show nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Literal

import numpy as np

from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.evaluation.metrics import (
  Interval,
  mean_interval,
  paired_p,
  share_interval,
)
from s2d_jax.evaluation.paired import FEWEST, Comparison, compare
from s2d_jax.evaluation.results import Score, by_group
from s2d_jax.records import Record

Outcome = Literal[
  "fell",
  "rose",
  "at its floor",  # and did not rise
  "at its ceiling",  # and did not fall
  "unclear",  # no test finds a change, but the interval leaves out zero
  "no change seen",
  "too few",
]

_SIGNIFICANT = 0.05
_NONE = 0.02  # right, at most: the floor where nothing is right by chance
_ALL = 0.98  # right, at least: the ceiling


def outcome_of(change: Comparison) -> Outcome:
  """Of a share, wherever it began."""
  clear = {"better": "rose", "worse": "fell"}.get(change.outcome)
  if clear or change.is_too_small:
    return clear or "too few"
  return _unproven(change.gain)


def _unproven(change: Interval) -> Outcome:
  """Of a change that no test finds: few examples may have a narrow interval."""
  has_zero = change.low <= 0 <= change.high
  return "no change seen" if has_zero else "unclear"


@dataclasses.dataclass(frozen=True)
class Answers:
  """Right answers to the questions of a task, before and after.

  Attributes:
    label: of the task.
    variant: in which it was asked.
    change: the distilled model (`first`) against the base model (`second`).
    before: the base model's share of right answers.
    chance: how often a guess is right; None where there are no options.
  """

  label: str
  variant: str
  change: Comparison
  before: Interval
  chance: float | None

  @property
  def outcome(self) -> Outcome:
    """What can be said; a clear change counts wherever it began."""
    found = outcome_of(self.change)
    if found in ("rose", "fell", "too few"):
      return found
    if self._is_at_floor:
      return "at its floor"
    return "at its ceiling" if self._is_at_ceiling else found

  @property
  def _is_at_floor(self) -> bool:
    if self.chance is None:
      return self.before.value <= _NONE
    return self.before.low <= self.chance

  @property
  def _is_at_ceiling(self) -> bool:
    return self.before.value >= _ALL and round(self.before.high, 2) >= 1


@dataclasses.dataclass(frozen=True)
class Replies:
  """Replies to everyday questions, before and after.

  Attributes:
    before: mean tokens of the base model's.
    after: of the distilled model's.
    change: after less before, paired by question.
    p: two-sided p-value of the change.
    n: questions.
    cut: how many reached the most tokens that a reply may have.
    same: the share that is the same, word for word.
  """

  before: float
  after: float
  change: Interval
  p: float
  n: int
  cut: Comparison
  same: Interval

  @property
  def outcome(self) -> Outcome:
    """Of their length."""
    if self.n < FEWEST:
      return "too few"
    if self.p >= _SIGNIFICANT:
      return _unproven(self.change)
    return "rose" if self.change.value > 0 else "fell"


@dataclasses.dataclass(frozen=True)
class Moved:
  """How far the distilled model is from the base model on some texts.

  Attributes:
    kl: KL(base || distilled) of the next token, in nats: a mean over positions,
      with an interval by the bootstrap over passages.
    other_token: share of positions at which another token is the likeliest.
    positions: at which the next token was compared.
    passages: replies, targets, or windows of a text.
    furthest: where passages moved furthest, those that did most first.
  """

  kl: Interval
  other_token: float
  positions: int
  passages: int
  furthest: Sequence[Record]


@dataclasses.dataclass(frozen=True)
class Retention:
  """All that was measured; None, or empty, is what was not.

  Attributes:
    answers: to other tasks.
    replies: to everyday questions.
    before: perplexity of the base model.
    after: of the distilled model.
    tokens: of the text.
    moved: by what was read: "everyday", the base model's replies; "text";
      "targets", what is taught, of the validation split.
  """

  answers: Sequence[Answers] = ()
  replies: Replies | None = None
  before: float | None = None
  after: float | None = None
  tokens: int = 0
  moved: Mapping[str, Moved] = dataclasses.field(default_factory=dict)

  @property
  def perplexity_change(self) -> float | None:
    """As a share of what it was."""
    if self.before is None or self.after is None:
      return None
    return self.after / self.before - 1

  def __bool__(self) -> bool:
    """Whether there is anything of both models."""
    measured = self.answers or self.replies or self.moved
    return bool(measured) or self.perplexity_change is not None


def retention(base: Sequence[Record], distilled: Sequence[Record]) -> Retention:
  """Compares the rows of eval/retention-base.jsonl and -distilled.jsonl."""
  if not base or not distilled:
    return Retention()
  old, new = (_first(rows, "perplexity") for rows in (base, distilled))
  return Retention(
    answers=list(_answers(base, distilled)),
    replies=_replies(base, distilled),
    before=old.get("perplexity"),
    after=new.get("perplexity"),
    tokens=old.get("tokens", 0),
    moved=_moved(distilled),
  )


def _first(rows: Sequence[Record], field: str) -> Record:
  return next((row for row in rows if field in row), {})


def _by(rows: Sequence[Record], has: str, key: str) -> dict[str, list[Record]]:
  """The rows that have a field, by the value of another."""
  groups: dict[str, list[Record]] = {}
  for row in rows:
    if has in row:
      groups.setdefault(row[key], []).append(row)
  return groups


def _answers(
  base: Sequence[Record], distilled: Sequence[Record]
) -> Iterator[Answers]:
  before = _by(base, "passes", "task")
  for label, rows in _by(distilled, "passes", "task").items():
    old, new = (by_group(part) for part in (before.get(label, []), rows))
    for (method, variant), scores in new.items():
      known: Mapping[str, Score] = old.get((method, variant), {})
      change = compare(scores, known)
      if method != SYSTEM1 or change is None:
        continue
      both = [
        score
        for name, score in known.items()
        if name in scores and "accuracy" in score.metrics
      ]
      right = [score.metrics["accuracy"] for score in both]
      clusters = [score.cluster for score in both]
      yield Answers(
        label,
        variant,
        change,
        share_interval(np.array(right), clusters),
        rows[0].get("chance"),
      )


def _replies(
  base: Sequence[Record], distilled: Sequence[Record]
) -> Replies | None:
  """Of the questions that both models have answered."""
  old, new = (
    {row["example_id"]: row for row in rows if "finish" in row}
    for rows in (base, distilled)
  )
  pairs = [(old[name], new[name]) for name in new if name in old]
  if not pairs:
    return None

  tokens = [[one["tokens"] for one in pair] for pair in pairs]
  before, after = np.array(tokens, np.float64).T
  return Replies(
    before=float(before.mean()),
    after=float(after.mean()),
    change=mean_interval(after - before),
    p=paired_p(after - before),
    n=len(pairs),
    cut=_cut(pairs),
    same=share_interval(
      np.array([float(a["text"] == b["text"]) for a, b in pairs])
    ),
  )


def _cut(pairs: Sequence[tuple[Record, Record]]) -> Comparison:
  old, new = (
    {
      pair[0]["example_id"]: Score(
        {"accuracy": float(pair[model]["finish"] == "length")},
        pair[model]["tokens"],
        (),
        None,
        pair[0]["example_id"],
      )
      for pair in pairs
    }
    for model in (0, 1)
  )
  found = compare(new, old)
  assert found is not None  # there are pairs
  return found


def _moved(distilled: Sequence[Record]) -> dict[str, Moved]:
  return {
    kind: _of_passages(rows)
    for kind, rows in _by(distilled, "furthest", "of").items()
  }


def _of_passages(rows: Sequence[Record]) -> Moved:
  sizes = [row["positions"] for row in rows]
  # A passage has one value, its mean: positions of one are no evidence of
  # others.
  values = np.repeat([row["kl"] for row in rows], sizes)
  passages = np.repeat(np.arange(len(rows)), sizes)
  furthest = sorted(rows, key=lambda row: -row["furthest"]["kl"])
  return Moved(
    kl=mean_interval(values, passages),
    other_token=sum(row["other_token"] for row in rows) / sum(sizes),
    positions=sum(sizes),
    passages=len(rows),
    furthest=[{"of": row["of"]} | row["furthest"] for row in furthest[:10]],
  )
