"""Short free text: "paris" in "(B) Paris" and "The capital is Paris."."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError

_ARTICLE = re.compile("a|an|the", re.IGNORECASE)
# Signs that belong to a word: ".NET", "-5", "$5"; "C++", "C#", "50%".
_SIGNS_BEFORE = re.compile(r"(?:\.(?=[^\W\d]{2})|[-+]?[$€£¥₹]?\.?(?=\d)|[#@&])")
_SIGNS_BEHIND = "+#%°"


def normalise(text: str) -> str:
  """Lower case, no articles, no punctuation round words, single spaces.

  Latin letters lose their accents; marks of other scripts are letters of their
  own and stay. "C++", "-5", "3.14" and "AC/DC" keep their signs.
  """
  text = re.sub(r"[−‐‑–]", "-", unicodedata.normalize("NFKC", text))
  text = re.sub("[\ufe0e\ufe0f\u200b-\u200d]", "", text)  # of emoji
  words = [word for word in text.split() if _bare(word)]
  last = len(words) - 1
  kept = [
    _bare(word)
    for place, word in enumerate(words)
    # "Vitamin A" and "A. A. Milne" have no article.
    if not (
      _ARTICLE.fullmatch(_bare(word))
      and "." not in word
      and place < last
      and (word.islower() or not place)
    )
  ]
  return _without_accents(" ".join(kept)).casefold()


def _without_accents(text: str) -> str:
  kept: list[str] = []
  base = ""
  for c in unicodedata.normalize("NFD", text):
    if not unicodedata.combining(c):
      base = c
    elif unicodedata.name(base, "").startswith("LATIN") if base else False:
      continue
    kept.append(c)
  return unicodedata.normalize("NFC", "".join(kept))


def _bare(word: str) -> str:
  """A word without punctuation round it, or dots between initials."""
  start, end = 0, len(word)
  while start < end and not (
    _is_letter(word[start]) or _SIGNS_BEFORE.match(word, start)
  ):
    start += 1
  while end > start and not (
    _is_letter(word[end - 1]) or word[end - 1] in _SIGNS_BEHIND
  ):
    end -= 1
  word = word[start:end]
  # "u.s.a", "j.r.r"; but "3.14" and "example.org" stay.
  if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
    return word.replace(".", "")
  return re.sub("['’]", "", word).replace("_", " ").strip()


def _is_letter(c: str) -> bool:
  """Letters, digits, and the marks that some scripts write behind them."""
  return unicodedata.category(c)[0] in "LNM"


_LABEL = re.compile(
  r"^\W*?\(?(?:[A-Ha-h]|\d{1,2})[.)][)\s]\s*(?=\S)(?![A-Z]\.)"
)
_SPEAKER = re.compile(r"^\s*(?:A|Assistant|Response)\s*:\s*")
_HEDGE = re.compile(
  r"^(?:(?:well|actually|yes|no|so|therefore|thus|okay|in [^,.]+),\s*)*"
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
# Who takes it back, or tells of what others think, has to be read whole.
_TAKEN_BACK = re.compile(
  r"\b(?:wait|however|correction|I meant|sorry|on second thought|scratch that"
  r"|formerly|used to be|until \d+|actually,? no)\b|\bno, (?:it|that)\b"
  r"|(?:\.\.|…)\s*actually\b"
  r"|\b(?:people|many|most|some|others)\b.*\b(?:think|believe|say|assume)\b",
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
# What follows tells more about a name.
_APPOSITION = re.compile(
  r":\s+(?:a|an|the)\b.*$|\s+\([^)]*\)$|\s+[-–—]\s.*$|;.*$"
  r"|,\s+of course\b.*$"
  r"|,\s+(?:which|who|where|that|a|an|the|located|known|and|as|including|at|in"
  r"|with|while|so|but|because|since|also)\b.*$"
  r"|(?<=\w)\s+(?:which|who|because|since|whose)\s.*$",
  re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?<=\w)\s(?:which|who|because|since|whose)\s")
_LIST = re.compile(r",.*\b(?:and|or)\b|,.*,")

_VERBS = frozenset(
  """
  is are was were be been am has have had do does did can could will would shall
  should may might must says said means
  """.split()
)
_NO_NAME = _VERBS | set(
  """
  i you we he she they it me us them him her my your our their this that these
  those there here please let hmm
  """.split()
)
# Words that say nothing new about what was asked.
_EMPTY = _VERBS | set(
  """
  a an the in on at of by to for from with who what which where when how why it
  he she they this that there most its and city country place thing person one
  name number question answer called known as
  """.split()
)
_MOST_NEW_WORDS = 4


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
    if _is_echo(given, question) or _PLACEHOLDER.match(given):
      return None
    if _lists_several(given):
      return None
    found = replies.sentences(_LABEL.sub("", _SPEAKER.sub("", given)))
    if not found or replies.refuses(" ".join(found[:2])):
      return None
    if found[0].endswith("?") or any(map(_TAKEN_BACK.search, found)):
      return None
    sentence = _DENIED_TAIL.sub("", _HEDGE.sub("", found[0].rstrip(" .!")))
    if _OPEN.search(sentence):
      return None
    asked = set(normalise(question).split()) | _EMPTY
    name = _alone(sentence, asked if question else set())
    if name is not None and question and _says_nothing(name, question):
      return None
    is_whole = bool(statements) or len(found) == 1
    is_strict = is_whole and name is not None and not _HEDGE.match(found[0])[0]
    if name is None:
      name = _of_sentence(sentence, asked, bool(question))
    answer = normalise(name or "")
    if not 0 < len(answer.split()) <= self.max_words:
      return None
    return Answer(answer, is_strict)


def _lists_several(text: str) -> bool:
  """Whether a text is several lines with an answer each."""
  lines = [line for line in text.splitlines() if line.strip()]
  labelled = sum(bool(_LABEL.match(line)) for line in lines)
  short = sum(len(line.split()) <= 2 for line in lines)
  return labelled > 1 or len(lines) > 1 and short == len(lines)


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
  is_echo = set(words) <= known and not re.search(r"\bor\b", question)
  return is_echo or words in _POLITE


_POLITE = [[word] for word in "sure okay ok nothing hello hi the i it".split()]


def _alone(text: str, asked: set[str]) -> str | None:
  """A text that is a name and no sentence, without what tells more of it."""
  label, colon, name = _APPOSITION.sub("", text).rpartition(": ")
  if colon and not _is_known(label, asked):
    return None
  # "In 1945", "Paris, France"
  name = re.sub(
    r"^(?:in|on|at|by|around)\s+(?=\d|[A-Z]\w+ \d)", "", name, flags=re.I
  )
  first, comma, rest = name.partition(", ")
  if comma and asked and set(normalise(rest).split()) <= asked:
    name = first
  words = re.findall(r"[^\W_][\w'’]*", name)
  has_verb = any(
    word in _VERBS or re.fullmatch("[a-z]{3,}ed", word) for word in words
  )
  lower = [word for word in words if word.islower()]
  if has_verb or _PRONOUN.match(name) or _LIST.search(text):
    return None
  if any(word in _NO_NAME for word in lower) or _CLAUSE.search(text):
    return None
  if words and words[0].lower() in _NO_NAME and len(words) > 2:
    return None
  if _is_title(name):
    return name
  known = set(normalise(name).split()) & (asked - _EMPTY)
  most = 3 if len(lower) >= len(words) - 1 else 5
  if known:
    most = 2 if lower else 3
  return name if len(normalise(name).split()) <= most else None


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


_IS = r"(?:is|are|was|were|would be|will be)"
_PRONOUN = re.compile(
  rf"^(?:it|that|this|he|she|they|there)(?:['’]s|\s+{_IS})\s+(?P<name>.+)$",
  re.IGNORECASE,
)
_LINK = re.compile(
  rf"\s+{_IS}\s+"
  r"(?:(?:actually|currently|still|also|usually|often|just|probably|called"
  r"|known as|named|located|said to be)\s+)*"
  r"(?:in\s+|on\s+|at\s+)?(?=\S)",
  re.IGNORECASE,
)
_PASSIVE = re.compile(
  rf"^(?P<left>.+?)\s+{_IS}\s+(?:\w+ly\s+)?(?P<verb>\w+(?:ed|en|ten|wn|ought|ilt|ung"
  rf"|ade))"
  r"\s+by\s+(?P<name>[^,;]+?)(?:\s+(?:in|on|at|during|for|around)\s+.*)?$",
  re.IGNORECASE,
)
_DESCRIBES = re.compile(
  r"^(?:the|a|an|its|one of|his|her|in|on)\b", re.IGNORECASE
)


def _of_sentence(
  sentence: str, asked: set[str], has_question: bool
) -> str | None:
  """The name that a sentence gives, where its form leaves no doubt."""
  if re.search(rf"\s(?:{_IS}|the|a|an|of)$", sentence):
    return None  # cut off
  if passive := _PASSIVE.match(_APPOSITION.sub("", sentence)):
    is_about = not has_question or any(
      _is_known(passive[part], asked) for part in ("left", "verb")
    )
    return _short(passive["name"], asked) if is_about else None
  if pronoun := _PRONOUN.match(sentence):
    name = pronoun["name"]
    return None if ": " in name else _short(name, asked)
  links = list(_LINK.finditer(sentence))
  for link in links:
    left, right = sentence[: link.start()], sentence[link.end() :]
    name = _described(left, right, asked, has_question)
    if name is not None:
      return name
  sentence = _APPOSITION.sub("", sentence)
  return _new_words(sentence, asked) if has_question and not links else None


def _described(
  left: str, right: str, asked: set[str], has_question: bool
) -> str | None:
  """The side that is a name, where the other is what was asked about."""
  if not has_question:
    if re.match("the ", left, re.IGNORECASE) or re.search(r"['’]s ", left):
      return _short(right, asked)
    return _short(left, asked) if _DESCRIBES.match(right) else None
  if "," in left:
    return None  # it may name the answer already
  known = _is_known(left, asked), _is_known(_APPOSITION.sub("", right), asked)
  if known == (True, False):
    return _short(right, asked)
  # "The kernel is mostly written in C" describes nothing.
  is_described = known == (False, True) and _DESCRIBES.match(right)
  return _short(left, asked) if is_described else None


def _short(name: str, asked: set[str]) -> str | None:
  """A name without what the question has; None where it is a sentence."""
  name = _APPOSITION.sub("", name)
  tail = re.search(r"\s+(?:in|on|of|at|for|within)\s+(.+)$", name)
  if tail and _is_known(tail[1], asked):
    name = name[: tail.start()]
  words = normalise(name).split()
  is_sentence = any(word in _NO_NAME for word in words) or _LIST.search(name)
  is_new = set(words) - asked
  if is_sentence or _DESCRIPTION.match(name) or not is_new or len(words) > 5:
    return None
  return name


_DESCRIPTION = re.compile(
  r"(?:the|a|an|one)\b.+\s(?:of|that|by|called|named)\b|an?(?:\s+[a-z]\w*){3,}"
  r"|[a-z]+\s+(?:in|at|by|on|from|for|with|to)\b|(?:\w+ed|all|about|with|from|to|for|by|as|used|made|found|when|very|so|many"
  r"|several|some|various|different|lots)\b",
)


def _is_known(text: str, asked: set[str]) -> bool:
  """Whether most words of a text stand in the question, in any form."""
  words = [word for word in normalise(text).split() if word not in _EMPTY]
  stems = {word[:5] for word in asked - _EMPTY}
  known = sum(word[:5] in stems for word in words)
  return not words or 2 * known > len(words)


_WHEN = re.compile(
  r"\s+(?:in|on|during|around|about)\s+(?:the\s+)?[^,]*(?:\d|century|era)"
  r"[^,]*$"
)


def _new_words(sentence: str, asked: set[str]) -> str | None:
  """The name at one end of a sentence that else repeats the question."""
  if not asked & {"when", "year", "date", "century"}:
    sentence = _WHEN.sub("", sentence)
  stems = {word[:4] for word in asked}
  words = [word for word in sentence.split() if normalise(word)]
  is_new = [
    not all(part[:4] in stems for part in normalise(word).split())
    for word in words
  ]
  if not any(is_new):
    return None
  first = is_new.index(True)
  last = len(is_new) - is_new[::-1].index(True)
  run = words[first:last]
  # "fell in 1989": a verb of other form than that of the question
  while first and len(run) > 1 and re.match(r"[a-z]", run[0]):
    run = run[1:]
  is_name = len(run) <= _MOST_NEW_WORDS and re.match(r"[A-Z\d$€£]", run[0])
  if any(word.lower() in _NO_NAME for word in run):
    return None
  if not is_name or is_new[first:last].count(False) > 1:
    return None
  is_end = first == 0 or last == len(words)
  return " ".join(run) if is_end and is_new.count(False) >= 2 else None


def _is_echo(text: str, question: str) -> bool:
  return bool(question) and normalise(text) == normalise(question)
