"""Scorers, against values worked out by hand."""

from __future__ import annotations

import pytest

from s2d_jax.answers.scorers import SCORERS, make_scorer
from s2d_jax.errors import UserError


@pytest.mark.parametrize(
  "name, answer, labels, score",
  [
    ("exact", "paris", ["paris"], 1),
    ("exact", "paris", ["rome", "paris"], 1),
    ("exact", "paris france", ["paris"], 0),
    ("contains", "city of paris", ["Paris"], 1),
    ("contains", "parisian", ["paris"], 0),
    # Two of three words are right, and two of two are found: 2·2/(3+2).
    ("f1", "city of paris", ["paris city"], 0.8),
    ("f1", "rome", ["paris", "rome italy"], 2 / 3),
    ("f1", "rome", ["paris"], 0),
    ("number", "0.5", ["1/2"], 1),
    ("number", "1,000", ["1e3"], 1),
    ("number", "12", ["21"], 0),
    ("number", "many", ["21"], 0),
    ("json", '{"a": 1, "b": 2}', ['{"b":2.0,"a":1}'], 1),
    ("json", '{"a": 1}', ['{"a": "1"}'], 0),
    ("json", "none", ["none"], 0),
  ],
)
def test_scorers(name, answer, labels, score):
  assert SCORERS[name](answer, labels) == pytest.approx(score)


def test_a_function_of_ones_own():
  half = lambda answer, labels: 0.5 if answer in labels else 0
  assert make_scorer("m:f", lambda name: half)("a", ["a"]) == 0.5


def test_scorers_that_cannot_be():
  with pytest.raises(UserError, match="'best' is unknown; there are exact"):
    make_scorer("best", lambda name: None)
  with pytest.raises(UserError, match="returned 7 for the answer 'a'"):
    make_scorer("m:f", lambda name: lambda a, b: 7)("a", ["a"])
