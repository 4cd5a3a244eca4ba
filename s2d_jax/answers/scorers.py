"""How well an answer fits the labels, of which any may be right: 0 to 1."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import json
from typing import Any

from s2d_jax.answers import json_value
from s2d_jax.answers.number import Number
from s2d_jax.answers.words import normalise
from s2d_jax.errors import UserError

# (answer, labels) → score; both are texts as the parser normalises them.
Scorer = Callable[[str, Sequence[str]], float]


def exact(answer: str, labels: Sequence[str]) -> float:
  """Whether the answer is one of the labels."""
  return float(answer in labels)


def contains(answer: str, labels: Sequence[str]) -> float:
  """Whether one of the labels stands in the answer, word for word."""
  words = f" {normalise(answer)} "
  return float(any(f" {normalise(label)} " in words for label in labels))


def token_f1(answer: str, labels: Sequence[str]) -> float:
  """Harmonic mean of precision and recall of the words, of the best label.

  As SQuAD scores answers (Rajpurkar et al. 2016).
  """
  return max(
    _f1(normalise(answer).split(), normalise(b).split()) for b in labels
  )


def _f1(words: Sequence[str], wanted: Sequence[str]) -> float:
  common = collections.Counter(words) & collections.Counter(wanted)
  return 2 * common.total() / max(len(words) + len(wanted), 1)


def number(answer: str, labels: Sequence[str]) -> float:
  """Whether the answer has the value of one of the labels: 0.5 is 1/2."""
  read = Number()
  value = read(answer)
  return float(
    value is not None
    and any((found := read(b)) and found.text == value.text for b in labels)
  )


def json_equal(answer: str, labels: Sequence[str]) -> float:
  """Whether the answer has the value of one of the labels, as JSON."""
  value = _json(answer)
  return float(value is not None and any(_json(b) == value for b in labels))


def _json(text: str) -> str | None:
  try:
    return json_value.canonical(json.loads(text))
  except ValueError:
    return None


SCORERS: Mapping[str, Scorer] = {
  "exact": exact,
  "contains": contains,
  "f1": token_f1,
  "number": number,
  "json": json_equal,
}


def make_scorer(name: Any, load: Callable[[str], Scorer]) -> Scorer:
  """The scorer of that name, or "package.module:function" of the user's.

  Args:
    name: a key of SCORERS, or where a function is.
    load: finds such a function.

  Raises:
    UserError: there is no such scorer.
  """
  if name in SCORERS:
    return SCORERS[name]
  if not isinstance(name, str) or ":" not in name:
    raise UserError(
      f"task.score={name!r} is unknown; there are {', '.join(SCORERS)}, or a"
      " function of yours as 'package.module:function'"
    )
  function = load(name)

  def score(answer: str, labels: Sequence[str]) -> float:
    value = function(answer, labels)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
      raise UserError(
        f"task.score={name!r} returned {value!r} for the answer {answer!r}; it"
        " must return a number from 0 to 1"
      )
    return float(value)

  return score
