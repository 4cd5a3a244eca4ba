"""The number that a short text is: "18 apples", "5 + 3 = 8", "7, as …"."""

from __future__ import annotations

from fractions import Fraction
import re

from s2d_jax.answers.latex import math_value, unwrapped
from s2d_jax.answers.numerals import NUMERAL, canonical, find, value_of

_MOST_UNIT_WORDS = 5
# A unit has nouns, and of the small words those that go on naming the thing.
_NO_UNIT = re.compile(
  r"\b(?:or|and|to|plus|minus|times|remainder|than|if|not|no|but|by|repeating"
  r"|recurring|below|above|over|under|more or less|is|are|was|were|has|have|had"
  r"|will|would|could|should|can|may|might|must|do|does|did|wait|because|since"
  r"|which|who|that|half|dozen|each other|between|except|without|including"
  r"|plus|less than|more than|fewer|at least|at most|about|a half|thirds?"
  r"|quarters?|root|squared|cubed|apiece|until|unless|without|maybe|perhaps"
  r"|instead|step|steps?:)\b|n['’]t\b",
  re.IGNORECASE,
)
_CUT_OFF = re.compile(
  r"\b(?:this|the|an?|of|in|per|for|with|at|on|her|his|their|its)\s*\Z"
)
_UNIT = (
  r"[^\d\n=+*/×÷<>≈~;\\√π,.:?!—–(-]*(?:/\s?[a-z]+(?![\w/])|\^?[²³]"
  r"|\^\{?[23]\}?)?"
)
_NAME = re.compile(
  r"^\W*(?:(?:[A-Za-z]|[A-Za-z][A-Za-z ']{1,40})\s*=|(?:(?:final|grand"
  r"|the)\s+)?(?:total|result|sum|answer|final balance)\s*:)\s*(?=[-$€£\d\\])",
  re.IGNORECASE,
)
_ROUND = re.compile(
  r"^(?:(?:about|approximately|approx\.?|roughly|around|exactly|just|only|a"
  r" total of|still|now|a)\s+|[≈~]\s*)(?=[-$€£\d])",
  re.IGNORECASE,
)
# What follows a number, and only says more about it.
_REASON = re.compile(
  r"\s*(?:[,;:—–-]\s*|\s|(?=\())(?:because|since|as\b(?! well)|for\b|so that"
  r"|which is\b(?! (?:wrong|not|incorrect))|which means|i\.e\.|that is\b|\("
  r"|after|when|while|given|in total|in all|altogether|thanks|at (?=\d))",
  re.IGNORECASE,
)
_SAME = re.compile(r"i\.e\.|that is|which is|which means")
_OTHERWISE = re.compile(
  r"\b(?:or|if|unless|but|wait|however|although|not|otherwise|maybe|perhaps"
  r"|might|could|without|except|excluding|before|instead"
  r"|actually|no|wrong|incorrect)\b|n['’]t"
  r"\b|\?|\A\W*(?:and|then|later|after)\b",
  re.IGNORECASE,
)


def alone(text: str) -> Fraction | None:
  """The value of a text that is a number, with its unit and a remark."""
  if re.search(r"[-+*×/=?]\s*\Z|\A\W*[<>≤≥±]\s*[$€£]?\d[^>]*\Z", text):
    return None
  math = math_value(text)
  if math is not None:
    return math
  text = re.sub(r"^(?:[-*•]|#+|=)\s+", "", unwrapped(text.strip()).strip())
  text = _NAME.sub("", text, count=1)
  text = text.strip("\"“”'`*_[]<> \n=")
  if text.startswith("(") and text.endswith(")"):
    text = text[1:-1]
  text = _ROUND.sub("", text)
  match = NUMERAL.match(text)
  if not match or value_of(match) is None:
    return None
  remark = re.fullmatch(
    rf"({_UNIT})((?:\s*\(.*\))?)[^\w=+*/×÷<>-]*", text[match.end() :], re.DOTALL
  )
  if not remark or len(remark[1].split()) > _MOST_UNIT_WORDS:
    return None
  if (
    _NO_UNIT.search(remark[1])
    or _CUT_OFF.search(remark[1])
    or _OTHERWISE.search(remark[2])
  ):
    return None
  return value_of(match)


def explained(text: str) -> Fraction | None:
  """The value of a number with a reason: "15 minutes, because …"."""
  head = _ROUND.sub("", unwrapped(text).strip(" \"“'*_$("))
  match = NUMERAL.match(head)
  if not match:
    return None
  unit = re.match(_UNIT, head[match.end() :])[0]
  place = match.end() + len(unit)
  words = re.search(
    r"\s(?:because|since|as|which|after|when|while|given|for|in total)\b", unit
  )
  if words:
    place = match.end() + words.start()
  reason = _REASON.match(head, place)
  if not reason or _OTHERWISE.search(head[reason.end() :]):
    return None
  value = alone(head[:place])
  others = {one.value for one in find(head[reason.end() :])}
  if _SAME.search(reason[0]) and others and value not in others:
    return None
  return value


_OPERATION = r"[-+*×÷/x−·]"
_LETTER = re.compile(
  r"(?<![\w'’])(?:[B-HJ-Zb-hj-wyz])(?!\w)|\d[a-wyz]\b|(?<![\w\d ])x"
  r"|x(?!\s*[$€£\d(])"
)


def right_side(text: str) -> Fraction | None:
  """The value on the right of the last equals sign: "5 + 3 = 8 apples"."""
  left, sign, right = text.rpartition("=")
  if not sign:
    left, sign, right = text.rpartition("≈")
  if not sign or _is_open(text):
    return None
  if re.search(r"\b[A-Za-z]\s*=[^=]*\b[A-Za-z]\s*=", text):
    return None  # several unknowns
  left = left.rpartition("=")[2]
  if _LETTER.search(re.sub(r"\A\W*[A-Za-z]\s*\Z", "", left)):
    return None  # an unknown
  if not re.search(
    rf"{_OPERATION}|of\b|=|[A-Za-z]{{2,}}\W*\Z|\A\W*\w\W*\Z", left
  ):
    return None
  # "12 apples in 3 bags"
  right = re.split(
    r"\s(?:in|for|from|on|at|out of)\s+(?:the\s+)?(?=\d)", right
  )[0]
  right = re.sub(r"\s(?:is|are|were)\s+(?:left|remaining)\W*\Z", "", right)
  return None if _is_half(text) else alone(right.strip())


def _is_open(text: str) -> bool:
  """Whether a bracket of a text has no end."""
  return any(
    text.count(rf"\{a}") > text.count(rf"\{b}") for a, b in ("()", "[]")
  )


_SUM = re.compile(
  r"(\d[\d,]*(?:\.\d+)?)\s*([-+*/×÷x])\s*(\d[\d,]*(?:\.\d+)?)\s*="
  r"\s*(\d[\d,]*)\Z"
)


def _is_half(text: str) -> bool:
  """Whether a text stops in the digits of a result: "35 + 5 = 4"."""
  match = _SUM.search(text.strip())
  if not match:
    return False
  one, other = (Fraction(match[n].replace(",", "")) for n in (1, 3))
  results = {
    "+": one + other,
    "-": one - other,
    "/": one / other if other else one,
  }
  sign = match[2].replace("÷", "/")
  result = canonical(results.get(sign, one * other))
  said = match[4].replace(",", "")
  return result != said and result.startswith(said)


def is_unfinished(text: str) -> bool:
  """Whether a text stops amid a calculation."""
  return _is_open(text) or (
    re.search(
      rf"\d\s*{_OPERATION}\s+[$€£]?[\d,.]+\W*\Z|(?:[-+*×/=]|\d\s*x)\s*\Z", text
    )
    is not None
  )
