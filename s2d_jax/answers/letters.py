"""Letters that were put together: "n-y", "N Y" and '"ny"' are "ny"."""

from __future__ import annotations

import dataclasses
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.corrections import CORRECTION

_QUOTED = r"[\"“'‘]([^\"”'’]+)[\"”'’]"
# 'the last letter of "green" is "n"' is a step, not yet the answer.
_ONE_LETTER = re.compile(r"\bletter\b[^.!?\n]*\b(?:is|with)\s*\Z")
_MOST_LETTERS = 6  # of a first line that is no word
# "… together they give ny."
_GIVES = re.compile(
  r".*\b(?:gives?(?: us| you)?|spells?|forms?|yields?|combine(?:s|d)? into"
  r"|obtain|gets?|makes?"
  r"|together:?|concatenated:|(?:letters|string|word|result) (?:is|are):?)"
  r"\s+(?:the (?:word|string|letters|sequence|combination) )?"
  r"(?P<q>[\"“'‘])?([A-Za-z](?:[\s,-]*[A-Za-z])+?)[\"”'’]?[.!]?"
  r"(?(q)(?:,\s+(?:which|but)\b.*)?)\s*\Z",
)
_NO_ANSWER = frozenset(
  "sure okay sorry none unknown hello certainly letters letter answer word"
  " words concatenated nothing".split()
)
_SUM = r"(?<=\b[A-Za-z])(?:\s*\+\s*[A-Za-z]\b)+\s*="
_SEVERAL = re.compile(rf"{_QUOTED}\W*(?:,|\b(?:and|or)\b)\W*{_QUOTED}")


@dataclasses.dataclass(frozen=True)
class Letters:
  """Two words side by side have not been put together.

  A sentence is no answer unless one is marked or quoted at its end.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = replies.said(reply)
    statements = replies.marked(text)
    if replies.refuses(text) and not statements:
      return None
    # A word of the question is an echo, or a step.
    words = [word.lower() for word in re.findall(r"\w{3,}", question)]
    echoes = {*words, "".join(words), "".join(_quoted(question))}
    no_answer = _NO_ANSWER | echoes
    found, strict = self._found(text, statements)
    is_answer = found is not None and found not in no_answer
    return Answer(found, strict) if is_answer else None

  def _found(self, text: str, statements: list[str]) -> tuple[str | None, bool]:
    if statements:
      read = (self._read(statement) for statement in statements)
      return next(filter(None, read), None), True
    found = _joined(re.sub(r"\s+\([^)]*\)\W*\Z", "", text))
    if found is not None:
      return found, True
    return self._first_line(text) or self._stated(text), False

  def _read(self, statement: str) -> str | None:
    """The letters a marked statement begins with, or quotes."""
    if CORRECTION.search(statement) or re.search(r"\bnot?\b", statement):
      return None
    found = _joined(re.sub(r"\s*\(.*", "", statement))
    if found is not None or _SEVERAL.search(statement):
      return found
    if re.search("→|->|=>", statement):
      return _behind_arrow(statement)
    quoted = re.search(_QUOTED, statement)
    if quoted:
      return _joined(quoted[1])
    return _joined(replies.sentences(statement)[0])

  def _first_line(self, text: str) -> str | None:
    """Letters that stand alone above an explanation."""
    line, _, below = text.partition("\n\n")
    found = _joined(line) if below.strip() else None
    return found if found and len(found) <= _MOST_LETTERS else None

  def _stated(self, text: str) -> str | None:
    found = replies.sentences(text)
    if not found:
      return None
    last = found[-1]
    # "Together: n-y", "n + y = ny", or a last line
    _, sign, end = re.sub(_SUM, ":", last).rpartition(":")
    joined = _joined(end)
    if joined and 1 < len(joined) <= _MOST_LETTERS and (sign or end.islower()):
      return joined
    text = re.sub(_SUM, "=>", "\n".join(found))
    if re.search("→|->|=>", text):
      return _behind_arrow(text)
    gives = _GIVES.search(last)
    if gives and not re.search(r"\bnot\b", last):
      return _joined(gives[2])
    quoted = re.search(rf"{_QUOTED}\W*\Z", last)
    if not quoted or _SEVERAL.search(last):
      return None
    before = last[: quoted.start()]
    if _ONE_LETTER.search(before) or re.search(r"\bnot\W*\Z", before):
      return None
    joined = _joined(quoted[1])
    return joined if joined and len(joined) > 1 else None


def _behind_arrow(text: str) -> str | None:
  """What one arrow leads to; several lead to single letters, the steps."""
  parts = re.split("→|->|=>", text)
  found = _joined(parts[1]) if len(parts) == 2 else None
  return found if found and len(found) > 1 else None


def _quoted(question: str) -> list[str]:
  """The words that the question has in quotes, in lower case."""
  quoted = re.search(_QUOTED, question)
  return quoted[1].lower().split() if quoted else []


def _joined(text: str) -> str | None:
  """One word, or letters with something between them, as one word."""
  if re.search(r"[-,]\s*\Z", text):
    return None  # cut off
  text = re.sub(r"\A[\W_]+|[\W_]+\Z", "", text)
  if re.fullmatch(r"[A-Za-z](?:[\s,-]+[A-Za-z])*", text):
    return re.sub(r"[^A-Za-z]", "", text).lower()
  return text.lower() if re.fullmatch(r"[A-Za-z]+", text) else None
