"""Overlap of test prompts with training prompts, by word n-grams."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import re
from typing import NamedTuple

_TEMPLATE = 0.1  # a word of more training prompts belongs to a template
_DISTINCTIVE = 3  # words of an n-gram that belong to no template
_WORD = re.compile(r"\w+")

Ngram = tuple[str, ...]


class Match(NamedTuple):
  """A test prompt, an n-gram of it, and a training prompt that has it too."""

  test: str
  words: str
  train: str


@dataclasses.dataclass(frozen=True)
class Overlap:
  """How much of a test set is in the training data.

  Attributes:
    n: words of an n-gram.
    tests: test prompts.
    overlapping: those that share an n-gram with a training prompt.
    duplicates: those that are a training prompt, letter for letter.
    matches: the first few that overlap or are duplicates.
  """

  n: int
  tests: int
  overlapping: int
  duplicates: int
  matches: tuple[Match, ...]


def overlap(
  train: Sequence[str], test: Sequence[str], n: int = 8, shown: int = 3
) -> Overlap:
  """Looks up the word n-grams of test prompts in the training prompts.

  Case and punctuation are ignored. A word of more than a tenth of the training
  prompts belongs to a template (or is as frequent as "the"), and an n-gram
  counts only if three of its words do not: "A coin is heads up. Edward does"
  identifies no question. A prompt of fewer than `n` words has no n-gram. Only
  the n-grams of the test prompts are held in memory.

  Args:
    train: prompts that were trained on; repeated ones count once.
    test: prompts of the evaluation; each counts.
    n: words of an n-gram.
    shown: most matches to return.
  """
  train = list(dict.fromkeys(train))
  sought = {ngram for text in test for ngram in _ngrams(text, n)}
  first: dict[Ngram, str] = {}
  holders: collections.Counter[str] = collections.Counter()
  for text in train:
    holders.update(set(_words(text)))
    for ngram in _ngrams(text, n):
      if ngram in sought:
        first.setdefault(ngram, text)
  most = max(1, _TEMPLATE * len(train))

  def is_distinctive(ngram: Ngram) -> bool:
    return sum(holders[word] <= most for word in ngram) >= min(_DISTINCTIVE, n)

  trained_on = set(train)
  overlapping, duplicates, matches = 0, 0, []
  for text in test:
    shared = (g for g in _ngrams(text, n) if g in first and is_distinctive(g))
    ngram = next(shared, None)
    overlapping += ngram is not None
    duplicates += text in trained_on
    if text in trained_on:
      matches.append(Match(text, text, text))
    elif ngram is not None:
      matches.append(Match(text, " ".join(ngram), first[ngram]))
  return Overlap(n, len(test), overlapping, duplicates, tuple(matches[:shown]))


def _words(text: str) -> list[str]:
  return _WORD.findall(text.casefold())


def _ngrams(text: str, n: int) -> Iterator[Ngram]:
  words = _words(text)
  return zip(*(words[start:] for start in range(n)), strict=False)
