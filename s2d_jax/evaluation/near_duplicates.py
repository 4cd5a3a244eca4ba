"""Texts with nearly the same words, found in time that grows with the texts."""

from __future__ import annotations

import collections
from collections.abc import Iterable
import functools
import zlib

from datasketch import MinHash, MinHashLSH

from s2d_jax.evaluation.words import Words

_NEARLY = 0.8  # of the words of both texts, in each of them
# Bands of hashes, and hashes of a band: sets that share four fifths of their
# words meet in a band 98 times of 100, those that share a third 9 times.
_BANDS, _HASHES = 8, 4


def near_duplicates(
  known: Iterable[Words],
  sought: Iterable[Words],
  template: frozenset[str],
  constants: frozenset[str],
) -> dict[Words, Words]:
  """Text → a known text that has nearly the same words, in any order.

  Two of them share four fifths (Jaccard) of the words of their own, which
  belong to no template, and also of all words but the constants, each as often
  as it stands there. The first lets "Ed flips the coin" be another text than
  "Mary flips the coin", however long the template; the second "the currency of
  Peru" another than "the capital of Peru", where both are asked so often that
  they belong to it. Only texts whose MinHashes meet are compared (Broder 1997),
  so one or two of a hundred near-duplicates may be missed.

  Args:
    known: texts to be found.
    sought: texts to be looked up.
    template: words that belong to one.
    constants: words that nearly all texts have.
  """
  # Texts are many; what they say apart from a template is often the same.
  groups, asked = (_by_own_words(texts, template) for texts in (known, sought))
  # Most share too few words with all that is asked to be near any of it.
  words = frozenset().union(*asked)
  names = [own for own in groups if _has_most_in(words, own)]
  index = MinHashLSH(params=(_BANDS, _HASHES), num_perm=_BANDS * _HASHES)
  for number, hashes in enumerate(_hashed(names)):
    index.insert(number, hashes, check_duplication=False)

  @functools.cache
  def forms(name: frozenset[str]) -> dict[frozenset, Words]:
    return {_counted(words, constants): words for words in groups[name]}

  found = {}
  for own, hashes in zip(asked, _hashed([*asked]), strict=True):
    near = [
      form
      for number in sorted(index.query(hashes))
      if _share(names[number], own) >= _NEARLY
      for form in forms(names[number]).items()
    ]
    for words in asked[own] if near else ():
      mine = _counted(words, constants)
      for other, text in near:
        if _share(mine, other) >= _NEARLY:
          found.setdefault(words, text)
  return found


def may_be_near(
  words: Words, asked: frozenset[str], template: frozenset[str]
) -> bool:
  """Whether a text may be nearly one of those that have the words `asked`."""
  own = frozenset(words) - template
  return bool(own) and _has_most_in(asked, own)


def _has_most_in(words: frozenset[str], own: frozenset[str]) -> bool:
  return len(own & words) >= _NEARLY * len(own)


def _by_own_words(
  texts: Iterable[Words], template: frozenset[str]
) -> dict[frozenset[str], list[Words]]:
  groups = collections.defaultdict(list)
  for words in texts:
    groups[frozenset(words) - template].append(words)
  groups.pop(frozenset(), None)
  return groups


def _counted(
  words: Words, constants: frozenset[str]
) -> frozenset[tuple[str, int]]:
  """A bag of words as a set, in which "no no" is not "no"."""
  counts = collections.Counter(word for word in words if word not in constants)
  return frozenset(
    (word, time) for word, times in counts.items() for time in range(times)
  )


def _hashed(sets: list[frozenset[str]]) -> Iterable[MinHash]:
  return MinHash.generator(
    sets, num_perm=_BANDS * _HASHES, hashfunc=lambda w: zlib.crc32(w.encode())
  )


def _share(a: frozenset, b: frozenset) -> float:
  """Jaccard similarity: words in both, of those in either."""
  return len(a & b) / (len(a | b) or 1)
