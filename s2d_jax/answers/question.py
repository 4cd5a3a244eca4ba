"""What a question asks for: a person, a place, a number, a kind of thing."""

from __future__ import annotations

import re

from s2d_jax.answers.words import normalise, stems

_KIND = re.compile(
  r"\b(?:which|what|whose)\s+(?!(?:is|are|was|were|do|does|did|has)\b)(\w+)",
  re.IGNORECASE,
)
_PLACES = frozenset(
  "country city town state continent place region county capital island"
  " museum".split()
)
_LANGUAGES = frozenset("language nation people".split())
_NUMBER = re.compile(
  r"^\W*when\b|\b(?:year|date|century|decade|percentage)\b"
  r"|\bhow (?!do|did|is|are|was|were|can|to|could|would)\w+\b",
  re.IGNORECASE,
)
_CLASS = re.compile(
  r"\b(?:kind|type|sort|call|called|term|word for"
  r"|what (?:is|are|was) (?:an? )?\w+\W*$)",
  re.IGNORECASE,
)
_ACTOR = re.compile(
  r"^\W*(?:who|(?:which|what) (?:\w+ ){0,3}?(?!is|are|do|does|did)\w+)\b", re.I
)
_DISTINCTIVE = re.compile(
  r"\d.*|[a-z]{3,}(?:est|th)|most|least|first|second|third|last|next|previous"
  r"|not|never|before|after|without|except|other|real"
)


_ASKS_NAME = re.compile(
  r"\b(?:who|whose|which|what|where|when|how (?:many|much|old|long|tall|far))\b"
  r"|^\W*(?:name|give|tell|complete|the)\b",
  re.IGNORECASE,
)
# "In which city …?", "Which city is it in?"
_PREPOSITION = re.compile(
  r"^\W*(in|on|at|from|to|for|with|of|by)\s+(?:which|what)\b"
  r"|\b(in|on|at|from|to|for|with|of|by|into|as)\W*$",
  re.IGNORECASE,
)
# The noun of "What is the capital city of Peru?"
_HEAD = re.compile(
  r"\b(?:is|are|was|were)\s+(?:the|an?)\s+(.+?)(?=\s+(?:of|in|on|for|to|with|by"
  r"|at|from|that|who|which|behind)\b|\W*$)",
  re.IGNORECASE,
)


class Question:
  """What a question asks for, by its words.

  Attributes:
    words: normalised.
    stems: of words with a meaning of their own.
    kind: the noun behind "which" or "what"; may be empty.
    essential: stems that an answer has to repeat, without the kind.
    distinctive: those without which it answers another question.
    proper: those of names.
  """

  def __init__(self, text: str):
    self.text = text
    self.words = frozenset(normalise(text).split())
    self.stems = stems(text)
    kind = _KIND.search(text)
    self.kind = normalise(kind[1]) if kind else ""
    self.essential = (self.stems - stems(self.kind)) or self.stems
    self.distinctive = stems(
      " ".join(filter(_DISTINCTIVE.fullmatch, self.words))
    )
    self.proper = stems(" ".join(re.findall(r"(?<!^)\b[A-Z]\S*", text)))
    self.asks_who = bool(re.match(r"\W*(?:who|whose)\b", text, re.IGNORECASE))
    self.asks_name = bool(_ASKS_NAME.search(text))
    self.asks_one = bool(re.match(r"\W*(?:who|which|where)\b", text, re.I))
    self.asks_where = bool(re.match(r"\W*where\b", text, re.IGNORECASE))
    self.asks_place = self.asks_where or self.kind in _PLACES
    self.is_of_now = bool(re.match(r"\W*what is\b", text, re.IGNORECASE))
    self.asks_number = bool(_NUMBER.search(text))
    link = _PREPOSITION.search(text)
    self.preposition = (link[1] or link[2]).lower() if link else ""
    head = _HEAD.search(text)
    self.head = _last_stem(head[1]) if head else set()
    self.asks_object = bool(
      re.search(r"\b(?:do|does|did|created by)\b", text, re.IGNORECASE)
    )
    self.asks_class = bool(_CLASS.search(text))
    self.asks_actor = bool(_ACTOR.match(text))
    self.asks_language = not self.words.isdisjoint(_LANGUAGES)

  def has_words(self, name: str) -> bool:
    """Whether all words of a name stand in it, but for an "s" at the end."""
    known = {word.removesuffix("s") for word in self.words}
    return all(word.removesuffix("s") in known for word in name.split())

  def has_noun(self, word: str) -> bool:
    """Whether a word stands in it as no name, in any of its forms."""
    return bool(stems(word)) and stems(word) <= self.stems - self.proper

  def has_stems(self, word: str) -> bool:
    """Whether a word stands in it, in any of its forms."""
    return word in self.words or bool(stems(word)) and stems(word) <= self.stems


def _last_stem(words: str) -> set[str]:
  """The stem of the last word that has a meaning of its own."""
  found = [stems(word) for word in words.split() if stems(word)]
  return found[-1] if found else set()
