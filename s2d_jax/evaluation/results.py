"""From the rows of eval/ to the rows of results.json, and the headline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

import numpy as np

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way, directly
from s2d_jax.evaluation.members import Cluster
from s2d_jax.evaluation.metrics import (
  Interval,
  difference_interval,
  share_interval,
)
from s2d_jax.records import Record

ALL = "all"  # the split of what is measured over all variants together


@dataclasses.dataclass(frozen=True)
class Score:
  """Of one example, by one method of one model.

  Attributes:
    metrics: by name; none that need a label where there is none.
    tokens: generated for an answer, in all steps and samples that it takes.
    answers: of each sample; or the greedy one, or the one that won the vote.
    prompt_tokens: of all prompts that it takes, as if none were shared; None in
      a run of an older version.
    cluster: of examples that are right or wrong together, or several such;
      the example's own name where the task has none.
  """

  metrics: Mapping[str, float]
  tokens: float
  answers: Sequence[str | None]
  prompt_tokens: float | None
  cluster: Cluster


def results(rows: Sequence[Record], task: str, model: str) -> list[Record]:
  """Means over the examples, for each split, method and metric.

  A method `m` is scored as the mean over its single samples, each one thought
  and one answer. Where the rows have them there are more: `m_greedy`, the
  greedy reply; `m_vote`, the answer that the samples agree on, with the tokens
  of all of them; and where a thought has several answers `m_nested`, the
  majority of a single thought's answers, with the tokens of all of these.

  Four metrics need no label: "answered", the share of replies that have an
  answer, "strict", the share that has one in the form asked for, and two of the
  split "all", where there are several variants. Sample i of all variants is
  compared: "inconsistent" is the share of those with an answer in every variant
  whose answers differ, as a mean over the examples that have any, and
  "not_compared" the share that lacks an answer in some variant.

  Args:
    rows: of eval/<model>.jsonl; a variant is a split.
    task: its name.
    model: "base" or "distilled".

  Returns:
    Rows of results.json, methods and splits in the order of `rows`.
  """
  found = []
  variants: dict[str, list[Mapping[str, Score]]] = {}
  for (method, split), scores in by_group(rows).items():
    variants.setdefault(method, []).append(scores)
    for metric in dict.fromkeys(m for s in scores.values() for m in s.metrics):
      scored = [s for s in scores.values() if metric in s.metrics]
      values = [score.metrics[metric] for score in scored]
      clusters = [s.cluster for s in scored]
      found.append(
        _row(task, split, model, method, metric, values, clusters, scored)
      )
  for method, groups in variants.items():
    found += _inconsistent(task, model, method, groups)
  return found


def _inconsistent(
  task: str, model: str, method: str, groups: Sequence[Mapping[str, Score]]
) -> list[Record]:
  """Compares the answers of sample i over the variants, where all have one."""
  names = [name for name in groups[0] if all(name in g for g in groups)]
  if len(groups) < 2 or not names:
    return []
  differ, lack = {}, {}
  for name in names:
    # Samples without a partner in another variant are left out.
    pairs = list(zip(*(group[name].answers for group in groups), strict=False))
    answered = [pair for pair in pairs if None not in pair]
    lack[name] = 1 - len(answered) / len(pairs)
    if answered:
      differ[name] = np.mean([len(set(pair)) > 1 for pair in answered])
  metrics = {"inconsistent": differ, "not_compared": lack}
  return [
    _row(
      task, ALL, model, method, metric, list(values.values()),
      [groups[0][name].cluster for name in values],
      [group[name] for group in groups for name in values],
    )
    for metric, values in metrics.items()
    if values
  ]  # fmt: skip


def _row(
  task: str,
  split: str,
  model: str,
  method: str,
  metric: str,
  values: Sequence[float],
  clusters: Sequence[Cluster],
  scored: Sequence[Score],
) -> Record:
  mean = share_interval(np.array(values), clusters)
  return {
    "task": task,
    "split": split,
    "model": model,
    "method": method,
    "metric": metric,
    "value": mean.value,
    "ci_low": mean.low,
    "ci_high": mean.high,
    "n": len(values),
    "tokens_per_example": _mean_tokens(scored),
    "prompt_tokens_per_example": _mean_prompt_tokens(scored),
  }


@dataclasses.dataclass(frozen=True)
class Change:
  """Accuracy of System 1 before and after, on the examples of both."""

  before: float
  after: float
  gain: Interval  # after less before, paired by example


@dataclasses.dataclass(frozen=True)
class Headline:
  """The main figures of a run, greedy answers against greedy ones.

  Attributes:
    plain: accuracy on the neutral split.
    biased: accuracy on the split meant to lead astray.
    gap_closed: gain on `biased` as a share of what the base model's System 1
      loses from plain to biased; None where it loses nothing.
    tokens: mean of the distilled model an answer, on the biased split.
    tokens_single: of one sample of System 2; None where it was not evaluated.
    tokens_vote: of all samples of its vote; None likewise.
  """

  plain: Change
  biased: Change
  gap_closed: float | None
  tokens: float
  tokens_single: float | None
  tokens_vote: float | None

  @property
  def single_ratio(self) -> float | None:
    """Tokens of one sample of System 2 for each of the distilled model."""
    return self.tokens_single and self.tokens_single / self.tokens

  @property
  def vote_ratio(self) -> float | None:
    """Tokens of a vote of System 2 for each of the distilled model."""
    return self.tokens_vote and self.tokens_vote / self.tokens


def headline(
  base: Sequence[Record], distilled: Sequence[Record], plain: str, biased: str
) -> Headline | None:
  """Compares the two models asked directly.

  None where either is missing, or there are no labels.

  Args:
    base: rows of eval/base.jsonl.
    distilled: rows of eval/distilled.jsonl.
    plain: the neutral split.
    biased: the split meant to lead astray; may be the same.
  """
  before, after = by_group(base), by_group(distilled)
  asked = directly(methods_of(before), methods_of(after))
  straight, astray = (_change(before, after, asked, s) for s in (plain, biased))
  if straight is None or astray is None:
    return None
  gap = straight.before - astray.before
  return Headline(
    plain=straight,
    biased=astray,
    gap_closed=astray.gain.value / gap if gap > 0 else None,
    tokens=_mean_tokens(after[asked, biased].values()),
    tokens_single=_system2_tokens(before, biased, "sample"),
    tokens_vote=_system2_tokens(before, biased, "vote"),
  )


Groups = Mapping[tuple[str, str], Mapping[str, Score]]


def methods_of(groups: Groups) -> set[str]:
  """The methods that have scores, on whatever split."""
  return {method for method, _ in groups}


def votes_of(groups: Groups, method: str, split: str) -> Mapping[str, Score]:
  """A method's: of several samples, or what there is of a single one."""
  ways = [str(Way(method, drawn)) for drawn in ("vote", "nested", "sample")]
  found = (groups[way, split] for way in ways if (way, split) in groups)
  return next(found, {})


def by_group(rows: Sequence[Record]) -> Groups:
  """Scores by (method, split), then by example; see `results`."""
  groups: dict[tuple[str, str], dict[str, Score]] = {}
  # Answers of System 1 come from no thought: they are but samples.
  several = {r["method"] for r in rows if "nested" in r} - {SYSTEM1, SHOTS}
  for row in rows:
    cluster = cluster_of(row)
    for drawn, replies, metrics in (
      ("sample", row["passes"], row["metrics"]),
      ("greedy", *_alone(row.get("greedy"))),
      ("nested", *(_nested(row) if row["method"] in several else ((), {}))),
      ("vote", *_alone(row.get("vote"))),
    ):
      if replies:
        way = str(Way(row["method"], drawn))
        group = groups.setdefault((way, row["variant"]), {})
        group[row["example_id"]] = _score(replies, metrics, cluster)
  return groups


def cluster_of(row: Record) -> Cluster:
  """Of the example of a row of eval/."""
  cluster = row.get("cluster", row["example_id"])
  return tuple(cluster) if isinstance(cluster, list) else cluster


def _alone(reply: Record | None) -> tuple[list[Record], Mapping[str, float]]:
  return ([], {}) if reply is None else ([reply], reply["metrics"])


def _nested(row: Record) -> tuple[list[Record], Mapping[str, float]]:
  """Majorities; a sample that ended before its answers has none."""
  names = ("answer", "tokens", "prompt_tokens")
  majorities = [
    {name: one[name] for name in names if name in one}
    for one in (one.get("nested", one) for one in row["passes"])
  ]
  return majorities, row.get("nested", row)["metrics"]


def _score(
  replies: Sequence[Record], metrics: Mapping[str, float], cluster: Cluster
) -> Score:
  """Of several replies the mean."""
  mean = lambda values: float(np.mean(list(values)))
  answers = [one["answer"] for one in replies]
  metrics = dict(metrics)
  if all("tier" in one for one in replies):
    metrics["strict"] = mean(one["tier"] == "strict" for one in replies)
  metrics["answered"] = mean(answer is not None for answer in answers)
  is_known = all("prompt_tokens" in one for one in replies)
  return Score(
    metrics,
    mean(one["tokens"] for one in replies),
    answers,
    mean(one["prompt_tokens"] for one in replies) if is_known else None,
    cluster,
  )


def _change(
  before: Groups, after: Groups, asked: str, split: str
) -> Change | None:
  old, new = (groups.get((asked, split), {}) for groups in (before, after))
  common = [
    name for name in old if name in new and "accuracy" in old[name].metrics
  ]
  if not common:
    return None
  first, second = (
    np.array([scores[name].metrics["accuracy"] for name in common])
    for scores in (old, new)
  )
  gain = difference_interval(
    second, first, [old[name].cluster for name in common]
  )
  return Change(float(first.mean()), float(second.mean()), gain)


def _system2_tokens(groups: Groups, split: str, drawn: Drawn) -> float | None:
  for (name, at), scores in groups.items():
    way = Way.of(name)
    is_system2 = way.method not in (SYSTEM1, SHOTS)
    if at == split and is_system2 and way.drawn == drawn:
      return _mean_tokens(scores.values())
  return None


def _mean_tokens(scores: Iterable[Score]) -> float:
  return float(np.mean([score.tokens for score in scores]))


def _mean_prompt_tokens(scores: Iterable[Score]) -> float | None:
  read = [score.prompt_tokens for score in scores]
  return None if None in read else float(np.mean(read))
