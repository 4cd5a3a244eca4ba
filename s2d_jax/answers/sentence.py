"""The name that a sentence gives: "paris" in "The capital is Paris.".

A sentence answers a question where it says what the question says, and one
thing more. So its words are told apart: those of the question, those that say
nothing, and new ones. If all new words stand together, at a place where the
answer to such a question stands, they are the answer. A sentence that has other
new words says something else, too, and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
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
  r":\s+(?:a|an|the)\b.*$|\s+[-–—]\s.*$|;.*$"
  r"|,\s+(?:[a-z]+ly\b|[a-z]+(?:\s|$)|i\.e\.|I (?:believe|think|guess)\b).*$"
  r"|(?<=\w)\s+(?:because|since|after|before|where|when|while)\s.*$"
)
LIST = re.compile(r",\s.*\b(?:and|or)\b|,\s.*,\s|\s/\s")
_OPENING = re.compile(
  r"^(?:in|on|at|to|for|from|as of|after|according to|during)\s[^,]*,\s+", re.I
)
_INSERTED = re.compile(
  r",\s+(?:a|an|the|which|who|whose|also|often|sometimes|one|at|with|in|near|or)\b"
  r"[^,]*,(?=\s+[a-z])|\s+and\s+(?:the\s+)?\w+est\s+city\b"
)
_SECOND_VERB = re.compile(
  r"\s+and\s+(?:is|was|has|had|first|later|then|[a-z-]+ed)\b.*$"
)
_TIME = re.compile(
  r"\s+between \d+ and \d+$|\s+(?:in|on|around|about|during|since|by)"
  r"\s+(?:(?:the|early|mid|late|year|about|around|[A-Z][a-z]+)[\s-]+){0,2}"
  r"\d[\w ,]*$"
)
_OPEN = re.compile(
  r"\b(?:could|might|may|can|would not) (?:also )?be\b|n['’]t\b|[\[\]<>]|\?$"
  r"|^the (?:question|text|user|passage|problem)\b",
  re.IGNORECASE,
)
_WORD = re.compile(
  r"\"[^\"]+\"|“[^”]+”|(?<!\w)['‘][^'’]+['’](?!\w)|[A-Z]\w+, (?:[A-Z]\.)+"
  r"|[^\s,;:]+|[,;:]"
)
_ARTICLES = frozenset("a an the its their our".split())
_BE = frozenset("is are was were be been named called".split())
_PREPOSITIONS = frozenset(
  "in on at of from for to into with near by as".split()
)
_LINKS = _ARTICLES | _BE | _PREPOSITIONS | VERBS
_SORTS = frozenset(
  "city country town village state island region place".split()
)
_JOINS = frozenset("of the de da di du del la le van von der and &".split())
_THING = r"\bthe (?:film|movie|book|novel|song|painting)\b"
_PRONOUN = re.compile(
  rf"^\W*(?:it|that|this|he|she|they|its|his|her|{_THING})\b", re.IGNORECASE
)
_THE_THING = re.compile(rf"\bit\b|{_THING}$")


_DESCRIBED = re.compile(
  r"^(?:it|that|this|he|she|the .+?|.+?['’]s .+?)(?:['’]s|\s+(?:is|are|was|were"
  r"|would be|will be))\s+(?:called\s+|known as\s+)?(?P<name>.+)$",
  re.IGNORECASE,
)


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
  was_once = " was " in sentence and not question.asks_who
  if not question.asks_name or was_once and question.is_of_now:
    return None
  for form in _forms(sentence, question):
    name = None
    if not _OPEN.search(form):
      name = _new_name(form, question) or _about_a_work(form, question)
    if name is not None:
      return name
  return None


# Works, by what their makers do.
_MADE = {
  "cmps": "suite symphony opera concerto concertos ballet sonata piece song",
  "wrt": "novel book play poem story memoir tragedy comedy trilogy",
  "pntd": "painting picture portrait fresco mural",
  "drct": "film movie",
}
_WORKS = frozenset(
  " ".join(_MADE.values()).split() + ["series", "musical", "game", "show"]
)
_BY = re.compile(
  r"^(?P<known>.+?)\s+is an?\s+(?P<sort>[a-z -]+?)\s+by\s+(?P<name>[A-Z][^,]*)$"
)
_APPEARS = re.compile(
  r"^(?P<known>.+?)\s+(?:appears|features|is (?:an?|the) (?:[a-z]+ )?character)"
  r"\s+(?:in|of|from)\s+(?P<name>[\"“]?[A-Z].*)$"
)


def _about_a_work(sentence: str, question: Question) -> str | None:
  """Who made a work, or the work in which somebody appears."""
  match = _BY.match(sentence) if question.asks_who else None
  if match:
    made = (_MADE.get(stem, "").split() for stem in question.stems)
    is_right = not set().union(*made).isdisjoint(match["sort"].split())
  else:
    match = _APPEARS.match(sentence)
    is_right = match and not question.words.isdisjoint(_WORKS)
  if not match or not is_right or not stems(match["known"]) <= question.stems:
    return None
  return match["name"] if is_name(match["name"], question) else None


def described(sentence: str) -> str | None:
  """Without a question: "Paris" in "The capital of France is Paris"."""
  match = _DESCRIBED.match(APPOSITION.sub("", sentence))
  is_named = match and re.match(r"(?:the\s+)?[\"“]?[^a-z]", match["name"])
  return match["name"] if is_named and is_name(match["name"]) else None


# "by his eldest son, Edward VII", "by the English composer Gustav Holst"
_ROLE = re.compile(
  r"\bby (?:his|her|its|their|the)\s+"
  rf"(?:(?:[a-z-]+|(?i:{'|'.join(sorted(NATIONS))})),?\s+){{1,4}}(?=[A-Z])"
)


def _forms(sentence: str, question: Question) -> Iterator[str]:
  """A sentence, and it without insertions and subordinate clauses."""
  sentence = re.sub(  # but "Valentine's Day"
    r"^((?i:it|that|this|he|she|there)(?=['’])|\w+(?=['’]s [^A-Z]))"
    r"['’](?:s|d be)\b",
    r"\1 is",
    sentence.rstrip(" .!"),
  )
  sentence = _SECOND_VERB.sub("", _ROLE.sub("by ", sentence))
  time = _TIME.search(sentence)
  if time and not stems(time[0]) & question.stems:
    sentence = sentence[: time.start()]
  yield sentence
  sentence = APPOSITION.sub("", _INSERTED.sub("", _OPENING.sub("", sentence)))
  yield _TIME.sub("", sentence)


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
      if not _is_proper(words, joined):
        break
      end = joined + 1
    start, stop = words[place].start(), words[end - 1].end()
    text = sentence[start:stop]
    if normalise(text):
      is_exact = is_proper and (place > 0 or end > 1)
      sort = _sort(normalise(text), is_proper, is_exact, question)
      if normalise(text) in _SORTS and (
        units and units[-1].word == "a" or words[end:] and words[end][0] == "of"
      ):
        sort = "empty"  # "a city in Mali", "the island of Honshu"
      units.append(_Unit(normalise(text), sort, is_proper, start, stop))
    else:
      units.append(_Unit("", "empty", False, start, stop))
    place = end
  return units


def _is_proper(words: list[re.Match[str]], place: int) -> bool:
  """Whether a word is in quotes or begins a name: the first one may not."""
  text = words[place][0]
  if place == 0 and normalise(text) in NEUTRAL:
    return False
  return re.match(r"[\"“'‘]|\W*[A-Z\d]", text) is not None


def _sort(
  word: str, is_proper: bool, is_exact: bool, question: Question
) -> str:
  if is_proper:
    is_first = not is_exact and question.has_noun(word)
    # Ludwig van Beethoven, where Beethoven was born
    is_full = question.asks_where and word.split()[-1] in question.words
    is_known = question.has_words(word) or is_first or is_full
  else:
    is_known = question.has_stems(word)
  if word in NEUTRAL and (word in _LINKS or not is_known):
    return "empty"
  if is_known:
    return "known"
  is_adverb = re.fullmatch(r"[a-z]{3,}ly", word) and word not in NOT_A_THING
  return "empty" if is_adverb else "new"


def _new_name(sentence: str, question: Question) -> str | None:
  """What is new in a sentence, where it stands as the answer."""
  units = _units(sentence, question)
  start = _named_from(units) if question.asks_class else 0
  new = [n for n, unit in enumerate(units) if unit.sort == "new" and n >= start]
  if not new:
    return None
  first = last = new[0]
  while last + 1 < len(units) and (
    units[last + 1].sort == "new" or _is_title_amid(units, last + 1)
  ):
    last += 1
  run = units[first : last + 1]
  if run[-1].is_proper and not all(map(_is_role, run[:-1])):
    return None
  before = [unit for unit in units[:first] if unit.word]
  after = _behind(units[last + 1 :], run[-1].is_proper, question.asks_place)
  article = ""
  while before and (before[-1].word in _ARTICLES or _is_adverb(before[-1])):
    article = before.pop().word
  missing = question.essential - _stems(before + run + after)
  if any(unit.sort == "new" for unit in after):
    is_told = not missing or _THE_THING.search(sentence)
    after = _without_end(after) if is_told else []
    if not after:
      return None
  if not _says_it(sentence, before, after, missing, question):
    return None
  is_new_sort = article in ("a", "an") and not run[-1].is_proper
  if is_new_sort and not (question.asks_class or question.asks_object):
    if missing or not question.kind:
      return None
  if not _stands_as_answer(before, run[-1].is_proper, after, question):
    return None
  start = run[-1].start if run[-1].is_proper else run[0].start
  if len(run[-1].word) == 1 and before and before[-1].word == question.kind:
    start = before[-1].start  # "vitamin D"
  name = sentence[start : run[-1].end]
  return name if is_name(name, question) else None


def _named_from(units: list[_Unit]) -> int:
  """Where "called" or "known as" stands: what comes before only describes."""
  for place, unit in enumerate(units):
    before = {other.word for other in units[:place]}
    if (
      unit.word in ("called", "named")
      or unit.word == "as"
      and "known" in before
    ):
      return place
  return 0


def _stems(units: list[_Unit]) -> set[str]:
  return set().union(*(stems(unit.word) for unit in units))


def _is_adverb(unit: _Unit) -> bool:
  return unit.sort == "empty" and (
    unit.word.endswith("ly") or unit.word in ("still", "indeed", "also")
  )


def _is_title_amid(units: list[_Unit], place: int) -> bool:
  """Whether a word of the question stands within a name: "author Leo"."""
  following = units[place + 1 : place + 2]
  return bool(
    following
    and units[place].sort == "known"
    and not units[place].is_proper
    and following[0].sort == "new"
    and following[0].is_proper
  )


def _is_role(unit: _Unit) -> bool:
  """Whether a word before a name says who it is: "the Dutch painter Jan"."""
  is_word = not unit.is_proper and unit.word.isalpha()
  return unit.word in NATIONS or is_word and unit.word not in NOT_A_THING


def _behind(
  units: list[_Unit], is_proper: bool, asks_place: bool
) -> list[_Unit]:
  """What follows a name, without "in Dubai", or "from nectar" at the end."""
  rest = [*units]
  while rest and (not rest[0].word or rest[0].word in _PREPOSITIONS):
    is_place = rest[0].word != ""
    if rest[0].word in ("of", "for"):
      break
    ends = (
      n
      for n, unit in enumerate(rest)
      if n and (unit.word in _PREPOSITIONS | _BE or not unit.word)
    )
    end = next(ends, len(rest)) if is_place else 1
    is_last = end == len(rest)
    if is_place and not any(unit.sort == "new" for unit in rest[:end]):
      break
    if is_place and not is_last and not is_proper:
      break
    if not is_place and asks_place and len(rest) == 2:
      return []  # "Rome, Italy"
    rest = rest[end:]
  return [unit for unit in rest if unit.word]


def _without_end(units: list[_Unit]) -> list[_Unit]:
  """What is said before the preposition that new words follow at the end."""
  first = next(n for n, unit in enumerate(units) if unit.sort == "new")
  rest = units[:first]
  while rest and rest[-1].sort == "empty" and rest[-1].word in _ARTICLES:
    rest.pop()
  is_place = rest and rest[-1].word in _PREPOSITIONS - {"of", "for"}
  is_end = not any(unit.word in VERBS for unit in units[first:])
  return rest[:-1] if is_place and is_end else []


def _stands_as_answer(
  before: list[_Unit], is_proper: bool, after: list[_Unit], question: Question
) -> bool:
  """Whether a name stands where the answer to such a question does."""
  if question.asks_who and not is_proper:
    return False
  has_link = any(u.word in VERBS or u.word in _PREPOSITIONS for u in before)
  is_first = not before or not has_link and before[-1].sort == "known"
  has_verb = after and (after[0].sort == "known" or after[0].word in VERBS)
  if is_first and has_verb and (is_proper or not before):
    # "Thor is the god of thunder", "Bats sleep upside down"
    is_agent = "by" in {unit.word for unit in after} - question.words
    asks_other = question.asks_object or question.asks_where
    return not (is_agent or asks_other or question.preposition)
  if not before:
    return False
  if after and after[0].sort == "known" and not is_proper:
    return False
  link = before[-1].word
  if link == "as" and before[-2].word in ("known", "regarded"):
    link = "called"
  if link in _BE:
    is_of_kind = question.kind in {unit.word for unit in before}
    return is_of_kind or not (question.asks_where or question.preposition)
  if link == "by":
    return question.asks_actor
  if link in _PREPOSITIONS:
    if question.asks_who or link == "as":
      return question.asks_class and not question.asks_who
    is_made_of = link in ("of", "for", "from", "with") and question.kind
    return bool(
      question.asks_where
      or link == question.preposition
      or question.asks_place
      and link != "of"
      or is_made_of
      and not after
    )
  if link in ("means", "has", "have"):
    return not question.asks_who
  return question.asks_object and before[-1].sort == "known"


def _says_it(
  sentence: str,
  before: list[_Unit],
  after: list[_Unit],
  missing: set[str],
  question: Question,
) -> bool:
  """Whether a sentence says what was asked, and leaves nothing out."""
  if not missing or _PRONOUN.match(sentence):
    return True
  is_definite = bool(before) and sentence[:4].lower() == "the "
  if any(unit.sort == "new" for unit in before):
    return False
  if is_definite and before[-1].word in ("called", "named"):
    return True
  if len(missing) == len(question.essential) and not any(
    unit.word == question.kind for unit in before
  ):
    return False
  if missing & (question.distinctive | question.head):
    return False
  if is_definite or _THE_THING.search(sentence):
    return True
  is_most = 2 * len(missing) < len(question.essential)
  return is_most and not (question.proper and question.proper <= missing)


_ADJECTIVE = re.compile(r"[a-z]+(?:ed|ly|ful|ous|able|ible|less|est)")


def is_name(name: str, question: Question | None = None) -> bool:
  """Whether a part of a sentence is a name, and of the sort asked for."""
  question = question or Question("")
  words = normalise(name).split()
  is_great = re.search("[A-Z]", name) is not None
  if not 0 < len(words) <= (5 if is_great else 3) or LIST.search(name):
    return False
  if re.search(r"\w['’](?:ve|re|ll|m|d)\b", name):
    return False
  if words[0] in NO_NAME or re.search(r"['’]s\s+[a-z]", name):
    return False
  if stems(name) and stems(name) <= question.stems:
    return False
  if not is_great and not re.match("[\"“'‘]", name):
    if any(w in NOT_A_THING or w in EMPTY for w in words):
      return False
    if _ADJECTIVE.fullmatch(words[-1]) or re.search(r"[a-z]{2,}ly\b", name):
      return False
  elif is_great and words[0] in NOT_A_THING - {"great", "big"}:
    return False
  return question.asks_language or not all(word in NATIONS for word in words)
