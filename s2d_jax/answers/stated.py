"""The number that a short text gives: "18 apples", "x = 7", "7, as 49 is …"."""

from __future__ import annotations

from fractions import Fraction
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.latex import GOES_ON, math_value, unwrapped
from s2d_jax.answers.numerals import NUMERAL, Numeral, find, only, value_of

_FEW_UNIT_WORDS = 4
# A unit is words without a number, and without a word that goes on counting.
_UNIT = r"[^\d\n=+*/×÷<>≈~;\\√π]*?"
_NAME = re.compile(r"^\W*(?:[A-Za-z]|[A-Za-z ]{1,30})\s*=\s*")


def alone(text: str) -> Fraction | None:
  """The value of a text that is a number, with its unit and a remark."""
  if re.search(r"[-+*×/=?]\s*\Z", text):
    return None
  if _SEVERAL.search(text) or _UNKNOWN.search(text):
    return None
  math = math_value(text)
  if math is not None:
    return math
  text = _NAME.sub("", re.sub(r"^\s*=\s*", "", text.strip()), count=1)
  text = re.sub(r"^(?:[-*•]|#+)\s+", "", unwrapped(text).strip())
  text = text.strip("\"“”'`*_[]()<> \n")
  match = NUMERAL.match(text)
  if not match or value_of(match) is None:
    return None
  rest = text[match.end() :]
  remark = re.fullmatch(rf"({_UNIT})(?:\(.*\)?)?[^\w=+*/×÷<>-]*", rest)
  if not remark or len(remark[1].split()) > _FEW_UNIT_WORDS:
    return None
  is_list = GOES_ON.search(remark[1]) or "," in remark[1]
  return None if is_list else value_of(match)


_RIGHT_SIDE = re.compile(r"[=≈]\s*(?=[-+.$€£¥₹\d])")
_NOT = re.compile(
  r"(?:\b(?:(?:not|never)(?: \w+){0,2}|remainder of|than|least|most|between"
  r"|none of|step|part|question|problem|option|day|week|year|room|chapter"
  r"|page)\s+"
  r"|n['’]t (?:\w+ ){0,2}|sqrt\W*|[<>≤≥#]\s*)$",
  re.IGNORECASE,
)


def stated(text: str) -> Fraction | None:
  """The value that the text after a marker gives."""
  text = replies.sentences(text)[0]
  if is_unfinished(text):
    return None
  head = MORE.split(text)[0]
  text = head if find(head) else text
  found = given(text)
  begins = found and not text[: found[0].start].strip(" \"'“(*$")
  if begins and _explains(text[found[0].end :]):
    value = found[0].value
    concluded = given(conclusion(text)[1])
    return value if only(concluded) in (None, value) else None
  sides = right_sides(text)
  if sides:
    return sides[-1]
  return only(found) if found else math_value(text)


_SEVERAL = re.compile(
  r"\d\W*\b(?:or|to)\b\W*\d|\bbetween\b|\.\.\.\s*\d"
  r"|\d\W*(?:\w+ )?or (?:more|less|fewer|so)\b|\d\s*;\s*\d"
  r"|\b(?:add|subtract|divide|multiply)\b(?!.*(?:=|\bget\b))",
  re.IGNORECASE,
)
_DATE = re.compile(
  r"\b(?:January|February|March|April|May|June|July|August|September|October"
  r"|November|December) \d"
)
_YEAR = re.compile(r"\bin (?:1[5-9]|20)\d\d\Z")
_UNKNOWN = re.compile(
  r"\b[a-z]\s*[-+*/×]\s*\d|\d\s*[-+*/×]\s*[a-z]\b", re.IGNORECASE
)
RELATIVE = re.compile(
  r"\s+(?:\w+\s+){0,2}(?:more|less|fewer)\s+than\b(?!\W*(?:the\W+)?\d)"
)


def given(text: str) -> list[Numeral]:
  """Numerals that a text gives; none where it leaves open which."""
  if any(rule.search(text) for rule in (_SEVERAL, _DATE, _UNKNOWN)):
    return []
  found = [one for one in find(text) if not _NOT.search(text[: one.start])]
  # "$60, which is 20 less than before"
  absolute = [one for one in found if not RELATIVE.match(text, one.end)]
  undated = [one for one in absolute if not _YEAR.search(text[: one.end])]
  return undated or absolute or found


def _explains(rest: str) -> bool:
  """Whether a number is given, and what follows only says why."""
  return re.match(
    r"[^\d+*/×÷=-]*?(?:\b(?:because|since|as|so|which|when)\b"
    r"|[,;(.]\s)",
    rest,
    re.IGNORECASE,
  ) is not None and not re.match(r"\W*(?:or|and|to)\b|\s*,\s*\d", rest)


def right_sides(text: str) -> list[Fraction]:
  """Values of what stands on the right of an equals sign, and ends there."""
  if re.search(r"\b[A-Za-z]\s*=[^=]*\b[A-Za-z]\s*=", text):
    return []  # several unknowns
  sides = []
  for match in _RIGHT_SIDE.finditer(text):
    numeral = NUMERAL.match(text, match.end())
    rest = text[numeral.end() :] if numeral else ""
    goes_on = re.match(r"\s*(?:[+*×÷/=]|-\s*[\d$]|x\s*\d)", rest)
    unknown = re.search(r"\d[a-z]\b|\b[a-z]\s*[-+*/]", text[: match.start()])
    if numeral and not goes_on and not unknown:
      sides.append(value_of(numeral) if not CONCLUSION.search(rest) else None)
  return [side for side in sides if side is not None]


_UNFINISHED = re.compile(
  r"\d\s*[-+*×/]\s+[$€£]?[\d,.]+\W*\Z|(?:[-+*×/=]|\d\s*x)\s*\Z"
)
# "17 remain after she gave 8 away", "after 2 hours, at 140 km"
MORE = re.compile(
  r",?\s+(?:because\b|(?:after|since|when|while)\b(?!\s+\d))"
  r"|,\s+which\b(?! makes| leaves| gives| is \d+(?! (?:more|less|fewer)))"
  r"|,\s+(?:at|with|as)\b",
  re.IGNORECASE,
)


def conclusion(sentence: str) -> tuple[str, str]:
  """The last "so" of a sentence, and what follows it; empty without one."""
  found = list(CONCLUSION.finditer(sentence))
  return (found[-1][0], sentence[found[-1].end() :]) if found else ("", "")


CONCLUSION = re.compile(
  r"\b(?:so|therefore|thus|hence|total of|altogether|which (?:is|makes|leaves"
  r"|gives))\b",
  re.IGNORECASE,
)


def is_unfinished(text: str) -> bool:
  is_open = any(
    text.count(rf"\{a}") > text.count(rf"\{b}") for a, b in ("()", "[]")
  )
  return is_open or _UNFINISHED.search(text) is not None
