"""The name that a sentence gives: "paris" in "The capital is Paris.".

A sentence answers a question where it says what the question says, and one
thing more. So its words are told apart: those of the question, those that say
nothing, and new ones. If all new words stand together, at a place where the
answer to such a question stands, they are the answer. A sentence that has other
new words says something else, too, and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import re
from typing import NamedTuple

from s2d_jax.answers.question import Question
from s2d_jax.answers.words import (
  EMPTY,
  NATIONS,
  NEUTRAL,
  NO_NAME,
  NOT_A_THING,
  VERBS,
  normalise,
  stems,
)

# What follows tells more about a name.
APPOSITION = re.compile(
  r"\s+\([^)]*\)|:\s+(?:a|an|the)\b.*$|\s+[-–—]+\s.*$|;.*$"
  r"|,\s+(?:[a-z]+ly\b|[a-z]+(?:\s|$)|i\.e\.|I (?:believe|think|guess)\b).*$"
  r"|(?<=\w)\s+(?:because|since|after|before|where|when|while)\s.*$"
)
_OPENING = re.compile(
  r"^(?:in|on|at|to|for|from|as of|after|according to|during)\s[^,]*,\s+", re.I
)
_INSERTED = re.compile(
  r",\s+(?:a|an|the|which|who|whose|also|often|sometimes|one|at|with|in|near"
  r"|or|[a-z]{3,}ed|born|known|formerly|now|then|once)\b[^,]*,(?=\s+[a-z])"
  r"|\s+and\s+(?:the\s+)?\w+est\s+city\b|\s+by (?:both )?(?:area|population"
  r"|size|length|volume)(?: and (?:area|population))?\b(?=\s+is\b)"
)
# "The Burj Khalifa in Dubai is …"
_PLACED = re.compile(
  r"^((?:The )?(?:[A-Z][\w-]+ ?)+) in [A-Z]\w+(?:,[^,]*,)?(?=\s+(?:is"
  r"|was|has)\b)"
)
# "by his eldest son, Edward VII", "by the English composer Gustav Holst"
_ROLE = re.compile(
  r"\bby (?:his|her|its|their|the)\s+"
  rf"(?:(?:[a-z-]+|(?i:{'|'.join(sorted(NATIONS))})|[A-Z][a-z]+(?:[iec]an|ish|ese)),?\s+){{1,4}}(?=[A-Z])"
)
# It says nothing: "the largest ocean on Earth is …"
_EVERYWHERE = re.compile(
  r"\s+(?:on (?:planet )?Earth|in the (?:whole |entire )?world|in (?:our"
  r"|the) [Ss]olar"
  r" [Ss]ystem)(?=\s+(?:is|are|was)\b)"
)
_LOOKED_FOR = re.compile(
  r"^the (?:\w+ ){1,3}?(?:that )?(?:you(?:['’]re| are) (?:looking|asking"
  r"|thinking) (?:for|of|about)|in question|you (?:mean|want))\s",
  re.IGNORECASE,
)
_ABOUT = re.compile(
  r"(?<=\bis )(?:about|approximately|roughly|around)\s+(?=[-$€£\d])"
)
_SECOND_VERB = re.compile(
  r"\s+and\s+(?:is|was|has|had|first|later|then|it|[a-z-]+ed)\b.*$"
)
_TIME = re.compile(
  r"\s+between \d+ and \d+$|,?\s+(?:in|on|around|about|during|since|by)"
  r"\s+(?:(?:the|early|mid|late|year|about|around|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug"
  r"|Sep|Oct|Nov|Dec)[a-z]*)[\s-]+){0,3}"
  r"\d[\w ,]*$"
)
LIST = re.compile(r",\s.*\b(?:and|or)\b|,\s.*,\s|\s/\s")
_REGION = re.compile(
  r"(?<=\w),\s+(?:the\s+)?(?:[A-Z][\w.]*\s*)+$"
)  # "Rome, Italy"
_WORD = re.compile(
  r"\"[^\"]+\"|“[^”]+”|(?<!\w)['‘][^'’]+['’](?!\w)|[A-Z]\w+, (?:[A-Z]\.)+"
  r"|[^\s,;:]+|[,;:]"
)
_JOINS = frozenset(
  "of the de da di du del la le van von der den and & in".split()
)
_ARTICLES = frozenset(
  "a an the its their our his her el la le les los las der die das".split()
)
_BE = frozenset("is are was were be been named called".split())
_PREPOSITIONS = frozenset(
  "in on at from into with near by as to for of during under".split()
)
_SORTS = frozenset(
  "city country town village state island region place".split()
)
_PRONOUN = re.compile(
  r"^\W*(?:it|that|this|he|she|they|these|those|its|his|her|their)\b",
  re.IGNORECASE,
)
_PERSON = re.compile(r"^\W*(?:he|she)\b", re.IGNORECASE)
_MOST_NAME_WORDS, _MOST_WORDS = 6, 3  # of a name, of any other thing


class _Unit(NamedTuple):
  """A word, or the words of a proper name.

  Attributes:
    word: normalised.
    sort: "new", "known" from the question, or "empty" of meaning.
    start, end: where it stands in the sentence.
  """

  word: str
  sort: str
  is_proper: bool
  start: int
  end: int


def name_in(sentence: str, question: Question) -> str | None:
  """The name that a sentence gives as the answer to a question, if it does."""
  for form in _forms(sentence):
    name = _new_name(form, question)
    if name is not None:
      return None if _tells_nothing(form, name, question) else name
  return None


def _tells_nothing(sentence: str, name: str, question: Question) -> bool:
  """Whether it only belongs to what is asked for: "the month of the year"."""
  of = re.search(
    rf"\b(\w+) of (?:the|an?|this|that) {re.escape(name)}\b", sentence
  )
  return of is not None and name.islower() and of[1].lower() in question.words


_DESCRIBED = re.compile(
  r"^(?:it|that|this|he|she|the .+?|.+?['’]s .+?)(?:['’]s|\s+(?:is|are|was|were"
  r"|would be|will be))\s+(?:called\s+|known as\s+)?(?P<name>.+)$",
  re.IGNORECASE,
)


def described(sentence: str) -> str | None:
  """Without a question: "Paris" in "The capital of France is Paris"."""
  match = _DESCRIBED.match(APPOSITION.sub("", sentence))
  is_named = match and re.match(r"(?:the\s+)?[\"“]?[^a-z]", match["name"])
  return match["name"] if is_named and is_name(match["name"]) else None


def _forms(sentence: str) -> Iterator[str]:
  """A sentence, and it without insertions and subordinate clauses."""
  sentence = re.sub(
    r"^((?i:it|that|this|he|she|there))['’](?:s|d be)\b",
    r"\1 is",
    sentence.rstrip(" .!"),
  )
  sentence = _LOOKED_FOR.sub("It ", _ABOUT.sub("", sentence))
  sentence = _EVERYWHERE.sub("", sentence)
  sentence = _SECOND_VERB.sub("", _ROLE.sub("by ", sentence))
  yield sentence
  bare = APPOSITION.sub("", _INSERTED.sub("", _PLACED.sub(r"\1", sentence)))
  yield bare
  yield _TIME.sub("", bare)
  yield _TIME.sub("", _OPENING.sub("", bare))
  yield _REGION.sub("", bare)
  yield APPOSITION.sub("", sentence)


def _units(sentence: str, question: Question) -> list[_Unit]:
  words = list(_WORD.finditer(sentence))
  units = []
  place = 0
  while place < len(words):
    end = place + 1
    is_proper = _is_proper(words, place)
    while is_proper and end < len(words):
      joined = end
      while joined < len(words) - 1 and words[joined][0] in _JOINS:
        joined += 1
      is_joined = joined == end or joined - end < 3
      if not is_joined or not _is_proper(words, joined):
        break
      if joined > end and _splits(words, place, joined, question):
        break
      end = joined + 1
    start, stop = words[place].start(), words[end - 1].end()
    word = normalise(sentence[start:stop])
    sort = _sort(word, is_proper, question) if word else "empty"
    if word in _SORTS and units and units[-1].word in ("a", "capital"):
      sort = "empty"  # "a city in Mali", "the capital city"
    units.append(_Unit(word, sort, is_proper and bool(word), start, stop))
    place = end
  return units


def _is_proper(words: list[re.Match[str]], place: int) -> bool:
  """Whether a word is in quotes or begins a name: the first one may not."""
  text = words[place][0]
  if place == 0 and normalise(text) in NEUTRAL:
    return False
  return re.match(r"[\"“'‘]|\W*[A-Z\d]", text) is not None


def _splits(
  words: list[re.Match[str]], place: int, joined: int, question: Question
) -> bool:
  """Whether "in" or "and" stands between two names: "Rome in Italy"."""
  texts = [words[n][0] for n in range(place, joined)]
  if "in" in texts or "and" in texts:
    return True
  names = [normalise(text) for text in texts if text not in _JOINS]
  is_known = all(map(question.knows, names))
  return is_known != question.knows(normalise(words[joined][0]))


def _sort(word: str, is_proper: bool, question: Question) -> str:
  if is_proper:
    known = {one.removesuffix("s") for one in question.words} | EMPTY
    is_known = all(one.removesuffix("s") in known for one in word.split())
    return "known" if is_known or word in question.words else "new"
  if word in VERBS | _PREPOSITIONS | _ARTICLES:
    return "empty"
  if question.knows(word):
    return "known"
  if word in NEUTRAL or word.endswith("ly") and word not in NOT_A_THING:
    return "empty"
  return "new"


def _new_name(sentence: str, question: Question) -> str | None:
  """What is new in a sentence, where it stands as the answer."""
  units = _units(sentence, question)
  start = _named_from(units) if question.asks_class else 0
  new = [n for n, unit in enumerate(units) if unit.sort == "new" and n >= start]
  if not new or re.search(r"[\[\]<>?]", sentence):
    return None
  first = last = new[0]
  while last + 1 < len(units) and units[last + 1].sort == "new":
    last += 1
  run = units[first : last + 1]
  before = [unit for unit in units[:first] if unit.word]
  after = [unit for unit in units[last + 1 :] if unit.word]
  if any(unit.sort == "new" for unit in after):
    after = _without_end(after)
    if after is None:
      return None
  while before and (before[-1].word in _ARTICLES or _says_nothing(before[-1])):
    before = before[:-1]
  while after and _says_nothing(after[0]):
    after = after[1:]
  is_told_of = [unit.sort for unit in before[-1:]] == ["known"]
  if is_told_of and before[-2:-1] and before[-2].word == "the":
    if before[-3:-2] and before[-3].word in _BE:
      before = before[:-2]  # "is the human brain"
  if not _says_it(sentence, before, after, question):
    return None
  if not _stands_as_answer(before, run, after, question):
    return None
  start = _start(run)
  if len(run[-1].word) == 1 and before and before[-1].word == question.kind:
    start = before[-1].start  # "vitamin D"
  name = "" if start is None else sentence[start : run[-1].end]
  if owner := re.fullmatch(r"(.*\w)['’]s?", name):
    # "It was Tesla's invention."
    name = owner[1] if question.asks_who else ""
  return name if is_name(name, question) else None


def _start(run: Sequence[_Unit]) -> int | None:
  """Where a name starts: "Jan" in "the Dutch painter Jan Steen"."""
  others = [unit for unit in run[:-1] if unit.is_proper]
  if run[-1].is_proper:
    is_role = all(unit.word in NATIONS for unit in others)
    return run[-1].start if is_role else None
  return run[0].start if all(unit is run[0] for unit in others) else None


def _named_from(units: Sequence[_Unit]) -> int:
  """Where "called" stands: what comes before only describes."""
  places = [
    n for n, unit in enumerate(units) if unit.word in ("called", "named")
  ]
  is_new = places and any(unit.sort == "new" for unit in units[places[0] :])
  return places[0] if is_new else 0


def _says_nothing(unit: _Unit) -> bool:
  return unit.sort == "empty" and (
    unit.word.endswith("ly")
    or unit.word in ("still", "indeed", "also", "just", "famous", "great")
  )


_BEFORE_PLACE = _PREPOSITIONS - {"of", "for", "by"}


def _without_end(after: Sequence[_Unit]) -> Sequence[_Unit] | None:
  """What follows a name, without "in Dubai", or "from nectar" at the end."""
  start = next(n for n, unit in enumerate(after) if unit.sort == "new")
  while start and after[start - 1].word in _ARTICLES:
    start -= 1
  if not start or after[start - 1].word not in _BEFORE_PLACE:
    return None
  if any(unit.word in VERBS for unit in after[start:]):
    return None
  return after[: start - 1]


def _says_it(
  sentence: str,
  before: Sequence[_Unit],
  after: Sequence[_Unit],
  question: Question,
) -> bool:
  """Whether a sentence says what was asked, and leaves nothing out."""
  told = [*before, *after]
  said = set().union(*(stems(unit.word) for unit in told)) if told else set()
  missing = question.essential - said
  if not missing:
    return True
  if _PERSON.match(sentence) and not question.asks_who:
    return False
  if _PRONOUN.match(sentence):
    return not any(unit.sort == "known" for unit in told) or not (
      missing & question.distinctive and question.distinctive & said
    )
  if any(unit.word in ("called", "named") for unit in before):
    if question.asks_class and any(unit.sort == "new" for unit in before):
      return False
  if missing & (question.distinctive | question.head):
    return False
  if 2 * len(missing & question.names) > len(question.names):
    return False
  is_definite = re.match(r"the\s", sentence, re.I) or any(
    a.word in ("the",) for a in told
  )
  has_head = question.head and question.head <= said
  has_kind = question.kind in {unit.word for unit in before}
  if is_definite and (has_head or has_kind):
    return True
  return not question.head and 2 * len(missing) <= len(question.essential)


def _stands_as_answer(
  before: Sequence[_Unit],
  run: Sequence[_Unit],
  after: Sequence[_Unit],
  question: Question,
) -> bool:
  """Whether a name stands where the answer to such a question does."""
  is_proper = run[-1].is_proper
  if before and before[-1].word == question.kind and len(run[-1].word) == 1:
    before = before[:-1]  # "by vitamin C"
  if question.asks_who and not is_proper:
    return False
  if not before:
    # "Thor is the god of thunder", "Bats sleep upside down"
    has_verb = after and (after[0].sort == "known" or after[0].word in VERBS)
    if not has_verb or any(unit.word == "by" for unit in after):
      return False
    is_kind = question.kind and any(u.word == question.kind for u in after)
    return not question.asks_where and (
      not question.has_preposition or bool(is_kind)
    )
  link = before[-1].word
  if is_proper and not after and question.head and stems(link) == question.head:
    return True  # "has the chemical symbol Au"
  if after and after[0].sort == "known" and not is_proper:
    return False  # "a rock band"
  if (
    link in _BE
    or link == "as"
    and {"known", "regarded"} & {u.word for u in before[-3:]}
  ):
    if question.asks_where and not is_proper:
      return False
    is_named = {unit.word for unit in before} & {question.kind, "place", "it"}
    return (
      bool(is_named)
      or not (question.asks_where or question.has_preposition)
      or not is_proper
      or bool(question.head)
    )
  if link == "by":
    return not question.asks_where and not question.asks_number
  if link in _PREPOSITIONS:
    if question.asks_who or link == "as":
      return False
    return bool(
      question.asks_where
      or question.asks_place
      and link != "of"
      or link in question.words
      or link in ("of", "for", "from", "with")
      and question.kind
      and not after
    )
  if link in ("means", "has", "have"):
    verbs = [unit for unit in before if unit.word in VERBS]
    is_told = any(unit.sort == "known" for unit in before)
    return not question.asks_who and len(verbs) == 1 and is_told
  asks_object = bool({"do", "does", "did"} & question.words)
  return asks_object and before[-1].sort == "known"


_ADJECTIVE = re.compile(r"[a-z]+(?:ed|ing|ly|ful|ous|able|ible|less|est)")


def is_name(name: str, question: Question | None = None) -> bool:
  """Whether a part of a sentence is a name, and of the sort asked for."""
  words = normalise(name).split()
  is_great = re.search("[A-Z]", name) is not None
  most = _MOST_NAME_WORDS if is_great else _MOST_WORDS
  if not 0 < len(words) <= most or LIST.search(name):
    return False
  if re.search(r"\w['’](?:ve|re|ll|m|d)\b", name):
    return False
  if words[0] in NO_NAME or re.search(r"['’]s\s+[a-z]", name):
    return False
  if question and stems(name) and stems(name) <= question.stems:
    return False
  if not is_great and not re.match("[\"“'‘]", name):
    if any(w in NOT_A_THING or w in EMPTY for w in words):
      return False
    if _ADJECTIVE.fullmatch(words[-1]) or re.search(r"[a-z]{2,}ly\b", name):
      return False
  elif is_great and words[0] in NOT_A_THING - {"great", "big", "new", "old"}:
    return False
  asks_people = question and not question.words.isdisjoint(
    {"language", "nation", "people", "nationality"}
  )
  return bool(asks_people) or not all(word in NATIONS for word in words)
