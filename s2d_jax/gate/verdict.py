"""What a gate buys on test inputs: against never and always thinking.

Over all forms of a question together, as a budget is a mean over whatever is
asked. Without labels right is what System 2's vote says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Literal

import numpy as np

from s2d_jax.evaluation.controls import SYSTEM1, Way
from s2d_jax.evaluation.members import mean_of_sharing
from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.paired import Comparison, compare, pooled
from s2d_jax.evaluation.results import ALL, Score, by_group, votes_of
from s2d_jax.gate.curve import Curve, auroc, calibration_error, trade_off
from s2d_jax.gate.rows import METHOD
from s2d_jax.records import Record

Buys = Literal[
  "pays",  # better than direct answers, and than thinking at random
  "direct",  # neither it nor System 2's vote is better than direct answers
  "chance",  # where it thinks is no better than chance
  "never",  # it lets every answer stand, though System 2's vote is better
  "always",  # it takes as many tokens as System 2's vote, or more
  "costs",  # worse than the direct answers
  "no labels",
  "unclear",
]
_NEAR_CHANCE = 0.6  # an AUROC below it; chance is a half


@dataclasses.dataclass(frozen=True)
class Worth:
  """Of a gate, on test inputs of all forms.

  Attributes:
    is_labelled: whether right is by labels.
    n: inputs.
    thought: the share of them that System 2 thinks about.
    tokens: mean an answer.
    vote_tokens: of System 2's vote alone.
    curve: accuracy against tokens, of all thresholds.
    calibration: expected error of the probability that System 2's vote says
      the same.
    agreeing: AUROC of the confidence: does System 2's vote say the same? None
      where it always does, or never.
    right: the same: is the direct answer right? None where all are alike.
    enough: the least tokens of the curve at which it is as accurate as System
      2's vote less a standard error; None where it never is.
    over_direct: the gated system against the direct answers.
    over_vote: against System 2's vote.
    over_random: against thinking at random, for as many tokens.
    vote_over_direct: System 2's vote against the direct answers.
  """

  is_labelled: bool
  n: int
  thought: float
  tokens: float
  vote_tokens: float
  curve: Curve
  calibration: float
  agreeing: Interval | None
  right: Interval | None
  enough: float | None
  over_direct: Comparison
  over_vote: Comparison
  over_random: Comparison
  vote_over_direct: Comparison

  @property
  def direct_tokens(self) -> float:
    """Of a direct answer and its confidence."""
    return self.curve.tokens[0]

  @property
  def share_of_vote(self) -> float | None:
    """What is enough, as a share of the tokens of System 2's vote."""
    return None if self.enough is None else self.enough / self.vote_tokens

  @property
  def outcome(self) -> Buys:
    """What can be said of it; a claim needs a paired test."""
    direct, vote = self.over_direct.outcome, self.vote_over_direct.outcome
    if not self.is_labelled:
      return "no labels"
    if direct == "worse":
      return "costs"
    if direct == "better" and self.over_random.outcome == "better":
      return "pays"
    if direct == "no better" and vote in ("no better", "worse"):
      return "direct"
    if self.tokens >= self.vote_tokens:
      return "always"
    if self.thought == 0:
      return "never" if vote == "better" else "unclear"
    is_chance = self.right is not None and self.right.high < _NEAR_CHANCE
    if is_chance and not self.over_direct.is_too_small:
      return "chance"
    return "unclear"


def worth(
  gated: Sequence[Record],
  distilled: Sequence[Record],
  base: Sequence[Record],
  method: str,
) -> Worth | None:
  """Compares on the test inputs that have labels, or on all without any.

  Args:
    gated: rows of eval/gated.jsonl.
    distilled: of eval/distilled.jsonl.
    base: of eval/base.jsonl.
    method: System 2.

  Returns:
    None where one of the three is missing.
  """
  found, after, before = (
    pooled(by_group(rows), ALL) for rows in (gated, distilled, base)
  )
  own = found.get((METHOD, ALL), {})
  direct = after.get((str(Way(SYSTEM1, "greedy")), ALL), {})
  vote = votes_of(before, method, ALL)
  names = [name for name in own if name in direct and name in vote]
  labelled = [name for name in names if "accuracy" in vote[name].metrics]
  names = labelled or names
  if not names:
    return None
  systems = [
    {name: _judged(system[name], vote[name]) for name in names}
    for system in (own, direct, vote)
  ]
  rows = {f"{row['example_id']}/{row['variant']}": row for row in gated}
  return _worth([rows[name] for name in names], *systems, bool(labelled))


def _judged(score: Score, vote: Score) -> Score:
  """With nothing but its accuracy: by label, else whether it is the vote's."""
  answer = score.answers[0]
  agrees = float(answer is not None and answer == vote.answers[0])
  accuracy = score.metrics.get("accuracy", agrees)
  return dataclasses.replace(score, metrics={"accuracy": accuracy})


def _worth(
  rows: Sequence[Record],
  own: Mapping[str, Score],
  direct: Mapping[str, Score],
  vote: Mapping[str, Score],
  is_labelled: bool,
) -> Worth:
  """All four in the same order."""
  clusters = [score.cluster for score in direct.values()]
  confidences, probabilities, thought = (
    np.array([row[name] for row in rows])
    for name in ("confidence", "probability", "thought")
  )
  fast, slow = map(_accuracies, (direct.values(), vote.values()))
  tokens, slow_tokens = map(_tokens, (own.values(), vote.values()))
  fast_tokens = tokens - np.where(thought, slow_tokens, 0)
  agrees = np.array(
    [
      one.answers[0] is not None and one.answers[0] == other.answers[0]
      for one, other in zip(direct.values(), vote.values(), strict=True)
    ]
  )
  curve = trade_off(confidences, fast, slow, fast_tokens, slow_tokens)
  error = mean_of_sharing(slow, clusters).error
  spent = (tokens - fast_tokens).sum() / max(slow_tokens.sum(), 1)
  random = {
    name: dataclasses.replace(score, metrics={"accuracy": accuracy})
    for (name, score), accuracy in zip(
      direct.items(), fast + spent * (slow - fast), strict=True
    )
  }
  return Worth(
    is_labelled=is_labelled,
    n=len(rows),
    thought=float(thought.mean()),
    tokens=float(tokens.mean()),
    vote_tokens=float(slow_tokens.mean()),
    curve=curve,
    calibration=calibration_error(probabilities, agrees),
    agreeing=auroc(confidences, agrees, clusters),
    right=auroc(confidences, fast > 0.5, clusters) if is_labelled else None,
    enough=curve.reaching(float(slow.mean()) - error),
    over_direct=compare(own, direct),
    over_vote=compare(own, vote),
    over_random=compare(own, random),
    vote_over_direct=compare(vote, direct),
  )


def _accuracies(scores: Iterable[Score]) -> np.ndarray:
  return np.array([score.metrics["accuracy"] for score in scores])


def _tokens(scores: Iterable[Score]) -> np.ndarray:
  return np.array([score.tokens for score in scores])
