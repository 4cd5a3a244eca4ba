"""Test questions that were trained on: the same, nearly the same, or in part.

Texts are compared as words, without case, accents and punctuation. What most
prompts have in common, a system message or the wording of a template, tells
none of them from another and counts for nothing.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import itertools
from typing import NamedTuple

from s2d_jax.evaluation.members import Cluster, members_of
from s2d_jax.evaluation.near_duplicates import may_be_near, near_duplicates
from s2d_jax.evaluation.words import Words, words_of
from s2d_jax.int_set import IntSet
from s2d_jax.records import Record

_TEMPLATE = 0.1  # a word of more training prompts belongs to a template
_CONSTANT = 0.9  # a word of more of them is one of its constants
_BLOCK = 1 << 16  # prompts whose words are counted together
_RARE = 0.01  # a word of fewer of these is not counted among them
_OWN = 3  # words of an n-gram that belong to no template

Ngram = tuple[str, ...]


class Match(NamedTuple):
  """A test prompt, the words it shares, and a training prompt with them."""

  test: str
  words: str
  train: str


@dataclasses.dataclass(frozen=True)
class Overlap:
  """How much of a test set is in the training data.

  Each of the three comparisons says how many test prompts it could be made
  for; where it could be made for none, its count of 0 means nothing.

  Attributes:
    n: words of an n-gram.
    tests: test prompts.
    whole: those that could be compared whole: they have words.
    duplicates: those with the words of a training prompt, in its order.
    worded: those that have words of their own, which belong to no template.
    near: those with nearly the words of a training prompt, in any order, that
      are no duplicates.
    long: those with an n-gram that does not belong to a template.
    overlapping: those that share such an n-gram with a training prompt.
    matches: the first few for which any comparison found something.
    seen: how many these are.
  """

  n: int
  tests: int
  whole: int
  duplicates: int
  worded: int
  near: int
  long: int
  overlapping: int
  matches: tuple[Match, ...]
  seen: int


def overlap(
  train: Iterable[str], test: Sequence[str], n: int = 8, shown: int = 3
) -> Overlap:
  """Looks up test prompts in the training prompts.

  Prompts are compared whole; by their words in any order (`near_duplicates`);
  and by their word n-grams. A word of more than a tenth of the training prompts
  belongs to a template (or is as frequent as "the"), and an n-gram counts only
  if three of its words do not: "A coin is heads up. Edward does" identifies no
  question. Time and memory grow with the number of prompts, not of pairs.

  Args:
    train: prompts that were trained on; repeated ones count once. They are gone
      through twice or thrice, and of many only those are held that may match.
    test: prompts of the evaluation; each counts.
    n: words of an n-gram.
    shown: most matches to return.
  """
  template, constants, has_words = _common(train)
  tests = [words_of(text) for text in test]
  sought = {words for words in tests if words and has_words}
  ngrams = {words: _own_ngrams(words, n, template) for words in sought}
  own_ngrams = {ngram for mine in ngrams.values() for ngram in mine}
  asked = frozenset().union(*sought)
  known: dict[Words, str] = {}
  sources: dict[Ngram, Words] = {}  # the first that has each n-gram
  for text in train if sought else ():
    words = words_of(text)
    if words in known:
      continue
    shared = own_ngrams.intersection(_ngrams(words, n)) if own_ngrams else ()
    for ngram in shared:
      sources.setdefault(ngram, words)
    if words in sought or shared or may_be_near(words, asked, template):
      known[words] = text
  near = near_duplicates(known, sought - known.keys(), template, constants)
  shared = {
    words: next((ngram for ngram in mine if ngram in sources), None)
    for words, mine in ngrams.items()
  }

  def match(text: str, words: Words) -> Match | None:
    if words in known:
      return Match(text, " ".join(words), known[words])
    if words in near:
      both = [word for word in words if word in near[words]]
      return Match(text, " ".join(both), known[near[words]])
    if ngram := shared.get(words):
      return Match(text, " ".join(ngram), known[sources[ngram]])
    return None

  matches = [
    found
    for text, words in zip(test, tests, strict=True)
    if (found := match(text, words))
  ]
  return Overlap(
    n=n,
    tests=len(tests),
    whole=sum(words in sought for words in tests),
    duplicates=sum(words in known for words in tests),
    worded=sum(
      words in sought and not template.issuperset(words) for words in tests
    ),
    near=sum(words in near for words in tests),
    long=sum(bool(ngrams.get(words)) for words in tests),
    overlapping=sum(shared.get(words) is not None for words in tests),
    matches=tuple(matches[:shown]),
    seen=len(matches),
  )


def _common(
  texts: Iterable[str],
) -> tuple[frozenset[str], frozenset[str], bool]:
  """Words of a template, its constants, and whether there are any words.

  Words of more than some share of the prompts, and of more than one. Words that
  are rare in a block of prompts are not counted there: most are, and they would
  be as many as the prompts. So a word may be in more prompts than are counted,
  by so much at the most; where that decides, it is counted again.
  """
  holders, block = collections.Counter(), collections.Counter()
  size, has_words = 0, False
  for size, words in enumerate(_different(texts), start=1):
    has_words |= bool(words)
    block.update(words)
    if size % _BLOCK == 0:
      least = _RARE * _BLOCK
      holders.update({word: n for word, n in block.items() if n > least})
      block.clear()
  holders.update(block)
  uncounted = _RARE * (size - size % _BLOCK)
  limits = [max(1, share * size) for share in (_TEMPLATE, _CONSTANT)]
  unsure = {
    word
    for word, count in holders.items()
    if any(count <= limit < count + uncounted for limit in limits)
  }
  if unsure:
    holders |= collections.Counter(
      word for words in _different(texts) for word in unsure & words
    )
  template, constants = (
    frozenset(word for word, count in holders.items() if count > limit)
    for limit in limits
  )
  return template, constants, has_words


def _different(texts: Iterable[str]) -> Iterator[set[str]]:
  """Yields the words of each text that is not the same as one before it."""
  seen = IntSet()  # of 64 bits each, where whole prompts need too much
  for text in texts:
    words = words_of(text)
    if seen.add(hash(words)):
      yield set(words)


def _own_ngrams(words: Words, n: int, template: frozenset[str]) -> list[Ngram]:
  """Those with enough words that belong to no template."""
  is_own = (word not in template for word in words)
  own = [*itertools.accumulate(is_own, initial=0)]
  return [
    ngram
    for start, ngram in enumerate(_ngrams(words, n))
    if own[start + n] - own[start] >= min(_OWN, n)
  ]


def _ngrams(words: Words, n: int) -> Iterator[Ngram]:
  return zip(*(words[start:] for start in range(n)), strict=False)


class Answered(NamedTuple):
  """The answers to an input, and what it is about; None: not known.

  Several subjects, where it is about each of them.
  """

  answers: tuple[str, ...]
  subject: Cluster | None = None


@dataclasses.dataclass(frozen=True)
class Answers:
  """How many right answers of the test inputs were taught.

  Attributes:
    tests: test inputs.
    labelled: those whose right answer is known, and a text.
    taught: those of them whose right answer is taught, to whatever question.
    different: the different right answers of all test inputs.
    different_taught: those of them that are taught.
    with_subject: test inputs of which it is known what they are about.
    subject_taught: those about whose subject, or one of them, something is
      taught.
    both_taught: those whose right answer is taught about it.
  """

  tests: int
  labelled: int
  taught: int
  different: int
  different_taught: int
  with_subject: int
  subject_taught: int
  both_taught: int


def answers_taught(
  train: Iterable[Answered], test: Sequence[Answered]
) -> Answers:
  """Looks up the right answers of test inputs among the answers taught.

  They are compared as words, like prompts.
  """
  taught, subjects = set(), set()
  words = functools.cache(words_of)
  for one in train:
    about = members_of(one.subject)
    subjects.update(about)
    taught.update(itertools.product(map(words, one.answers), about))
  answers = {answer for answer, _ in taught}
  mine = [set(map(words_of, one.answers)) - {()} for one in test]
  different = set().union(*mine)
  about = [
    (answers, members_of(one.subject))
    for answers, one in zip(mine, test, strict=True)
    if one.subject is not None
  ]
  return Answers(
    tests=len(test),
    labelled=sum(map(bool, mine)),
    taught=sum(not answers.isdisjoint(of_one) for of_one in mine),
    different=len(different),
    different_taught=len(different & answers),
    with_subject=len(about),
    subject_taught=sum(not subjects.isdisjoint(own) for _, own in about),
    both_taught=sum(
      not taught.isdisjoint(itertools.product(of_one, own))
      for of_one, own in about
    ),
  )


@dataclasses.dataclass(frozen=True)
class Seen:
  """What of a test split was seen in training.

  Attributes:
    prompts: each input in each of its variants, as the model is asked.
    questions: each input in its plain wording, however it was asked; None
      where that is how all were asked.
    answers: right answers, among those that were taught.
  """

  prompts: Overlap
  questions: Overlap | None
  answers: Answers


def seen_of(record: Record) -> Seen:
  """What a record says that `dataclasses.asdict` has made."""

  def overlap_of(found: Record) -> Overlap:
    matches = tuple(Match(*match) for match in found["matches"])
    return Overlap(**found | {"matches": matches})

  questions = record["questions"]
  return Seen(
    prompts=overlap_of(record["prompts"]),
    questions=overlap_of(questions) if questions else None,
    answers=Answers(**record["answers"]),
  )
