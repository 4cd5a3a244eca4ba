"""How far a judge of pairs agrees with people, as Zheng et al. 2023 measure it.

Every verdict is compared with every vote that people gave on the pair, and with
the majority of these votes; once with ties (their setup S1) and once only where
neither side says that it is a tie (S2). By guessing, a third and a half agree.
No verdict agrees with nobody.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from s2d_jax.evaluation.metrics import share_interval
from s2d_jax.evaluation.results import ALL, Score, by_group
from s2d_jax.records import Record

TIE = "tie"
# The split of verdicts over both orders: a winner is one in both, else a tie.
BOTH_ORDERS = "both_orders"
PEOPLE = "people"  # model and method of the rows in which people agree
VOTES, MAJORITY = "agreement_votes", "agreement_majority"
NO_TIES = "_no_ties"
ANSWERED = "agreement_answered"  # the share of verdicts that there are


class _Verdict(NamedTuple):
  """On the answers of a pair: "1", "2", "tie", or None where there is none."""

  pair: str
  verdict: str | None


def majority(votes: Iterable[str]) -> str:
  """What most of the votes on a pair say; a split vote is a tie."""
  (winner, most), *others = collections.Counter(votes).most_common()
  return TIE if any(count == most for _, count in others) else winner


def agreement(
  rows: Sequence[Record], examples: Mapping[str, Record], task: str, model: str
) -> list[Record]:
  """Rows of results.json: a model against the people who judged its pairs.

  The splits are the orders of the answers, "all", the verdicts of both orders
  pooled, and "both_orders", one verdict of both: it names a winner if both
  orders do, and is a tie if they differ. Intervals are of the bootstrap over
  questions, as pairs of one question are not independent. `n` counts what was
  compared.

  Args:
    rows: of eval/<model>.jsonl; those of unknown examples are left out.
    examples: by id, with "inputs" and "label", the majority of the votes.
      "votes" of the inputs are {"judge", "winner"}, if single ones are known.
    task: its name.
    model: "base" or "distilled".
  """
  methods: dict[str, dict[str, Mapping[str, Score]]] = {}
  known = [row for row in rows if row["example_id"] in examples]
  for (method, split), scores in by_group(known).items():
    methods.setdefault(method, {})[split] = scores
  found = []
  for method, groups in methods.items():
    for split, verdicts in _verdicts(groups).items():
      tokens = np.mean([s.tokens for g in groups.values() for s in g.values()])
      name = {"task": task, "split": split, "model": model, "method": method}
      answered = [one.verdict is not None for one in verdicts]
      shares = {ANSWERED: (answered, [one.pair for one in verdicts])}
      shares |= _shares(
        VOTES,
        [
          (one.pair, one.verdict, vote["winner"])
          for one in verdicts
          for vote in _votes(examples[one.pair])
        ],
      )
      shares |= _shares(
        MAJORITY,
        [
          (one.pair, one.verdict, label)
          for one in verdicts
          if (label := examples[one.pair].get("label")) is not None
        ],
      )
      found += _rows(name, shares, examples, float(tokens))
  return found


def people(
  pairs: Iterable[str], examples: Mapping[str, Record], task: str
) -> list[Record]:
  """Rows of results.json: people among themselves, the ceiling of a judge.

  Every vote is compared with every vote of another person on the same pair, and
  with the majority of the others'.

  Args:
    pairs: ids of those that were judged; unknown ones are left out.
    examples: by id, as for `agreement`.
    task: its name.
  """
  by_vote, by_majority = [], []
  for pair in filter(examples.__contains__, pairs):
    votes = _votes(examples[pair])
    for place, vote in enumerate(votes):
      others = [v for v in votes if v["judge"] != vote["judge"]]
      if others:
        most = majority(other["winner"] for other in others)
        by_majority.append((pair, vote["winner"], most))
      by_vote += [
        (pair, vote["winner"], other["winner"])
        for other in votes[place + 1 :]
        if other["judge"] != vote["judge"]
      ]
  name = {"task": task, "split": ALL, "model": PEOPLE, "method": PEOPLE}
  shares = _shares(VOTES, by_vote) | _shares(MAJORITY, by_majority)
  return list(_rows(name, shares, examples, tokens=0.0))


def _verdicts(
  groups: Mapping[str, Mapping[str, Score]],
) -> dict[str, list[_Verdict]]:
  """Those of each order, of all, and of both together; every sample's."""
  found = {
    split: [
      _Verdict(pair, answer)
      for pair, score in scores.items()
      for answer in score.answers
    ]
    for split, scores in groups.items()
  }
  if len(groups) != 2:
    return found
  first, second = groups.values()
  found[ALL] = [one for verdicts in found.values() for one in verdicts]
  found[BOTH_ORDERS] = [
    _Verdict(pair, _of_both(*answers))
    for pair in first
    if pair in second
    for answers in zip(first[pair].answers, second[pair].answers, strict=False)
  ]
  return found


def _of_both(first: str | None, second: str | None) -> str | None:
  if None in (first, second):
    return None
  return first if first == second else TIE


_Compared = Sequence[
  tuple[str, str | None, str]
]  # pair, verdict, what people say
_Shares = dict[str, tuple[list[bool], list[str]]]  # of what, and of which pairs


def _shares(metric: str, compared: _Compared) -> _Shares:
  """What agrees, with ties and without."""
  decided = [one for one in compared if TIE not in one[1:]]
  return {
    name: (
      [verdict == said for _, verdict, said in part],
      [pair for pair, _, _ in part],
    )
    for name, part in ((metric, compared), (metric + NO_TIES, decided))
    if part
  }


def _rows(
  name: Record,
  shares: _Shares,
  examples: Mapping[str, Record],
  tokens: float,
) -> Iterator[Record]:
  for metric, (values, pairs) in shares.items():
    questions = [examples[pair]["inputs"]["question"] for pair in pairs]
    mean = share_interval(np.array(values), questions)
    yield {
      **name,
      "metric": metric,
      "value": mean.value,
      "ci_low": mean.low,
      "ci_high": mean.high,
      "n": len(values),
      "tokens_per_example": tokens,
    }


def _votes(example: Record) -> Sequence[Mapping[str, str]]:
  return example["inputs"].get("votes", ())
