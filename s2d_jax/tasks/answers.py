"""Parsers that find the answer in a reply: the last marked one wins.

An answer is normalised text. A reply without one gives None: it is no vote.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import inspect
import re
from typing import Any, Protocol
import unicodedata

from s2d_jax.errors import UserError


class AnswerParser(Protocol):
  """Finds the normalised answer in a reply, None where there is none."""

  def __call__(self, reply: str) -> str | None: ...


# What follows one of these is marked as the answer.
_MARKER = re.compile(
  r"####|\\boxed\s*\{|\[\[|"
  r"\b(?:answer|result|verdict|conclusion|total)\b[^\S\n]*"
  r"(?:(?:is|are|would be|will be|must be)\b[^\S\n]*:?|[:=])",
  re.IGNORECASE,
)


_LIST = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")


def marked(reply: str) -> list[str]:
  """The text after each marker, up to the end of its line, the last first.

  A marker at the end of its line marks the next line, unless a list begins
  there: those are steps towards the answer.
  """
  plain = re.sub(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}", "", reply)
  found = []
  for match in _MARKER.finditer(plain):
    text, _, below = plain[match.end() :].partition("\n")
    if not text.strip() and not _LIST.match(below):
      text = below.strip().partition("\n")[0]
    if text.strip():
      found.append(text.strip())
  return found[::-1]


_NUMBER = re.compile(
  r"(?<![\w.])[-+−]?(?:[$€£]\s*)?"
  r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)(?![\d])"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")


# Without a marker only a complete reply counts, not one that was cut off in the
# middle of a calculation.
_SENTENCE_END = re.compile(r"[.!?)\"”\]]\W*\Z")
_EQUATION_END = re.compile(r"=\s*[-+−]?[$€£]?\s*\d[\d,.]*\W*\Z")
_UNFINISHED = re.compile(
  r"\d\s*[-+−*×/]\s+[$€£]?[\d,.]+\W*\Z|(?:[-+−*×/=]|\d\s*x)\s*\Z"
)
_FEW_WORDS = 4
_ONE_EQUATION = 12  # words; the end of a longer one may be half a number


@dataclasses.dataclass(frozen=True)
class Number:
  """A number: "#### 1,234", "the answer is $18.00.", else the last one."""

  def __call__(self, reply: str) -> str | None:
    reply = _LATEX_FRACTION.sub(r"\1/\2", reply)
    for text in marked(reply):
      if _NUMBER.search(text):
        return _equals(text) or _first_number(text)
    found = _NUMBER.findall(reply)
    if not found or not _is_whole(reply):
      return None
    last = re.split(r"(?<=[.!?])\s", reply[: reply.rindex(found[-1]) + 1])[-1]
    rest = reply[reply.rindex(found[-1]) :]
    return _equals(last + rest[1:]) or _plain_number(found[-1])


def _is_whole(reply: str) -> bool:
  """Whether a reply is complete, and does not stop amid a calculation."""
  if _UNFINISHED.search(reply):
    return False
  if _SENTENCE_END.search(reply):
    return True
  most = _ONE_EQUATION if _EQUATION_END.search(reply) else _FEW_WORDS
  return len(reply.split()) <= most


def _equals(text: str) -> str | None:
  """The right-hand side of the last equation in a text."""
  found = re.findall(rf"=\s*({_NUMBER.pattern})", text)
  return _plain_number(found[-1]) if found else None


def _first_number(text: str) -> str | None:
  """The number a text begins with; none where it is a term of more."""
  if _UNFINISHED.search(text):
    return None
  return _plain_number(_NUMBER.search(text).group())


def _plain_number(text: str) -> str:
  text = re.sub(r"[,$€£\s+]", "", text).replace("−", "-")
  if "." in text and "/" not in text:
    text = text.rstrip("0").rstrip(".")
  text = re.sub(r"^(-?)\.", r"\g<1>0.", text)
  text = re.sub(r"^(-?)0+(?=\d)", r"\1", text)
  return "0" if text in ("", "-", "-0") else text


# "there is no right answer" says neither yes nor no.
_NO_ANSWER = r"(?!(?-i:no)\s+\w)"


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of a few options: a marked one, else the only one that is named.

  Where several are named without a mark, the one that the reply begins with;
  "A: …" may begin a list of them all and is none.
  """

  options: tuple[str, ...]

  def __post_init__(self):
    if (
      not isinstance(self.options, tuple)
      or not all(isinstance(o, str) and o for o in self.options)
      or len(set(self.options)) < 2
    ):
      raise UserError(
        f"task.answer.options={self.options!r} must be two or more different"
        " texts"
      )

  def __call__(self, reply: str) -> str | None:
    for text in marked(reply):
      found = self._named(text)
      if found:
        return found[0]
    found = self._named(reply)
    if not found:
      return None
    first, *_ = reply.split()
    begins = not first.endswith(":") and self._named(first)
    return found[0] if begins or len(set(found)) == 1 else None

  def _named(self, text: str) -> list[str]:
    """Options in the order in which they are named."""
    longest_first = sorted(self.options, key=len, reverse=True)
    # A single letter is an option only as it is written: "a" is an article.
    ignore = any(len(option) > 1 for option in self.options)
    names = "|".join(map(re.escape, longest_first))
    found = re.findall(
      rf"(?<!\w){_NO_ANSWER}(?:{names})(?!\w)",
      text,
      re.IGNORECASE if ignore else 0,
    )
    known = {option.casefold(): option for option in self.options}
    return [known[name.casefold()] if ignore else name for name in found]


@dataclasses.dataclass(frozen=True)
class Regex:
  """The last match of a pattern: its first group, or all of it."""

  pattern: str

  def __post_init__(self):
    try:
      re.compile(self.pattern)
    except (re.error, TypeError) as error:
      raise UserError(
        f"task.answer.pattern={self.pattern!r} is no regular expression"
        f" ({error})"
      ) from None

  def __call__(self, reply: str) -> str | None:
    found = list(re.finditer(self.pattern, reply, re.MULTILINE))
    if not found:
      return None
    groups = found[-1].groups() or (found[-1].group(),)
    return (groups[0] or "").strip() or None


# "Dr. Who" and "J. R. R. Tolkien" go on; "U.S.A." is one word.
_SENTENCE_BREAK = re.compile(
  r"(?<!\b[A-Z]\.)(?<!\b(?:Dr|Mr|Ms|St|Mt)\.)(?<=[.!?])\s|\n"
)
_INITIAL = re.compile(r"\b([A-Z])\.(?=[A-Z]\b|\W|\Z)")


@dataclasses.dataclass(frozen=True)
class Text:
  """Free text: the first sentence, normalised; None when it is too long."""

  max_words: int = 12

  def __post_init__(self):
    if not isinstance(self.max_words, int) or self.max_words < 1:
      raise UserError(
        f"task.answer.max_words={self.max_words!r} must be a whole number, 1"
        " or more"
      )

  def __call__(self, reply: str) -> str | None:
    candidates = marked(reply)
    text = candidates[0] if candidates else reply.strip()
    sentence = _SENTENCE_BREAK.split(text, maxsplit=1)[0]
    words = normalise(_INITIAL.sub(r"\1", sentence)).split()
    words = [word for word in words if word not in ("a", "an", "the")]
    return " ".join(words) if 0 < len(words) <= self.max_words else None


@dataclasses.dataclass(frozen=True)
class Letters:
  """Letters that were put together: "n-y", "N Y" and '"ny"' are "ny".

  Two words side by side have not been put together, and a sentence is no
  answer unless one is marked or quoted at its end.
  """

  def __call__(self, reply: str) -> str | None:
    candidates = marked(reply)
    if candidates:
      quoted = re.search(_QUOTED, candidates[0])
      return _joined(quoted.group(1) if quoted else candidates[0])
    quoted = re.search(rf"{_QUOTED}\W*\Z", reply)
    if quoted and _ONE_LETTER.search(reply[: quoted.start()]):
      return None
    return _joined(quoted.group(1) if quoted else reply)


_QUOTED = r"[\"“]([^\"”]+)[\"”]"
# 'the last letter of "green" is "n"' is a step, not yet the answer.
_ONE_LETTER = re.compile(r"\bletter\b[^.!?\n]*\bis\s*\Z")


def _joined(text: str) -> str | None:
  """One word, or letters with something between them, as one word."""
  text = text.strip("*_`'‘’ \n").rstrip(".!")
  if re.fullmatch(r"[A-Za-z](?:[\s,-]+[A-Za-z])*", text):
    return re.sub(r"[^A-Za-z]", "", text).lower()
  return text.lower() if re.fullmatch(r"[A-Za-z]+", text) else None


def normalise(text: str) -> str:
  """Lower case, no accents, no punctuation, single spaces."""
  text = unicodedata.normalize("NFKD", text)
  text = "".join(c for c in text if not unicodedata.combining(c)).lower()
  return " ".join(re.sub(r"[^\w]+", " ", text).split())


PARSERS = {
  "number": Number,
  "choice": Choice,
  "regex": Regex,
  "text": Text,
  "letters": Letters,
}


def make_parser(spec: Mapping[str, Any]) -> AnswerParser:
  """A parser from its settings: {"kind": "choice", "options": [...]}."""
  if not isinstance(spec, Mapping):
    raise UserError(
      f'task.answer={spec!r} must be a mapping such as {{"kind": "number"}}'
    )
  options = dict(spec)
  kind = options.pop("kind", None)
  if kind not in PARSERS:
    raise UserError(
      f"task.answer.kind={kind!r} is unknown; there are {', '.join(PARSERS)}"
    )
  known = inspect.signature(PARSERS[kind]).parameters
  for name in options.keys() - known.keys():
    raise UserError(
      f"task.answer.{name} is unknown; {kind} has"
      f" {', '.join(known) or 'no options'}"
    )
  for name, parameter in known.items():
    if name not in options and parameter.default is parameter.empty:
      raise UserError(f"task.answer.{name} is missing; {kind} needs it")
  return PARSERS[kind](
    **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
  )
