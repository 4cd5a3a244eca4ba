"""Does a model know the word that is masked in a question?

Who has read a question may know its rarest word from the rest of it (Deng et
al. 2024, "testset slot guessing"). As the word may also be known or guessed
without having read the question, it is looked for behind another one as well.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import random
import re
from typing import NamedTuple

from s2d_jax.evaluation.metrics import mcnemar
from s2d_jax.evaluation.words import words_of

_WORD = re.compile(r"\w+")
_LETTERS = 3  # of a word to be masked; a number may be shorter
_GAP = "____"


class Masked(NamedTuple):
  """A question with a gap, and the word that was there."""

  question: str
  word: str

  @property
  def prompt(self) -> str:
    return f"{self.question}\n\nThe word that is left out ({_GAP}) is"


@dataclasses.dataclass(frozen=True)
class Guesses:
  """How often masked words were guessed, letter for letter.

  Attributes:
    questions: that were asked.
    guessed: words guessed behind their own question.
    elsewhere: the same words guessed behind another question.
    p_value: of the difference, by McNemar's exact test.
  """

  questions: int
  guessed: int
  elsewhere: int
  p_value: float


def mask(questions: Sequence[str]) -> list[Masked]:
  """Each question without its rarest word, the longest of several.

  Different questions only, and those that have a word which stands there once.
  """
  questions = list(dict.fromkeys(questions))
  holders = collections.Counter(
    word for question in questions for word in set(words_of(question))
  )
  found = []
  for question in questions:
    counts = collections.Counter(words_of(question))
    candidates = [
      match
      for match in _WORD.finditer(question)
      if counts["".join(words_of(match[0]))] == 1
      and (len(match[0]) >= _LETTERS or match[0].isdigit())
    ]
    if candidates:
      rarest = min(
        candidates,
        key=lambda match: (
          holders["".join(words_of(match[0]))],
          -len(match[0]),
          match.start(),
        ),
      )
      before, behind = question[: rarest.start()], question[rarest.end() :]
      found.append(Masked(f"{before}{_GAP}{behind}", rarest[0]))
  return found


def elsewhere(masked: Sequence[Masked], seed: int = 0) -> list[Masked]:
  """Each word behind another question with a gap, chosen at random."""
  order = list(range(len(masked)))
  random.Random(seed).shuffle(order)
  following = dict(zip(order, [*order[1:], *order[:1]], strict=True))
  return [
    Masked(masked[following[place]].question, one.word)
    for place, one in enumerate(masked)
  ]


def guesses(own: Sequence[bool], others: Sequence[bool]) -> Guesses:
  """Compares the guesses of the same words behind two questions each."""
  better = sum(a and not b for a, b in zip(own, others, strict=True))
  worse = sum(b and not a for a, b in zip(own, others, strict=True))
  return Guesses(len(own), sum(own), sum(others), mcnemar(better, worse))
