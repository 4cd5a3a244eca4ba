"""Short free text: "paris" in "(B) Paris" and "The capital is Paris."."""

from __future__ import annotations

import dataclasses
import re

from s2d_jax.answers import mentions, reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.sentence import (
  APPOSITION,
  LIST,
  PRONOUN,
  asks_number,
  is_number,
  name_in,
)
from s2d_jax.answers.words import EMPTY, NO_NAME, VERBS, normalise, stems
from s2d_jax.errors import UserError

_LABEL = re.compile(
  r"^\W*?\(?(?:[A-Ha-h]|\d{1,2})[.)][)\s]\s*(?=\S)(?![A-Z]\.)"
)
_SPEAKER = re.compile(r"^\s*(?:A|Assistant|Response)\s*:\s*")
_HEDGE = re.compile(
  r"^(?:(?:well|actually|yes|no|so|therefore|thus|okay|\w+ally|as of [^,.]+"
  r"|in (?!(?-i:[A-Z]))[^,.]+),\s*)*(?:(?:\w+(?:ed|en) )?by\s+(?=(?-i:[A-Z])))?"
  r"(?:(?:I (?:believe|think|guess|would say)|it seems|in short|my guess is)"
  r"(?: that)?,?\s*)?"
  r"(?:(?:definitely|probably|possibly|certainly|simply|just)\s+)?"
  r"(?:(?:the )?(?:short |correct |right |final )?answer is:?\s*)?",
  re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
  r"^\W*[\[<][^\]>]*\b(?:insert|your|answer|name)\b[^\]>]*[\]>]\W*$",
  re.IGNORECASE,
)
_QUOTED = re.compile(r"\W*[\"“]([^\"“”\n]+)[\"”]\W*")
# What stands before is taken back.
_TAKEN_BACK = re.compile(
  r"\A.*(?:\b(?:wait|correction|I meant|sorry|on second thought|scratch that"
  r"|actually,? no)\b|\bno, (?=it|that)|(?:\.\.|…)\s*actually\b)"
  r"\W*(?:no\b\W*)?",
  re.IGNORECASE | re.DOTALL,
)
# Nor does a text stand by what was once, and what others think.
_NOT_NOW = re.compile(
  r"\b(?:however|formerly|used to|(?:until|before) \d+)\b"
  rf"|{mentions.OTHERS.pattern}",
  re.IGNORECASE,
)
_OPEN = re.compile(
  r"^the (?:question|text|user|passage|problem)\b"
  r"|\b(?:or|either|neither|nor|not|never|none|between|than|maybe|perhaps)\b"
  r"|n['’]t\b|\b(?:could|might|may|can) (?:all )?be\b",
  re.IGNORECASE,
)
_DENIED_TAIL = re.compile(
  r"\s*[,(]\s*(?:and )?not\b.*$|\s+(?:rather than|instead of)\b.*$",
  re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?<=\w)\s(?:which|who|because|since|whose)\s")


@dataclasses.dataclass(frozen=True)
class Text:
  """A short answer in free text; None where it is longer than `max_words`.

  A sentence round the answer is taken off where it is plain which side of it
  is the answer: by its form, or as the question has the words of the other.
  """

  max_words: int = 12

  def __post_init__(self):
    if not isinstance(self.max_words, int) or self.max_words < 1:
      raise UserError(
        f"task.answer.max_words={self.max_words!r} must be a whole number, 1"
        " or more"
      )

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = replies.said(reply)
    statements = replies.marked(text)
    if replies.contradicts(text):
      return None
    given = statements[0] if statements else text
    if _PLACEHOLDER.match(given) or _lists_several(given):
      return None
    kept = _TAKEN_BACK.sub("", given)
    if quoted := _QUOTED.fullmatch(given):
      kept = given = quoted[1].replace(". ", " ")
    found = replies.sentences(_LABEL.sub("", _SPEAKER.sub("", kept)))
    if len(found) > 1 and _is_echo(found[0], question):
      del found[0]
    if kept != given:
      del found[:-1]
    if not found or _is_echo(found[0], question):
      return None
    found = [re.sub(r"(?<=\w)\s+\([^)]*\)", "", one) for one in found]
    sentence = _conceded(_HEDGE.sub("", found[0].rstrip(" .!")))
    if replies.refuses(" ".join([sentence, *found[1:2]])):
      return None
    if sentence.endswith("?") or any(
      map(_NOT_NOW.search, [sentence, *found[1:]])
    ):
      return None
    sentence = _DENIED_TAIL.sub("", sentence)
    if _OPEN.search(_asked_again(sentence, question)):
      return None
    name = _alone(sentence, question)
    if name is not None and question and not _is_of_its_sort(name, question):
      name = None
    if name is not None and question and _says_nothing(name, question):
      return None
    is_whole = bool(statements) or len(found) == 1
    is_given = is_whole and name is not None and sentence in given
    is_strict = is_given and kept == given and not _HEDGE.match(found[0])[0]
    if name is None:
      name = name_in(sentence, question) or _of_later(found[1:], question)
    answer = normalise(name or "")
    if not 0 < len(answer.split()) <= self.max_words:
      return None
    return Answer(answer, is_strict)


def _conceded(sentence: str) -> str:
  """Y in "Many think it is X, but Y" and in "I am not sure, but Y"."""
  head, but, tail = sentence.partition(" but ")
  tail = _HEDGE.sub("", tail)
  if but and (replies.refuses(head) or mentions.OTHERS.search(head)):
    return tail
  if but and replies.refuses(tail):
    return head.rstrip(",")
  return re.sub(r"\bnot\s[^,.]*?,?\sbut\s", "", sentence)


def _lists_several(text: str) -> bool:
  """Whether a text is several lines with an answer each."""
  lines = [line for line in text.splitlines() if line.strip()]
  if len({normalise(_LABEL.sub("", line)) for line in lines}) == 1:
    return False
  labelled = sum(bool(_LABEL.match(line)) for line in lines)
  short = sum(len(line.split()) <= 2 for line in lines)
  return labelled > 1 or len(lines) > 1 and short == len(lines)


def _asked_again(sentence: str, question: str) -> str:
  """A sentence without the "between" and "or" that the question has, too."""
  sentence = re.sub(r"\bbetween \d+ and \d+", "", sentence)
  for word in re.findall(r"\b(?:between|or|not|than)\b", question):
    sentence = re.sub(rf"\b{word}\b", "", sentence)
  return sentence


_YES_NO = re.compile(
  r"^\W*(?:is|are|was|were|do|does|did|can|could|will|has|have|should)\b",
  re.IGNORECASE,
)


def _says_nothing(name: str, question: str) -> bool:
  """Whether a name is only politeness, or a word of the question."""
  words = normalise(name).split()
  if words in (["yes"], ["no"]):
    return not _YES_NO.match(question)
  known = set(normalise(question).split())
  is_open = re.search(r"\bor\b", question)
  is_echo = (
    set(words) <= known or stems(name) and stems(name) <= stems(question)
  )
  return is_echo and not is_open or words in _POLITE


def _is_of_its_sort(name: str, question: str) -> bool:
  """Whether a name may be a person, a time or a thing, whichever is asked."""
  if asks_number(question):
    return is_number(name)
  if len(re.findall(r"\d+", name)) > 3:  # a time stamp
    return False
  if _ASKS_WHO.match(question) and " by " in name:
    return False
  return not _ASKS_ONE.match(question) or bool(re.search(r"[^\W\d]", name))


_ASKS_ONE = re.compile(r"^\W*(?:who|which|where)\b", re.IGNORECASE)


_POLITE = [
  [word] for word in "sure okay ok hmm nothing hello hi the i it".split()
]


def _alone(text: str, question: str) -> str | None:
  """A text that is a name and no sentence, without what tells more of it."""
  asked = set(normalise(question).split())
  label, colon, name = APPOSITION.sub("", text).rpartition(": ")
  if colon and not stems(label) <= stems(question):
    return None
  # "In 1945", "Paris, France"
  name = re.sub(
    r"^(?:in|on|at|by|around)\s+(?=\d|[A-Z]\w+ \d)", "", name, flags=re.I
  )
  first, comma, rest = name.partition(", ")
  if comma and asked and set(normalise(rest).split()) <= asked | EMPTY:
    name = first
  elif comma and _ASKS_WHO.match(question) and not re.match("[JS]r", rest):
    return None
  if _INTRODUCES.match(text):
    return None
  words = re.findall(r"[^\W_][\w'’]*", name)
  has_verb = any(
    word in VERBS or re.fullmatch("[a-z]{3,}ed", word) for word in words
  )
  lower = [word for word in words if word.islower()]
  if has_verb or PRONOUN.match(name) or LIST.search(text):
    return None
  if _OBJECT.search(name) and not _is_title(name):
    return None
  if any(word in NO_NAME for word in lower) or _CLAUSE.search(text):
    return None
  if words and words[0].lower() in NO_NAME and len(words) > 2:
    return None
  if _is_title(name):
    return name
  known = set(normalise(name).split()) & (asked - EMPTY)
  most = 3 if len(lower) >= len(words) - 1 else 5
  if known:
    most = 2 if lower else 3
  return name if len(normalise(name).split()) <= most else None


_ASKS_WHO = re.compile(r"^\W*who\b", re.IGNORECASE)
# "In Japan, people pay with the yen."
_INTRODUCES = re.compile(r"(?:in|at|on|for|with|of|as)\s[^,]+,\s+[a-z]", re.I)
# What follows a verb, as in "Spain beat the Netherlands"; a noun has "of".
_OBJECT = re.compile(
  r"\b[a-z]{3,}\s+(?:a|an|the|to|in|at|by|on|from|for|with|as)\s"
)


def _is_title(text: str) -> bool:
  """Whether a text is written like a title: Gone with the Wind."""
  words = re.findall(r"[^\W\d_][\w'’]*", text)
  great = [word for word in words if word[0].isupper()]
  return len(great) > 1 and all(
    word[0].isupper() or word in _SMALL_WORDS for word in words
  )


_SMALL_WORDS = frozenset(
  "of the and in on a an to for with at by from into de la le da di von van der"
  " und y el".split()
)


def _of_later(sentences: list[str], question: str) -> str | None:
  """The one name that later sentences give; what "it" is they leave open."""
  whole = [s.rstrip(" .!") for s in sentences if not PRONOUN.match(s)]
  if not question or any(map(_OPEN.search, whole)):
    return None
  names = {name_in(one, question) for one in whole} - {None}
  return names.pop() if len(names) == 1 else None


def _is_echo(text: str, question: str) -> bool:
  return bool(question) and normalise(text) == normalise(question)
