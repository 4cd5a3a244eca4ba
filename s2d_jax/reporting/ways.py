"""Ways to answer as points of a picture: accuracy against tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from s2d_jax.evaluation.controls import directly
from s2d_jax.evaluation.paired import pooled
from s2d_jax.evaluation.results import ALL, Score, by_group, methods_of
from s2d_jax.records import Record
from s2d_jax.reporting.table import Kind, kind_of


class Point(NamedTuple):
  """A way to answer: of all test inputs, in whatever form."""

  kind: Kind
  tokens: float
  accuracy: float


def ways_of(model: str, rows: Sequence[Record]) -> list[Point]:
  """Few: greedily, and by System 2's vote; of inputs that have labels.

  Args:
    model: "base" or "distilled".
    rows: of eval/<model>.jsonl.
  """
  found = []
  for (method, _), scores in pooled(by_group(rows), ALL).items():
    kind = kind_of(model, method)
    if kind.drawn == "greedy" or kind == ("system2", "vote"):
      found += _points(kind, [*scores.values()])
  return found


def direct_scores(rows: Sequence[Record]) -> Mapping[str, Score]:
  """Of direct answers to all forms, by input; of rows of eval/."""
  found = pooled(by_group(rows), ALL)
  return found.get((directly(methods_of(found)), ALL), {})


def _points(kind: Kind, scores: Sequence[Score]) -> list[Point]:
  """One, or none without labels."""
  right = [s.metrics["accuracy"] for s in scores if "accuracy" in s.metrics]
  tokens = np.mean([score.tokens for score in scores])
  return [Point(kind, float(tokens), float(np.mean(right)))] if right else []
