"""What a question asks for: a person, a place, a number, a kind of thing."""

from __future__ import annotations

import functools
import re

from s2d_jax.answers.words import normalise, stems

_KIND = re.compile(
  r"\b(?:which|what|whose)\s+(?!(?:is|are|was|were|do|does|did|has|have|can)\b)"
  r"(?:kind of |type of |\w+est )?(\w+)",
  re.IGNORECASE,
)
# The noun of "What is the capital city of Peru?"
_HEAD = re.compile(
  r"\b(?:is|are|was|were)\s+(?:the|an?)\s+(.+?)(?=\s+(?:of|in|on|for|to|with|by"
  r"|at|from|that|who|which|behind)\b|\W*$)",
  re.IGNORECASE,
)
_NUMBER = re.compile(
  r"^\W*when\b|\b(?:what|which|the|exact) (?:year|date|century|decade"
  r"|percentage)\b"
  r"|\bhow (?:many|much"
  r"|old|long|tall|far|high|big|fast|deep|wide|heavy|often)\b",
  re.IGNORECASE,
)
_DISTINCTIVE = re.compile(
  r"\d.*|[a-z]{3,}(?:est|th)|most|least|first|second|third|last|next|previous"
  r"|not|never|before|after|without|except|other|real"
)
# "In which city …?", "Which city is it in?"
_PREPOSITION = re.compile(
  r"^\W*(?:in|on|at|from|to|for|with|of|by)\s+(?:which|what)\b"
  r"|\b(?:in|on|at|from|to|for|with|of|by|into|as)\W*$",
  re.IGNORECASE,
)
_CLASS = re.compile(
  r"\b(?:kind|type|sort|call|called|named?|term|word for)\b", re.IGNORECASE
)
_PLACES = frozenset(
  "country city town state continent place region county capital island"
  " museum".split()
)


class Question:
  """What a question asks for, by its words.

  Attributes:
    words: normalised.
    stems: of words with a meaning of their own.
    kind: the noun behind "which" or "what"; may be empty.
    essential: stems that an answer has to repeat, without the kind.
    distinctive: those without which it answers another question.
    head: the stem of the noun that is asked for; may be empty.
    names: stems of the names in it.
  """

  def __init__(self, text: str):
    self.text = text
    self.words = frozenset(normalise(text).split())
    self.stems = stems(text)
    kind = _KIND.search(text)
    self.kind = normalise(kind[1]) if kind else ""
    asked = stems(f"{self.kind} kind type sort")
    self.essential = (self.stems - asked) or self.stems
    self.distinctive = stems(
      " ".join(filter(_DISTINCTIVE.fullmatch, self.words))
    )
    self.names = stems(" ".join(re.findall(r"(?<=[\s'\"“‘])[A-Z][\w-]+", text)))
    head = _HEAD.search(text)
    last = [stems(word) for word in head[1].split()] if head else []
    self.head = next(filter(None, reversed(last)), set())
    self.asks_who = bool(re.match(r"\W*(?:who|whose)\b", text, re.IGNORECASE))
    self.asks_where = bool(re.match(r"\W*where\b", text, re.IGNORECASE))
    self.asks_place = self.asks_where or self.kind in _PLACES
    self.asks_number = bool(_NUMBER.search(text))
    self.is_of_now = bool(re.match(r"\W*what is\b", text, re.IGNORECASE))
    self.asks_class = bool(_CLASS.search(text))
    self.asks_one = bool(re.match(r"\W*(?:who|which|where)\b", text, re.I))
    self.has_preposition = bool(_PREPOSITION.search(text))

  def knows(self, word: str) -> bool:
    """Whether a normalised word stands in it, in any of its forms."""
    found = stems(word)
    return word in self.words or bool(found) and found <= self.stems


@functools.lru_cache(maxsize=256)
def question(text: str) -> Question:
  """All samples of an input are read with one question."""
  return Question(text)
