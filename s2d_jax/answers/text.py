"""Short free text: "paris" in "(B) Paris" and "The capital is Paris."."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.confirmed import confirmed
from s2d_jax.answers.dates import is_number, number_in
from s2d_jax.answers.question import Question, question as parsed
from s2d_jax.answers.sentence import APPOSITION, LIST, described, name_in
from s2d_jax.answers.stance import undenied
from s2d_jax.answers.statements import TURNED, is_own, statements
from s2d_jax.answers.words import EMPTY, NO_NAME, VERBS, normalise, stems
from s2d_jax.errors import UserError

_LABEL = re.compile(
  r"^\W*?\(?(?:[A-Ha-h]|\d{1,2})[.)][)\s]\s*(?=\S)(?![A-Z]\.)"
)
_SPEAKER = re.compile(r"^\s*(?:A|Assistant|Response)\s*:\s*")
# Courtesies and connectives that a sentence may begin with.
_LEAD = re.compile(
  r"^[\s(*]*(?:(?:well|yes|no|so|therefore|thus|hence|okay|ok|sure|actually"
  r"|\w+ally|now|correction|oops|sorry|(?:no,? )?wait|hmm|as of [^,.]+"
  r"|in (?!(?-i:[A-Z]))[^,.]+|(?:that(?:['’]s| is) )?(?:a )?(?:great"
  r"|good) question)(?:[,!:]|\s[-–—])\s*|so\s+)*(?:(?:c['’]est|es ist|das ist"
  r"|se trata de)\s+(?:l[ea]\s+)?)?(?:(?:I(?:['’]m| am) (?:pretty |quite "
  r"|fairly |almost )?(?:sure|certain|confident)|I (?:believe|think|would say)"
  r"|I['’]d say|it seems|in short|as far as I (?:know|remember)|I meant?"
  r"|(?:my )?(?:best )?guess (?:is|would be)|(?:I (?:believe|think"
  r"|guess) )?you (?:probably |likely |must "
  r"|may )?mean)(?: that)?,?\s*)?(?:(?:definitely|probably|possibly|certainly"
  r"|simply|just)\s+)?(?:(?:\w+(?:ed|en) )?by\s+(?=(?-i:[A-Z])))?",
  re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
  r"^\W*[\[<][^\]>]*\b(?:insert|your|answer|name)\b[^\]>]*[\]>]\W*$"
  r"|\[[A-Za-z]+ [^\]]*\]",
  re.IGNORECASE,
)
_QUOTED = re.compile(r"\W*[\"“]([^\"“”\n]+)[\"”]\W*")
# A text does not stand by what was once, and what is left open.
_OPEN = re.compile(
  r"^the (?:question|text|user|passage|problem)\b"
  r"|\b(?:or|either|neither|nor|not|never|none|maybe|perhaps|if|whether"
  r"|unless)\b|n['’]t\b|\b(?:could|might|may|can) (?:all )?be\b",
  re.IGNORECASE,
)
_OTHERS = re.compile(
  r"\b(?:between|than|formerly|used to|(?:until|before) \d+|some|many|people"
  r"|according|once)\b|\b(?:commonly|often|usually|widely|frequently"
  r"|sometimes) (?:mis)?(?:attributed|credited|thought|believed)\b",
  re.IGNORECASE,
)
_INSERTED_OR = re.compile(r",\s+(?:or|formerly|once|also)\b[^,]*,(?=\s+[a-z])")
_CUT_OFF = re.compile(r"\s(?:is|are|was|were|the|a|an|of|by|in|and|called)$")


# A small model repeats itself; "Bora Bora" does not.
_AGAIN = re.compile(r"\A(.{3,}?)(?: \1){2,}\Z")


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
    asked = parsed(question)
    text = _SPEAKER.sub("", _without_echo(text, asked))
    read = functools.partial(self._read, asked=asked)
    found = read(text)
    but = {"negates"} if found and found.text == "no" else ()
    return confirmed(read, text, question, but)

  def _read(self, text: str, asked: Question) -> Answer | None:
    found = _read(text, asked)
    if found is None:
      return None
    name, strict, is_sure = found
    answer = _AGAIN.sub(r"\1", normalise(name))
    if not 0 < len(answer.split()) <= self.max_words:
      return None
    return Answer(answer, strict, is_sure)


def _without_echo(text: str, asked: Question) -> str:
  """A text without the question that it repeats first."""
  first = replies.sentences(text)[:1]
  if first and asked.text and normalise(first[0]) == normalise(asked.text):
    return text[text.find(first[0]) + len(first[0]) :].strip()
  return text


def _read(text: str, asked: Question) -> tuple[str, bool, bool] | None:
  """The name that a reply gives, its form and whether it is sure.

  It has the form asked for where it stands alone or is marked. It is sure where
  it is marked, or given at once and written like a name or an answer of few
  words.
  """
  if not text or _PLACEHOLDER.search(text) or _lists_several(text):
    return None
  said = statements(_LABEL.sub("", text))
  if re.match(r"[^\n]*,\s*\n", text):
    return None  # a letter
  names: list[tuple[int, str, bool]] = []
  has_turned = False
  for place, one in enumerate(said):
    has_turned = has_turned or bool(TURNED.search(one.text))
    if (
      one.is_marked
      and not is_own(one.lead)
      or one.text.startswith("(")
      and place
    ):
      continue
    may_be_alone = place == 0 or one.is_marked or has_turned
    name, is_alone = _named(one.text, asked, may_be_alone)
    if name:
      names.append(
        (place, name, is_alone and (one.is_marked or len(said) == 1))
      )
    elif one.is_marked:
      names.append((place, "", False))
  if not names:
    return None
  place, name, strict = names[-1]
  first = names[0][0]
  if any(
    _LEFT_OPEN.search(one.text) and name.lower() != "no"
    for one in said[place + 1 :]
  ):
    return None
  if any(one.is_marked for one in said[:place]) and not said[place].is_marked:
    marked = [found for found in names if said[found[0]].is_marked]
    if not marked:
      return None  # what is marked is not the answer
    place, name, strict = marked[-1]
  if len({normalise(one) for _, one, _ in names}) > 1:
    is_turned = any(TURNED.search(one.text) for one in said[first : place + 1])
    is_turned |= any(
      TURNED.search(said[n].lead) for n in range(first, place + 1)
    )
    if not is_turned and not _are_one([one for _, one, _ in names]):
      return None
    if not is_turned:
      place, name, strict = names[0]
  is_sure = said[place].is_marked or (
    place == 0
    and _is_name(name)
    and _is_answered(said[0].text, asked)
    and normalise(name) in normalise(said[0].text)  # in one piece
  )
  return (name, strict, is_sure) if name else None


_FEW_WORDS, _FEW_LETTERS, _SHORT = 3, 40, 5
_PAUSE = re.compile(r"[,;，、；。]")


# Verbs of sentences that are not English, of which fewer words are known.
_FOREIGN = re.compile(
  r"c['’]est|(?<!\w)(?:est|ist|wird|wurden?|fue|es|está|è|é|foi|är|werd)(?!\w)"
)


def _is_answered(sentence: str, asked: Question) -> bool:
  """Whether a sentence is short, or says half of what the question says.

  Not so in "Louis Armstrong was a jazz musician.", if his instrument was asked.
  """
  if _FOREIGN.search(sentence):
    return False
  content = asked.stems - asked.names
  is_short = len(sentence.split()) <= _SHORT
  return is_short or 2 * len(content & stems(sentence)) >= len(content)


def _is_name(text: str) -> bool:
  """Whether a text is no sentence for sure: all capitals, or few words."""
  is_short = len(text.split()) <= _FEW_WORDS and len(text) <= _FEW_LETTERS
  return is_short and not _PAUSE.search(text) or _is_title(text)


_LEFT_OPEN = re.compile(r"\b(?:or|either|used to|formerly|not)\b")


def _are_one(names: Sequence[str]) -> bool:
  """Whether several names are one, in parts."""
  words = [set(normalise(one).split()) for one in names]
  return all(one <= words[0] or words[0] <= one for one in words)


def _named(
  sentence: str, asked: Question, may_be_alone: bool
) -> tuple[str | None, bool]:
  """The name in a sentence, and whether it is all of it."""
  if (
    sentence.endswith("?")
    or sentence.count('"') % 2
    or _CUT_OFF.search(sentence.rstrip(" .!"))
  ):
    return None, False
  if " but " not in sentence and replies.refuses(sentence):
    return None, False
  bare = re.sub(r"(?<!['’]m )(?<!am )\bnot\s[^,.]*?,?\sbut\s", "", sentence)
  bare = _LABEL.sub("", undenied(bare).strip())
  bare = re.sub(r"(?<=\w)\s+\([^)]*\)", "", bare)
  bare = re.sub(r"(?<=\w)\s*[\U0001F000-\U0001FAFF☀-➿️]+", "", bare)
  if quoted := _QUOTED.fullmatch(bare):
    bare = quoted[1].replace(". ", " ")
  lead = _LEAD.match(bare)[0]
  rest = _conceded(bare[len(lead) :].rstrip(" .!"))
  if lead.strip() and re.match(r"that\b", rest, re.IGNORECASE):
    return None, False  # "Wait, no, that was 1956."
  rest = _INSERTED_OR.sub("", rest)
  again = _asked_again(rest, asked)
  if _OPEN.search(again) or _OTHERS.search(APPOSITION.sub("", again)):
    return None, False
  if may_be_alone and (name := _alone(rest, asked)):
    return name, not lead.strip(" *\"'(") and rest in sentence
  rest = rest[:1].upper() + rest[1:] if lead else rest
  return _name_in(rest, asked), False


def _conceded(sentence: str) -> str:
  """Y in "Many think it is X, but Y" and in "I am not sure, but Y"."""
  head, colon, tail = sentence.rpartition(": ")
  if colon and re.search(r"\b(?:not|n't|neither|wait)\b", head, re.I):
    return tail[:1].upper() + tail[1:]
  head, but, tail = sentence.partition(" but ")
  if not but:
    return sentence
  if replies.refuses(tail):
    return "" if replies.refuses(head) else head.rstrip(",")
  if replies.refuses(head) or _OPEN.search(head) or _OTHERS.search(head):
    tail = _LEAD.sub("", tail)
    return tail[:1].upper() + tail[1:]
  return sentence


def _asked_again(sentence: str, asked: Question) -> str:
  """A sentence without the "between" and "or" that the question has, too."""
  sentence = re.sub(r"\bbetween \d+ and \d+", "", sentence)
  for word in _CLOSED.findall(asked.text):
    sentence = re.sub(rf"\b{word}\b", "", sentence, flags=re.IGNORECASE)
  return sentence


_CLOSED = re.compile(
  r"\b(?:between|or|not|than|people|some|many|first|previous|original|said|never"
  r"|example|suggested|claimed)\b"
)


def _lists_several(text: str) -> bool:
  """Whether a text is several lines with an answer each."""
  lines = [
    line
    for line in text.splitlines()
    if line.strip()
    and not replies.is_polite(line)
    and normalise(line) not in ("answer", "final answer")
  ]
  if len({normalise(_LABEL.sub("", line)) for line in lines}) == 1:
    return False
  labelled = sum(bool(_LABEL.match(line)) for line in lines)
  short = sum(len(line.split()) <= 2 for line in lines)
  return labelled > 1 or len(lines) > 1 and short == len(lines)


def _name_in(sentence: str, asked: Question) -> str | None:
  """The name or the number that a sentence gives, and does not only mention."""
  if not asked.text:
    return described(sentence)
  if " was " in sentence and asked.is_of_now and not asked.asks_who:
    return None
  if asked.asks_number:
    return number_in(sentence, asked.text) or number_in(
      APPOSITION.sub("", sentence), asked.text
    )
  return name_in(sentence, asked)


_YES_NO = re.compile(
  r"^\W*(?:is|are|was|were|do|does|did|can|could|will|has|have|should)\b",
  re.IGNORECASE,
)
_POLITE = frozenset(
  "sure thing no problem good luck great welcome please right wait okay ok"
  " hmm nothing hello hi the i it thanks unknown correct"
  " however but correction"
  " therefore".split()
)


# What says that there is no answer, or not yet.
_NO_ANSWER = re.compile(
  r"\W*(?:(?:(?:good|next|easy|hard|tough|nice|great|tricky) (?:question|one)"
  r"|ask"
  r" \w+|google it|look it up|thinking|pass|skip|tbd|todo|n/?a|easy|oops"
  r"|who knows"
  r"|\w+ knows|some(?:one|body|thing)\b.*|any(?:one|body|thing)\b.*|search"
  r"|loading|error(?: \d+)?|definitely|certainly|obviously|clearly"
  r"|absolutely|surely)\W*)+",
  re.IGNORECASE,
)


def _says_nothing(name: str, asked: Question) -> bool:
  """Whether a name is only politeness, or a word of the question."""
  if _NO_ANSWER.fullmatch(name):
    return True
  words = normalise(name).split()
  if words in (["yes"], ["no"]):
    return not _YES_NO.match(asked.text)
  is_echo = (
    set(words) <= asked.words or stems(name) and stems(name) <= asked.stems
  )
  is_lettered = any(
    len(word) == 1 and word not in asked.words for word in words
  )
  if is_echo and "or" not in asked.words and not is_lettered:
    return True
  return bool(words) and set(words) <= _POLITE


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
_SENTENCE_BEHIND = re.compile(
  r"^, (?!who|which).*\b(?:is|are|was|were)\b|^, (?!a|an|the|who|which|one|also"
  r"|known|[a-z]+(?:ly|ed|ing)\b)[a-z]+ (?:a|an|the|your|it|that|how|what)\b"
)
_NO_BEGINNING = re.compile(
  r"\W*(?:unlike|like|despite|although|though|while|since|as|after|before|without"
  r"|among|according|contrary|because|instead|besides)\b",
  re.IGNORECASE,
)
_MORE_OF_IT = re.compile(
  r",\s+(?:in|at|an?|the|which|who|located|near|with|on|from|by|known|born)\b.*$"
)
_IS = re.compile(
  r"^(?:it|that|this|he|she|they)(?:['’](?:s|d be)\b"
  r"|\s+(?:is|are|was|were|would be|will be)\b)",
  re.IGNORECASE,
)


def _alone(text: str, asked: Question) -> str | None:
  """A text that is a name and no sentence, without what tells more of it."""
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
  elif asked.asks_who and re.match(r"an?\s", name, re.IGNORECASE):
    return None
  elif comma and asked.asks_who and not re.match("[JS]r", rest):
    return None
  if (
    _INTRODUCES.match(text)
    or _NO_BEGINNING.match(text)
    or LIST.search(_MORE_OF_IT.sub("", text))
  ):
    return None
  is_name = (
    not _IS.match(name)
    and not _SLASHED.search(name)
    and (_is_title(name) or _is_short(name, asked))
  )
  if not is_name or asked.text and not _is_of_its_sort(name, asked):
    return None
  return None if asked.text and _says_nothing(name, asked) else name


_SLASHED = re.compile(r"[A-Za-z]{3,}\s?/\s?[A-Za-z]{3,}")
_CONTRACTED = re.compile(r"\w['’](?:ve|re|ll|m|d)\b")


_OTHER_VERBS = frozenset(
  "comes come came goes go went ranks rank knows know speak speaks makes make"
  " gets get orbits lies lie begins ends wins won lost wrote".split()
)


def _is_short(name: str, asked: Question) -> bool:
  """Whether a text has few words, and none of a sentence among them."""
  words = re.findall(r"[^\W_][\w'’]*", name)
  lower = [word for word in words if word.islower()]
  if any(
    word in VERBS | _OTHER_VERBS or re.fullmatch("[a-z]{3,}ed", word)
    for word in words
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
