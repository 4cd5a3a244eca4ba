"""The name that a sentence gives: "paris" in "The capital is Paris."."""

from __future__ import annotations

from collections.abc import Iterator
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.words import NO_NAME, normalise, stems

# What follows tells more about a name.
APPOSITION = re.compile(
  r":\s+(?:a|an|the)\b.*$|\s+[-–—]\s.*$|;.*$"
  r"|,\s+(?:[a-z]+ly\b|[a-z]+\s|i\.e\.|I (?:believe|think|guess)\b).*$"
  r"|(?<=\w)\s+(?:because|since|after|before)\s.*$"
)
LIST = re.compile(r",\s.*\b(?:and|or)\b|,\s.*,\s|\s/\s")

_INSERTED = re.compile(
  r",\s+(?:a|an|the|which|who|whose|also|often|sometimes|one|at|with|in|near)\b"
  r"[^,]*,(?=\s+[a-z])"
)
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
  """The name that a sentence gives, where its form leaves no doubt.

  It stands at one side of a verb or preposition, and the other side says what
  the question asks. Where the sentence can be taken in two ways, there is none.
  """
  if _CUT_OFF.search(sentence):
    return None
  if asks_number(question):
    return _number_in(sentence, question)
  sentence = APPOSITION.sub("", _INSERTED.sub("", sentence))
  if pronoun := PRONOUN.match(sentence):
    name = pronoun["name"]
    # "It was he who commissioned it", "It is huge"
    is_new = stems(pronoun["clause"] or "") - stems(question)
    if (
      not is_new and not _ADJECTIVE.fullmatch(name) and is_name(name, question)
    ):
      return name
  if not question:
    described = _DESCRIBED.match(sentence)
    name = described["name"] if described else None
    return name if name and is_name(name, question) else None
  names = {
    normalise(name): name
    for name, rest in _sides(sentence, question)
    if is_name(name, question) and says(rest, question)
  }
  return names.popitem()[1] if len(names) == 1 else None


def asks_number(question: str) -> bool:
  """Whether a number is asked for, or a time."""
  return _ASKS_NUMBER.search(question) is not None


def is_number(name: str) -> bool:
  """Whether a name is a number or a time, and its unit."""
  has_number = re.search(r"\d", name) or _NUMBER.search(name)
  rest = _NUMBER.sub("", _DATE.sub("", name))
  words = re.findall(r"[^\W\d_]{2,}", rest)
  is_short = len(words) <= 3 and not any(
    word[0].isupper() for word in words[1:]
  )
  return is_short and bool(has_number or name.islower())


_CALLED = r"(?:\w+ly\s+)?(?:called|named|known as|termed)"
_COPULA = re.compile(rf"\s+{_IS}\s+(?:\w+ly\s+|still\s+|indeed\s+)?")
_NAMING = re.compile(
  rf"\s+(?:{_IS}\s+{_CALLED}|means|stands for)\s+(?:an?\s+(?=[a-z]))?"
)
_PREPOSITION = re.compile(r"\s+(?:by|in|on|at|from|of|with|to|for)\s+")
_TAIL = re.compile(
  r"\s+(?:by|in|on|at|from|with|to|for|during|through|when|as|who|that|which)\s"
  r".*$"
)
# "the Dutch painter Vincent van Gogh"
_ROLE = (
  r"(?:the|an?)\s+(?:(?!of\b|in\b)[\w-]+\s+){0,2}?(?!of\b|in\b)[a-z]+\s+"
  r"(?=[A-Z])"
)
_NAME_END = re.compile(
  r"[\"”)]?(?:$|,(?!\s[A-Z])|[.;:]|\s\(|\sand\s(?=[a-z])|\s(?:in|on|at|by|of"
  r"|from|for|with|during|around|about|as|between|after|before|who|which|that)\s)"
)
_THING = re.compile(r"(?:The|A|An)\s+(?:[a-z]+\s+)?[a-z]+(?=\s)")
# Names in capitals, and titles: "Gone with the Wind".
_PROPER = re.compile(
  r"(?:(?:The|the|An|A)\s+)?[\"“]?[A-Z\d][^\s,]*"
  r"(?:\s+(?:(?:of|the|de|da|di|van|von|and|la|le)\s+)*[\"“]?[A-Z\d][^\s,]*)*"
)


def _sides(sentence: str, question: str) -> Iterator[tuple[str, str]]:
  """Parts of a sentence that may be a name, each with the rest."""
  for link in _NAMING.finditer(sentence):
    yield _TAIL.sub("", sentence[link.end() :]), sentence[: link.start()]
  is_where = _ASKS_WHERE.match(question)
  for link in _COPULA.finditer(sentence):
    before, after = sentence[: link.start()], sentence[link.end() :]
    if not is_where and not _NAMING.match(sentence, link.start()):
      yield from _predicates(after, before, question)
    yield before, after
    # "The Burj Khalifa in Dubai is the tallest building"
    proper = _PROPER.match(before)
    if proper and _PREPOSITION.match(before, proper.end()):
      yield proper[0], after
  asked = stems(question)
  if _ASKS_ACTOR.match(question):
    for link in re.finditer(rf"\s+by\s+(?:{_ROLE})?", sentence):
      name = _PROPER.match(sentence, link.end())
      before = sentence[: link.start()]
      is_asked = says(before, question, new=0)
      if is_asked and name and _NAME_END.match(sentence, name.end()):
        yield name[0], before
      break
    # "George Orwell wrote 1984"
    # "The tuba has four valves"
    name = _PROPER.match(sentence) or _THING.match(sentence)
    rest = sentence[name.end() :].lstrip() if name else ""
    words = set(normalise(question).split())
    verb = normalise(rest).partition(" ")[0]
    if name and (stems(verb) & asked or verb in words):
      if says(_TAIL.sub("", rest), question, new=0):
        yield name[0], rest[: len(_TAIL.sub("", rest))]
      elif says(rest, question, new=0):
        yield name[0], rest
  if is_where or re.match(r"\W*(?:in|on|at|from|to) ", question, re.I):
    for link in _PREPOSITION.finditer(sentence):
      name = _PROPER.match(sentence, link.end())
      if name and _NAME_END.match(sentence, name.end()):
        yield name[0], sentence[: link.start()]
  if asked_with := _ENDS_WITH.search(question):
    # "Which language is Linux written in?" "Linux is written in C"
    before, link, name = sentence.partition(f" {asked_with[1]} ")
    yield name, before
  if _ASKS_OBJECT.search(question):
    # "Bees make honey from nectar"
    words = sentence.split()
    for n in range(2, len(words)):
      before, name = words[:n], words[n:]
      if all(stems(w) <= asked for w in before) and stems(name[0]) - asked:
        if stems(before[-1]):
          yield _TAIL.sub("", " ".join(name)), " ".join(before)
        break


def _predicates(
  after: str, before: str, question: str
) -> Iterator[tuple[str, str]]:
  """What stands behind "is": a name, or where that is asked a thing."""
  role = re.match(_ROLE, after) if _ASKS_NAME.match(question) else None
  proper = _PROPER.match(after, role.end() if role else 0)
  if proper and _NAME_END.match(after, proper.end()):
    yield proper[0], before
  elif _ASKS_WHAT.search(question):
    yield after, before


_ASKS_WHAT = re.compile(r"\b(?:is|are|was|were|called?)\b", re.IGNORECASE)
_NEUTRAL = frozenset().union(
  *map(
    stems,
    "film movie book novel world earth human located"
    " situated official commonly widely correct right answer our".split(),
  )
)
_PRONOUNS = frozenset(stem for word in NO_NAME for stem in stems(word))
_PRONOUN = re.compile(r"^\W*(?:it|he|she|they|this|that|who|which)\b", re.I)


def says(rest: str, question: str, new: int = 1) -> bool:
  """Whether a part of a sentence says what was asked, and little else.

  Args:
    rest: a sentence without the name, or the number, in it.
    question: what was asked.
    new: how many words it may have that the question has not.
  """
  asked = stems(_ASKED_KIND.sub("", question)) or stems(question)
  said = stems(rest)
  known = said & stems(question)
  others = said - known - _NEUTRAL - _PRONOUNS
  if not known or len(others) > new or 2 * len(others) > len(known):
    return False
  is_short = _PRONOUN.match(rest) or re.match(r"\W*the\b", rest, re.I)
  return 2 * len(known & asked) >= len(asked) or bool(is_short and not others)


# "Which planet", "in what year"
_ASKED_KIND = re.compile(
  r"\b(?:which|what|whose|how many|how much)\s+(?!is\b|are\b|was\b|were\b)\w+",
  re.IGNORECASE,
)
_ASKS_TIME = re.compile(r"^\W*when\b|\b(?:year|date)\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(
  r"^\W*when\b|\b(?:year|date|century|decade|percentage)\b"
  r"|\bhow (?!do|did|is|are|was|were|can|to|could|would)\w+\b",
  re.IGNORECASE,
)
_ASKS_NAME = re.compile(r"^\W*(?:who|where|whose)\b", re.IGNORECASE)
_ASKS_ONE = re.compile(r"^\W*(?:who|which|where)\b", re.IGNORECASE)
_ASKS_WHERE = re.compile(r"^\W*where\b", re.IGNORECASE)
_ASKS_ACTOR = re.compile(
  r"^\W*(?:who|(?:which|what) (?:\w+ ){0,3}?(?!is|are|do|does|did)\w+)\b", re.I
)
_ENDS_WITH = re.compile(r"\b(in|of|from|on|with)\W*$")
_ASKS_OBJECT = re.compile(r"\b(?:do|does|did)\b", re.IGNORECASE)
_ASKS_CLASS = re.compile(
  r"\b(?:kind|type|sort|call|called|term|word for"
  r"|what (?:is|are|was) (?:an? )?\w+\W*$)",
  re.IGNORECASE,
)
_DESCRIPTION = re.compile(
  r"(?:the|one)\b.+\s(?:of|that|by|called|named|from|in|for)\b|an?(?:\s+[a-z]\w*){3,}"
  r"|.*\s(?:in|at|by|on|from|for|with|to)\s|.*['’]s\s+[a-z]|[a-z].*\sand\s"
  r"|(?:[a-z]{3,}ed|all|about|known|with|from|to|for|by|as|used|made|found|when|very|so|many"
  r"|several|some|various|different|lots|each|every|such|both|often|also|part|one)\b",
)


_NATIONAL = re.compile(
  r"british|english|french|german|dutch|greek|american|italian|russian|indian"
  r"|spanish|polish|irish|scottish|swedish|danish|turkish|swiss|chinese|japanese"
  r"|austrian|norwegian|european|african|asian|female|male"
)
_NO_THING = frozenset("each every all some many both most other".split())


def is_name(name: str, question: str) -> bool:
  """Whether a part of a sentence is a name, and of the sort asked for."""
  words = normalise(name).split()
  if not 0 < len(words) <= 5 or ": " in name or replies.refuses(name):
    return False
  if any(word in NO_NAME for word in words) or LIST.search(name):
    return False
  if re.search(r"[A-Z]\S*\s[a-z]{4,}\s[A-Z]", name):
    return False  # a sentence
  is_one = _ASKS_ONE.match(question)
  if words[0] in _NO_THING or is_one and not re.search(r"[^\W\d]", name):
    return False
  if is_one and all(map(_NATIONAL.fullmatch, words)):
    return bool(
      re.match(r"\W*which\s+(?:language|nation|people)", question, re.I)
    )
  is_described = _DESCRIPTION.match(name) and not _PROPER.fullmatch(name)
  if is_described or not stems(name) - stems(question):
    return False
  if re.match(r"an?\s+[a-z]", name) and not _ASKS_CLASS.search(question):
    return False
  is_great = bool(re.match(r"[\"“]?(?:the\s+)?[^a-z]", name))
  if question and not is_great and len(words) > 3:
    return False
  return is_great or not _ASKS_NAME.match(question)


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


def _number_in(sentence: str, question: str) -> str | None:
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
