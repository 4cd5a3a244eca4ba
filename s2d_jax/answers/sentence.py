"""The name that a sentence gives: "paris" in "The capital is Paris."."""

from __future__ import annotations

from itertools import compress
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.words import EMPTY, NO_NAME, normalise, stems

# What follows tells more about a name.
APPOSITION = re.compile(
  r":\s+(?:a|an|the)\b.*$|\s+[-–—]\s.*$|;.*$"
  r"|,\s+(?:[a-z]+ly\b|[a-z]+\s|i\.e\.|I (?:believe|think|guess)\b).*$"
  r"|(?<=\w)\s+(?:because|since|after|before)\s.*$"
)
LIST = re.compile(r",\s.*\b(?:and|or)\b|,\s.*,\s|\s/\s")

_IS = r"(?:is|are|was|were|would be|will be)"
PRONOUN = re.compile(
  rf"^(?:it|that|this|he|she|they)(?:['’](?:s|d be)|\s+{_IS})\s+"
  r"(?:called (?:an?\s+)?|known as\s+|in\s+|on\s+|at\s+)?"
  r"(?P<name>.+?)(?P<clause>\s+(?:that|who|which)\s.*)?$",
  re.IGNORECASE,
)
# Without a question: "The capital of France is Paris."
_DESCRIBED = re.compile(
  rf"^(?:the .+?|.+?['’]s .+?)\s+{_IS}\s+(?P<name>.+)$", re.IGNORECASE
)
_ADJECTIVE = re.compile(r"(?:very |so |\w+ly )?[a-z]+")
_CUT_OFF = re.compile(rf"\s(?:{_IS}|the|a|an|of|by|in)$")


def name_in(sentence: str, question: str) -> str | None:
  """The name that a sentence gives, where its form leaves no doubt."""
  if _CUT_OFF.search(sentence):
    return None
  sentence = APPOSITION.sub("", sentence)
  if pronoun := PRONOUN.match(sentence):
    name = pronoun["name"]
    # "It was he who commissioned it", "It is huge"
    is_new = stems(pronoun["clause"] or "") - stems(question)
    if is_new or _ADJECTIVE.fullmatch(name):
      return None
  elif question:
    name = _beside_question(sentence, question)
  else:
    described = _DESCRIBED.match(sentence)
    name = described["name"] if described else None
  return name if name and _is_name(name, question) else None


def _beside_question(sentence: str, question: str) -> str | None:
  """The new words at one end of a sentence that else repeats the question."""
  if not _ASKS_NUMBER.search(question):
    sentence = _WHEN.sub("", sentence)
  if re.match("where", question, re.IGNORECASE):
    sentence = sentence.replace(" located ", " ")
  asked = stems(question)
  words = [word for word in sentence.split() if normalise(word)]
  known = [
    stems(word) <= asked or word.islower() and word.endswith("ly")
    for word in words
  ]
  if all(known):
    return None
  first = known.index(False)
  last = len(known) - known[::-1].index(False)
  if any(map(stems, compress(words[first:last], known[first:last]))):
    return None
  # "Pacific Ocean", where the question has "ocean"
  while last < len(words) and words[last][0].isupper():
    last += 1
  while first > 1 and (words[first - 1][0] + words[first][0]).isupper():
    first -= 1
  before, run, after = words[:first], words[first:last], words[last:]
  is_end = not after or not stems(" ".join(before))
  # A lower-case word that no verb or preposition parts from what is known is
  # a verb itself: "Water freezes", "China used to".
  nearest = before[-1].lower() if before and run[0].islower() else "is"
  is_object = nearest in EMPTY or _ASKS_OBJECT.search(question)
  if nearest in _SUBJECTS or not is_object:
    return None
  # "The Louvre is a museum."
  is_class = not after and before and before[-1].lower() in ("a", "an")
  if is_class and not _ASKS_CLASS.search(question):
    return None
  if run[-1].islower() and after and after[0].lower() in _NO_VERB:
    return None
  is_asked = is_end and _is_asked(before + after, question)
  return " ".join(run) if is_asked else None


_NO_VERB = frozenset("a an the to in on at of by for from with as".split())
_ASKS_OBJECT = re.compile(r"\b(?:do|does|did)\b", re.IGNORECASE)


_SUBJECTS = frozenset("he she it they this that who which".split())


def _is_asked(words: list[str], question: str) -> bool:
  """Whether words say what was asked: its first word, or most of it."""
  said = stems(" ".join(words))
  asked = [
    stem
    for word in normalise(_ASKED_KIND.sub("", question)).split()
    for stem in stems(word)
  ]
  subject = words[0].lower() if said else ""
  # "The capital is …" needs not say of what, nor "He created …" who.
  if subject in _SUBJECTS:
    return True
  if subject == "the" and said == set(asked[: len(said)]):
    return True
  known = sum(stem in said for stem in asked)
  is_half = known > 1 and not _ASKS_NAME.match(question)
  return 2 * known > len(asked) or is_half and 2 * known == len(asked)


# "Which planet", "in what year"
_ASKED_KIND = re.compile(
  r"\b(?:which|what|whose|how many|how much)\s+(?!is\b|are\b|was\b|were\b)\w+",
  re.IGNORECASE,
)


_ASKS_TIME = re.compile(r"^\W*when\b|\b(?:year|date)\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(
  r"\b(?:when|year|date|century|decade|percentage"
  r"|how (?!do|did|is|are|was|were|can|to|could|would)\w+)\b",
  re.IGNORECASE,
)
_ASKS_NAME = re.compile(r"^\W*(?:who|where|whose)\b", re.IGNORECASE)
_ASKS_CLASS = re.compile(
  r"\b(?:kind|type|sort|what (?:is|are|was) (?:an? )?\w+\W*$)", re.IGNORECASE
)
_DESCRIPTION = re.compile(
  r"(?:the|one)\b.+\s(?:of|that|by|called|named|from|in|for)\b|an?(?:\s+[a-z]\w*){3,}"
  r"|.*\s(?:in|at|by|on|from|for|with|to)\s|.*['’]s\s+[a-z]|[a-z].*\sand\s"
  r"|(?:[a-z]{3,}ed|all|about|with|from|to|for|by|as|used|made|found|when|very|so|many"
  r"|several|some|various|different|lots)\b",
)


def _is_name(name: str, question: str) -> bool:
  """Whether a part of a sentence is a name, and of the sort asked for."""
  words = normalise(name).split()
  if not 0 < len(words) <= 5 or ": " in name or replies.refuses(name):
    return False
  if any(word in NO_NAME for word in words) or LIST.search(name):
    return False
  if re.search(r"[A-Z]\S*\s[a-z]{4,}\s[A-Z]", name):
    return False  # a sentence
  if _DESCRIPTION.match(name) or not stems(name) - stems(question):
    return False
  if re.match(r"an?\s+[a-z]", name) and not _ASKS_CLASS.search(question):
    return False
  if _ASKS_TIME.search(question):
    return re.match(r"(?:\w+ )?\d+\b(?! [a-z]{3})", name) is not None
  if _ASKS_NUMBER.search(question):
    return bool(re.search(r"\d", name)) or words[0] in _NUMBER_WORDS
  is_great = bool(re.match(r"(?:the\s+)?[^a-z]", name))
  return is_great or not _ASKS_NAME.match(question)


_NUMBER_WORDS = frozenset(
  "one two three four five six seven eight nine ten eleven twelve".split()
)
_WHEN = re.compile(
  r"\s+(?:in|on|at|during|around|about)\s+(?:the\s+)?[^,]*"
  r"(?:\d|century|\bera\b)[^,]*$"
)
