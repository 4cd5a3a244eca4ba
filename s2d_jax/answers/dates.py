"""The number or time that a sentence gives: "1989" in "It fell in 1989."."""

from __future__ import annotations

import re

from s2d_jax.answers.words import NO_NAME, normalise, stems

_MONTH = (
  r"(?:January|February|March|April|May|June|July|August|September|October"
  r"|November|December)"
)
_DATE = re.compile(
  rf"(?:(?:\d{{1,2}}(?:st|nd|rd|th)? (?:of )?)?{_MONTH}(?: \d{{1,2}}(?:st|nd"
  rf"|rd|th)?)?,? )?\b\d{{3,4}}\b(?:\s+(?:BC|AD|BCE|CE)\b)?"
  rf"|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}|{_MONTH} \d{{1,2}}(?:st|nd|rd"
  r"|th)?|\d+(?:st|nd|rd|th) century|\d{3,4}s"
)
_NUMBER = re.compile(
  r"(?<![\w.,])-?[$€£]?\d(?:[\d,.]*\d)?\s?%?|\b(?:two|three|four|five|six|seven|eight"
  r"|nine|ten|eleven|twelve|hundred)\b",
  re.IGNORECASE,
)


def is_number(name: str) -> bool:
  """Whether a name is a number or a time, and its unit."""
  has_number = re.search(r"\d", name) or _NUMBER.search(name)
  rest = _NUMBER.sub("", _DATE.sub("", name))
  words = re.findall(r"[^\W\d_]{2,}", rest)
  is_short = len(words) <= 3 and not any(
    word[0].isupper() for word in words[1:]
  )
  return is_short and bool(has_number or name.islower())


_NEUTRAL = frozenset().union(
  *map(
    stems,
    "film movie book novel world earth occurred happened took place after"
    " human located situated official commonly widely correct right answer"
    " our so therefore thus hence".split(),
  )
)
_PRONOUNS = frozenset(stem for word in NO_NAME for stem in stems(word))
_PRONOUN = re.compile(
  r"^\W*(?:it|he|she|they|this|that|who|which|so|therefore|thus|hence)\b", re.I
)


def says(rest: str, question: str, asked: str = "") -> bool:
  """Whether a part of a sentence says what was asked, and little else.

  Args:
    rest: a sentence without the name, or the number, in it.
    question: what was asked, and before it what was told.
    asked: its last sentence, if it has several.
  """
  asked = asked or question
  asked = stems(_ASKED_KIND.sub("", asked)) or stems(asked)
  said = stems(rest)
  known = said & stems(question)
  others = said - known - _NEUTRAL - _PRONOUNS
  if not known or len(others) > 1 or 2 * len(others) > len(known):
    return False
  is_short = _PRONOUN.match(rest) or re.match(r"\W*the\b", rest, re.I)
  return 2 * len(known & asked) >= len(asked) or bool(is_short and not others)


# "Which planet", "in what year"
_ASKED_KIND = re.compile(
  r"\b(?:which|what|whose|how many|how much)\s+(?!is\b|are\b|was\b|were\b)\w+",
  re.IGNORECASE,
)
_ASKS_TIME = re.compile(r"^\W*when\b|\b(?:year|date)\b", re.IGNORECASE)


def number_in(sentence: str, question: str) -> str | None:
  """The one date or number of a sentence that else says what was asked."""
  is_time = _ASKS_TIME.search(question)
  pattern = _DATE if is_time else _NUMBER
  known = set(normalise(question).split())
  found = [
    match
    for match in pattern.finditer(sentence)
    if normalise(match[0]) not in known
  ]
  if len(found) != 1:
    return None
  [match] = found
  before = sentence[: match.start()]
  rest = f"{before} {re.split(r'[,;:(]', sentence[match.end() :])[0]}"
  if is_time:
    rest = re.sub(r"\s+(?:by|with)\s.*$", "", rest)
  return match[0] if says(rest, question) else None
