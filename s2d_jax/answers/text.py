"""Short free text: "paris" in "(B) Paris" and "The capital is Paris."."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re

from s2d_jax.answers import corrections, mentions, reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.quantity import is_number, number_in
from s2d_jax.answers.question import Question
from s2d_jax.answers.sentence import APPOSITION, LIST, described, name_in
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
  r"^\W*[\[<][^\]>]*\b(?:insert|your|answer|name)\b[^\]>]*[\]>]\W*$"
  r"|\[[A-Za-z]+ [^\]]*\]",
  re.IGNORECASE,
)
_QUOTED = re.compile(r"\W*[\"“]([^\"“”\n]+)[\"”]\W*")
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
_CUT_OFF = re.compile(r"\s(?:is|are|was|were|the|a|an|of|by|in)$")


@dataclasses.dataclass(frozen=True)
class Text:
  """A short answer in free text; None where it is longer than `max_words`.

  It stands alone, or in a sentence that else says what the question says.
  Nothing that comes later may give another one.
  """

  max_words: int = 12

  def __post_init__(self):
    if not isinstance(self.max_words, int) or self.max_words < 1:
      raise UserError(
        f"task.answer.max_words={self.max_words!r} must be a whole number, 1"
        " or more"
      )

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    # 'The answer is "Ottawa," which …'
    text = re.sub(r",([\"”])", r"\1,", replies.said(reply))
    statements = replies.marked(text)
    given = statements[0] if statements else text
    if (
      replies.contradicts(text)
      or _PLACEHOLDER.search(given)
      or _lists_several(given)
    ):
      return None
    asked = Question(question)
    if quoted := _QUOTED.fullmatch(given):
      given = quoted[1].replace(". ", " ")
    kept = corrections.behind(given)
    found = _sentences(kept, asked)
    if kept != given:
      del found[:-1]
    if len(found) > 1 and not statements and _CONCLUDES.match(found[-1]):
      name = _name_concluded(found[-1], asked)
      return Answer(normalise(name), strict=False) if name else None
    if not found or found[0].endswith(("?", ",")):
      return None
    sentence = _conceded(_HEDGE.sub("", found[0].rstrip(" .!")))
    if replies.refuses(" ".join([sentence, *found[1:2]])):
      return None
    if any(map(_NOT_NOW.search, [sentence, *found[1:]])):
      return None
    sentence = _DENIED_TAIL.sub("", sentence)
    name = _alone(sentence, asked)
    if name is not None and statements:
      del found[1:]
    if name is not None and not _is_explained(name, found[1:], asked):
      return None
    is_strict = (
      name is not None
      and len(found) == 1
      and kept == given
      and sentence in given
      and not _HEDGE.match(found[0])[0]
    )
    names = [name or _name_in(sentence, asked)]
    names += [
      _name_in(one, asked) for one in found[1:] if not _PRONOUN.match(one)
    ]
    answer = _agreed([normalise(one) for one in names if one])
    if not 0 < len(answer.split()) <= self.max_words:
      return None
    return Answer(answer, is_strict)


_CONCLUDES = re.compile(
  r"\W*(?:so|therefore|thus|hence|in conclusion)\b,?\s+", re.IGNORECASE
)


def _name_concluded(sentence: str, asked: Question) -> str | None:
  """X in "So the tallest one is X, not Y.", whatever was weighed before."""
  sentence = _DENIED_TAIL.sub("", _CONCLUDES.sub("", sentence).rstrip(" .!"))
  if (
    not asked.text
    or replies.refuses(sentence)
    or _OPEN.search(_asked_again(sentence, asked))
  ):
    return None
  return _name_in(sentence[:1].upper() + sentence[1:], asked)


def _agreed(names: Sequence[str]) -> str:
  """The first of several names, if the others are the same or part of one."""
  first = set(names[0].split()) if names else set()
  is_one = all(
    first <= (words := set(name.split())) or words <= first for name in names
  )
  return names[0] if names and is_one else ""


def _sentences(text: str, asked: Question) -> list[str]:
  """Sentences of an answer, without the question and remarks."""
  found = replies.sentences(_LABEL.sub("", _SPEAKER.sub("", text)))
  if found and _is_echo(found[0], asked):
    del found[0]
  found = [re.sub(r"(?<=\w)\s+\([^)]*\)", "", one) for one in found]
  return [one for one in found if normalise(one) and not replies.is_polite(one)]


_PRONOUN = re.compile(r"^\W*(?:it|that|this|he|she|they)\b", re.IGNORECASE)
_REASON = re.compile(
  r"^\W*(?:it|that|this|these|he|she|they|its|his|her|their|because|explanation"
  r"|reason\w*|note|in|the)\b",
  re.IGNORECASE,
)


def _is_explained(name: str, others: list[str], asked: Question) -> bool:
  """Whether what follows a name is about it, if anything does."""
  words = set(normalise(name).split())
  if asked.asks_name:
    words |= asked.words - EMPTY
  return not (others and asked.text) or any(
    _REASON.match(one) or words & set(normalise(one).split()) for one in others
  )


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
  lines = [
    line
    for line in text.splitlines()
    if line.strip() and not replies.is_polite(line)
  ]
  if len({normalise(_LABEL.sub("", line)) for line in lines}) == 1:
    return False
  labelled = sum(bool(_LABEL.match(line)) for line in lines)
  short = sum(len(line.split()) <= 2 for line in lines)
  return labelled > 1 or len(lines) > 1 and short == len(lines)


def _is_echo(text: str, asked: Question) -> bool:
  return bool(asked.text) and normalise(text) == normalise(asked.text)


def _name_in(sentence: str, asked: Question) -> str | None:
  """The name or the number that a sentence gives, and does not only mention."""
  sentence = sentence.rstrip(" .!")
  if _CUT_OFF.search(sentence) or sentence.endswith("?"):
    return None
  if not asked.text:
    return None if _OPEN.search(sentence) else described(sentence)
  if asked.asks_number:
    return number_in(sentence, asked.text)
  return name_in(sentence, asked)


_YES_NO = re.compile(
  r"^\W*(?:is|are|was|were|do|does|did|can|could|will|has|have|should)\b",
  re.IGNORECASE,
)
_POLITE = [
  [word] for word in "sure okay ok hmm nothing hello hi the i it".split()
]


def _says_nothing(name: str, asked: Question) -> bool:
  """Whether a name is only politeness, or a word of the question."""
  words = normalise(name).split()
  if words in (["yes"], ["no"]):
    return not _YES_NO.match(asked.text)
  is_echo = (
    set(words) <= asked.words or stems(name) and stems(name) <= asked.stems
  )
  return is_echo and "or" not in asked.words or words in _POLITE


def _is_of_its_sort(name: str, asked: Question) -> bool:
  """Whether a name may be a person, a time or a thing, whichever is asked."""
  if asked.asks_number:
    return is_number(name)
  if len(re.findall(r"\d+", name)) > 3:  # a time stamp
    return False
  if asked.asks_who and " by " in name:
    return False
  return not asked.asks_one or bool(re.search(r"[^\W\d]", name))


# "In Japan, people pay with the yen."
_INTRODUCES = re.compile(r"(?:in|at|on|for|with|of|as)\s[^,]+,\s+[a-z]", re.I)
# What follows a verb, as in "Spain beat the Netherlands"; a noun has "of".
_OBJECT = re.compile(
  r"\b[a-z]{3,}\s+(?:a|an|the|to|in|at|by|on|from|for|with|as)\s"
)
_CLAUSE = re.compile(r"(?<=\w)\s(?:which|who|because|since|whose)\s")
_SENTENCE_BEHIND = re.compile(
  r"^, (?!who|which).*\b(?:is|are|was|were)\b|^, (?!a|an|the|who|which|one|also"
  r"|known|[a-z]+(?:ly|ed|ing)\b)[a-z]+ (?:a|an|the|your|it|that|how|what)\b"
)
_IS = re.compile(
  r"^(?:it|that|this|he|she|they)(?:['’](?:s|d be)\b"
  r"|\s+(?:is|are|was|were|would be|will be)\b)",
  re.IGNORECASE,
)


def _alone(text: str, asked: Question) -> str | None:
  """A text that is a name and no sentence, without what tells more of it."""
  if _OPEN.search(_asked_again(text, asked)):
    return None
  apposition = APPOSITION.search(text)
  if apposition and _SENTENCE_BEHIND.search(apposition[0]):
    return None
  label, colon, name = APPOSITION.sub("", text).rpartition(": ")
  if colon and not stems(label) <= asked.stems:
    return None
  # "In 1945", "Paris, France"
  name = re.sub(
    r"^(?:in|on|at|by|around)\s+(?=\d|[A-Z]\w+ \d)", "", name, flags=re.I
  )
  first, comma, rest = name.partition(", ")
  if (
    comma and asked.text and set(normalise(rest).split()) <= asked.words | EMPTY
  ):
    name = first
  elif comma and asked.asks_who and not re.match("[JS]r", rest):
    return None
  if _INTRODUCES.match(text) or LIST.search(text) or _CLAUSE.search(text):
    return None
  is_name = not _IS.match(name) and (_is_title(name) or _is_short(name, asked))
  if not is_name or asked.text and not _is_of_its_sort(name, asked):
    return None
  return None if asked.text and _says_nothing(name, asked) else name


def _asked_again(sentence: str, asked: Question) -> str:
  """A sentence without the "between" and "or" that the question has, too."""
  sentence = re.sub(r"\bbetween \d+ and \d+", "", sentence)
  for word in re.findall(r"\b(?:between|or|not|than)\b", asked.text):
    sentence = re.sub(rf"\b{word}\b", "", sentence)
  return sentence


_CONTRACTED = re.compile(r"\w['’](?:ve|re|ll|m|d)\b")


def _is_short(name: str, asked: Question) -> bool:
  """Whether a text has few words, and none of a sentence among them."""
  words = re.findall(r"[^\W_][\w'’]*", name)
  lower = [word for word in words if word.islower()]
  if any(
    word in VERBS or re.fullmatch("[a-z]{3,}ed", word) for word in words
  ) or any(word in NO_NAME for word in lower):
    return False
  if words and words[0].lower() in NO_NAME and len(words) > 2:
    return False
  if name.count("(") != name.count(")") or _CONTRACTED.search(name):
    return False
  if _OBJECT.search(name):
    return False
  is_lower = len(lower) >= len(words) - 1
  most = 3 if is_lower else 5
  if set(normalise(name).split()) & (asked.words - EMPTY):
    most = 2 if lower else 3
  return len(normalise(name).split()) <= most


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
