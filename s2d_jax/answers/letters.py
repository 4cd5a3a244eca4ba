"""Letters that were put together: "n-y", "N Y" and '"ny"' are "ny"."""

from __future__ import annotations

from collections.abc import Collection, Sequence
import dataclasses
import functools
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.confirmed import confirmed
from s2d_jax.answers.stance import undenied
from s2d_jax.answers.statements import Statement, last_word, statements

_QUOTED = r"[\"“'‘`]([^\"”'’`]+)[\"”'’`]"
_LETTERS = r"[A-Za-z](?:[\s,+-]*[A-Za-z])*"
# Of what stands alone, and of what stands in a sentence.
_MOST_ALONE, _MOST_LETTERS = 21, 10
_NO_ANSWER = frozenset(
  "sure okay sorry none unknown hello certainly letters letter answer word"
  " words concatenated nothing i a result string done".split()
)
# What may lead to the letters at the end of a sentence.
_GIVES = re.compile(
  r".*(?:\b(?:gives?(?: us| you| me)?|spells?|forms?|yields?"
  r"|combined? (?:in)?to|combines into|becomes?|obtain|gets?|got|makes?|have"
  r"|together(?: they (?:are|form|make|give))?|so|therefore|thus"
  r"|hence)\b\s*:?\s*|[:→]\s*|\b(?:is|should be|would be|(?:together"
  r"|concatenated|they) are)\s*:?\s+)(?:the (?:word|string|letters|sequence"
  r"|combination|result)\s+)?",
  re.IGNORECASE | re.DOTALL,
)
# 'the last letter of "green" is "n"' is a step, not yet the answer.
_ONE = re.compile(
  r"\b(?:letter|first|second|third|fourth|last one|next|word|name)\b"
  r"(?! (?:is|string|formed|we get)\b)[^.!?\n]*\b(?:is|with|has|in)\s*\Z",
  re.IGNORECASE,
)
_CUT_OFF = re.compile(
  r"\W*(?:of|in|the|and|with|is|are|a|on|for)", re.IGNORECASE
)
_SEVERAL = re.compile(rf"{_QUOTED}\W*(?:,|\b(?:and|or)\b)\W*{_QUOTED}")


@dataclasses.dataclass(frozen=True)
class Letters:
  """Two words side by side have not been put together.

  A sentence is no answer unless one is marked, or stands at its end.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    read = functools.partial(self._read, question=question)
    return confirmed(read, replies.said(reply))

  def _read(self, text: str, question: str) -> Answer | None:
    # A word of the question is an echo, or a step.
    words = [word.lower() for word in re.findall(r"\w{3,}", question)]
    quoted = re.search(_QUOTED, question)
    joined = quoted[1].lower().replace(" ", "") if quoted else ""
    no_answer = _NO_ANSWER | {*words, "".join(words), joined}
    found = _joined(re.sub(r"\s+\([^)]*\)\W*\Z", "", text))
    if found is not None:
      is_long = len(found) > _MOST_ALONE
      return None if is_long or found in no_answer else Answer(found, True)
    said = statements(text)
    read = functools.partial(_marked, no_answer)
    if any(one.is_marked for one in said):
      marked = last_word(said, read, functools.partial(_keeps, no_answer))
      return Answer(marked[0], strict=True) if marked else None
    if replies.refuses(text) or text.count('"') % 2:
      return None
    found = _unmarked([one.text for one in said], text, no_answer)
    if not found:
      return None
    quoted = {_joined(one) for one in re.findall(_QUOTED, text)}
    others = {one for one in quoted if one and len(one) > 1} - no_answer
    return Answer(found, strict=False, is_sure=others <= {found})


def _marked(no_answer: Collection[str], said: Statement) -> str | None:
  """The letters that stand behind a mark, alone, in quotes or as a sum."""
  text = undenied(said.text)
  found = _joined(re.sub(r"\s*\(.*", "", text))
  if found is None:
    found = _summed(text)
  if found is None:
    quoted = re.match(rf"\W*{_QUOTED}(?P<rest>.*)", text, re.DOTALL)
    is_only = quoted and not re.search(_QUOTED, quoted["rest"])
    if is_only and not re.match(r"\W*(?:or|and)\b", quoted["rest"]):
      found = _joined(quoted[1])
  if found is None:
    bare = re.match(
      r"([A-Za-z]+)(?:,? (?:because|since|as|which)|[,.;(])", text
    )
    found = _joined(bare[1]) if bare else None
  is_long = found is not None and len(found) > _MOST_LETTERS
  return None if is_long or found in no_answer else found


def _keeps(
  no_answer: Collection[str], behind: Sequence[str], answer: str
) -> bool:
  """Whether sentences behind letters put no others together."""
  found = (_stated(one, no_answer) for one in behind)
  return all(one in (None, answer) or len(one) == 1 for one in found)


def _unmarked(
  said: Sequence[str], text: str, no_answer: Collection[str]
) -> str | None:
  """Letters that a reply begins or ends with."""
  keeps = functools.partial(_keeps, no_answer)
  line = text.splitlines()[0] if text else ""
  found = _joined(line)
  if found and len(found) <= _MOST_LETTERS and found not in no_answer:
    behind = replies.sentences(text[len(line) :]) if text[len(line) :] else []
    if keeps(behind, found):
      return found
  for place in range(len(said) - 1, -1, -1):
    found = _stated(said[place], no_answer)
    if found is not None:
      return found if len(found) > 1 else None
    if re.search(_QUOTED, said[place]):
      return None
  return None


def _stated(sentence: str, no_answer: Collection[str]) -> str | None:
  """The letters that a sentence comes to at its end."""
  sentence = undenied(sentence)
  sentence = re.sub(
    r"(?<=[\"”’']),?\s+(?:which|but)\b[^\"“]*\Z", "", sentence, flags=re.DOTALL
  )
  sentence = re.sub(r"\s+\([^)]*\)(?=\W*\Z)", "", sentence)
  if re.search(r"\bfirst letters\b", sentence):
    return None
  if (found := _summed(sentence)) is not None:
    return None if found in no_answer else found
  if (found := _joined(sentence)) is not None:
    if re.match(r"\s*(?:[-*•]|\d+[.)])\s", sentence):
      return None  # a step
    is_name = (
      sentence.strip(" .")[1:].islower() and sentence.strip(" .").istitle()
    )
    is_short = len(found) <= _MOST_LETTERS and found not in no_answer
    return found if is_short and not is_name else None
  quoted = re.search(rf"{_QUOTED}\W*\Z", sentence)
  if quoted:
    before = sentence[: quoted.start()]
    if _SEVERAL.search(sentence) or _ONE.search(before):
      return None
    found = _joined(quoted[1])
    if found and len(found) > _MOST_LETTERS:
      return None
    is_own = len(re.findall(_QUOTED, before)) < 2 or _GIVES.fullmatch(before)
    return found if is_own and found and found not in no_answer else None
  match = _GIVES.match(sentence)
  if not match or _ONE.search(match[0]):
    return None
  end = sentence[match.end() :]
  if not re.fullmatch(rf"\W*{_LETTERS}\W*", end) or _CUT_OFF.fullmatch(end):
    return None
  found = _joined(end)
  is_word = found and len(found) <= _MOST_LETTERS and found not in no_answer
  return found if is_word else None


_SUM = re.compile(
  r"(?:(?<![A-Za-z])[A-Za-z]|\W[\"']\w[\"'])\W*(?:=|→|->|=>)\W*([A-Za-z]+)\W*\Z"
)


def _summed(text: str) -> str | None:
  """What a sum or one arrow leads to; several lead to letters, the steps."""
  text = re.sub(r"\s+\([^)]*\)", "", text)
  match = _SUM.search(text)
  arrows = len(re.findall(r"→|->|=>|=", text))
  if not match or arrows > 1:
    return None
  return match[1].lower() if len(match[1]) > 1 else None


def _joined(text: str) -> str | None:
  """One word, or letters with something between them, as one word."""
  if re.search(r"[-,]\s*\Z", text):
    return None  # cut off
  text = re.sub(r"\A[\W_]+|[\W_]+\Z", "", text)
  if (
    re.fullmatch(r"[A-Za-z](?:[\s,+\"'“”‘’`-]{1,5}[A-Za-z])*", text)
    and "\n" not in text
  ):
    return re.sub(r"[^A-Za-z]", "", text).lower()
  return text.lower() if re.fullmatch(r"[A-Za-z]+", text) else None
