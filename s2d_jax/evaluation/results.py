"""From the rows of eval/ to the rows of results.json, and the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from s2d_jax.evaluation.metrics import (
  Interval,
  difference_interval,
  mean_interval,
)
from s2d_jax.records import Record

_SYSTEM1 = "system1"


@dataclasses.dataclass(frozen=True)
class _Score:
  """Of one example, one way of answering it."""

  metrics: Mapping[str, float]
  tokens: float


def results(rows: Sequence[Record], task: str, model: str) -> list[Record]:
  """Means over the examples, for each split, method and metric.

  A method `m` is scored as the mean over its single passes; where the rows
  have a vote there is a second method, `m_vote`: the answer that the passes
  agree on, with the tokens of all of them.

  Args:
    rows: of eval/<model>.jsonl; a variant is a split.
    task: its name.
    model: "base" or "distilled".

  Returns:
    Rows of results.json, methods and splits in the order of `rows`.
  """
  found = []
  for (method, split), scores in _by_group(rows).items():
    tokens = _mean_tokens(scores)
    for metric in next(iter(scores.values())).metrics:
      values = [score.metrics[metric] for score in scores.values()]
      mean = mean_interval(np.array(values))
      found.append(
        {
          "task": task,
          "split": split,
          "model": model,
          "method": method,
          "metric": metric,
          "value": mean.value,
          "ci_low": mean.low,
          "ci_high": mean.high,
          "n": len(scores),
          "tokens_per_example": tokens,
        }
      )
  return found


@dataclasses.dataclass(frozen=True)
class Change:
  """Accuracy of System 1 before and after, on the examples of both."""

  before: float
  after: float
  gain: Interval  # after less before, paired by example


@dataclasses.dataclass(frozen=True)
class Headline:
  """What a run has come to.

  Attributes:
    plain: accuracy on the split asked straight.
    biased: accuracy on the split that leads astray.
    gap_closed: gain on `biased` as a share of what the base model's System 1
      loses from plain to biased; None where it loses nothing.
    tokens: mean of the distilled model an answer, on the biased split.
    tokens_single: of one pass of System 2; None where it was not evaluated.
    tokens_vote: of all passes of its vote; None likewise.
  """

  plain: Change
  biased: Change
  gap_closed: float | None
  tokens: float
  tokens_single: float | None
  tokens_vote: float | None

  @property
  def single_ratio(self) -> float | None:
    """Tokens of one pass of System 2 for each of the distilled model."""
    return self.tokens_single and self.tokens_single / self.tokens

  @property
  def vote_ratio(self) -> float | None:
    """Tokens of a vote of System 2 for each of the distilled model."""
    return self.tokens_vote and self.tokens_vote / self.tokens


def headline(
  base: Sequence[Record], distilled: Sequence[Record], plain: str, biased: str
) -> Headline | None:
  """Compares the two models asked directly; None where either is missing.

  Args:
    base: rows of eval/base.jsonl.
    distilled: rows of eval/distilled.jsonl.
    plain: the split asked straight.
    biased: the split meant to lead astray; may be the same.
  """
  before, after = _by_group(base), _by_group(distilled)
  straight, astray = (_change(before, after, s) for s in (plain, biased))
  if straight is None or astray is None:
    return None
  gap = straight.before - astray.before
  return Headline(
    plain=straight,
    biased=astray,
    gap_closed=astray.gain.value / gap if gap > 0 else None,
    tokens=_mean_tokens(after[_SYSTEM1, biased]),
    tokens_single=_system2_tokens(before, biased, is_vote=False),
    tokens_vote=_system2_tokens(before, biased, is_vote=True),
  )


_Groups = Mapping[tuple[str, str], Mapping[str, _Score]]


def _by_group(rows: Sequence[Record]) -> _Groups:
  """Scores by (method, split), then by example."""
  groups: dict[tuple[str, str], dict[str, _Score]] = {}
  for row in rows:
    tokens = float(np.mean([one["tokens"] for one in row["passes"]]))
    ways = {row["method"]: _Score(row["metrics"], tokens)}
    if "vote" in row:
      voted = row["vote"]
      ways[row["method"] + "_vote"] = _Score(voted["metrics"], voted["tokens"])
    for method, score in ways.items():
      group = groups.setdefault((method, row["variant"]), {})
      group[row["example_id"]] = score
  return groups


def _change(before: _Groups, after: _Groups, split: str) -> Change | None:
  old, new = (groups.get((_SYSTEM1, split), {}) for groups in (before, after))
  common = [name for name in old if name in new]
  if not common:
    return None
  first, second = (
    np.array([scores[name].metrics["accuracy"] for name in common])
    for scores in (old, new)
  )
  gain = difference_interval(second, first)
  return Change(float(first.mean()), float(second.mean()), gain)


def _system2_tokens(groups: _Groups, split: str, is_vote: bool) -> float | None:
  for (method, at), scores in groups.items():
    is_system2 = not method.startswith(_SYSTEM1)
    if at == split and is_system2 and method.endswith("_vote") == is_vote:
      return _mean_tokens(scores)
  return None


def _mean_tokens(scores: Mapping[str, _Score]) -> float:
  return float(np.mean([score.tokens for score in scores.values()]))
