"""Numbers in replies: "#### 1,234", "the answer is $18.00.", "\\frac{3}{4}"."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import logging
import re
from typing import NamedTuple
import unicodedata

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.quantity import says

_MINUS = r"(?:[-+](?=[$€£¥₹.\d])|\b(?:minus|negative)\s+)"
_CURRENCY = r"(?:[$€£¥₹]|\b(?:USD|EUR|GBP|US\$)\s?)"
_SCALES = {
  "dozen": 12,
  "hundred": 100,
  "thousand": 1000,
  "million": 10**6,
  "billion": 10**9,
}
_NUMERAL = re.compile(
  rf"(?<![A-Za-z\d_.^{{\\√])(?<!\d[:/,-])(?P<sign>{_MINUS})?{_CURRENCY}?\s?"
  r"(?P<sign2>-)?"
  r"(?P<digits>\d{1,3}(?:[,\u00a0\u202f'’]\d{3})+(?!\d)"
  r"|\d{1,3}(?: \d{3})+(?!\d)"
  r"|\d+|(?=\.\d))"
  r"(?P<decimals>\.\d+)?(?:[eE](?P<exponent>[+-]?\d{1,3}))?"
  r"(?:(?:[ \u00a0-](?P<whole>\d+))?\s?/\s?(?P<below>\d+))?"
  rf"(?:\s(?P<scale>{'|'.join(_SCALES)})\b)?"
  # No ordinals, times, dates, ranges, versions or names such as "3D".
  r"(?![A-Za-z\d_/^}√π]|\\[a-z]|[.:,-]\d|\.\.|…|\s*(?:[ap]\.?m\b|o['’]clock|noon\b))",
  re.IGNORECASE,
)
_FEW_UNIT_WORDS = 4
_MOST_DIGITS = 30  # more are a loop, not a number


# "48.500" is 48500 in half of Europe, and 48.5 elsewhere.
_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d\d0")


class _Found(NamedTuple):
  value: Fraction
  start: int
  end: int


@dataclasses.dataclass(frozen=True)
class Number:
  """A number, by its value: 0.75, 3/4 and \\frac{3}{4} are one answer."""

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = _plain(replies.said(reply))
    statements = replies.marked(text)
    if replies.contradicts(text):
      return None
    for statement in statements:
      found = _alone(statement)
      if found is not None:
        return _answer(found, strict=True)
      if _find(statement) or _has_math(statement):
        return _answer(_stated(statement), strict=False)
      if _says_none(statement):
        return None
    if replies.is_unanswered(reply):
      return None
    found = _alone(text)
    if found is not None:
      return _answer(found, strict=True)
    return _answer(_concluded(text, question), strict=False)


def _answer(value: Fraction | None, strict: bool) -> Answer | None:
  return None if value is None else Answer(_canonical(value), strict)


_SMALL = (
  "zero one two three four five six seven eight nine ten eleven twelve thirteen"
  " fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_IN_WORDS = re.compile(
  rf"\b(?:(?P<tens>{'|'.join(_TENS)})"
  rf"(?:[- ](?P<ones>{'|'.join(_SMALL[1:10])}))?"
  rf"|(?P<small>{'|'.join(_SMALL)}))\b",
  re.IGNORECASE,
)
_COUNTED = re.compile(
  r"(?:\A|[:\n]|\b(?:is|are|has|have|gets?|leaves?|only|just))\W*\Z", re.I
)
_HUNDREDS = re.compile(r"\b(\d|a) hundred(?: and)? (\d{1,2})\b", re.IGNORECASE)


def _in_digits(match: re.Match[str]) -> str:
  part = {name: word.lower() for name, word in match.groupdict("").items()}
  if part["small"] == "one" and not _COUNTED.search(
    match.string[: match.start()]
  ):
    return match[0]  # "the cost of one ticket"
  if part["small"]:
    return str(_SMALL.index(part["small"]))
  ones = _SMALL.index(part["ones"]) if part["ones"] else 0
  return str(10 * _TENS.index(part["tens"]) + 20 + ones)


def _plain(text: str) -> str:
  """Digits for words and all scripts, one kind of minus, no thin spaces."""
  text = _IN_WORDS.sub(_in_digits, text)
  text = _HUNDREDS.sub(
    lambda match: str(100 * int(match[1].replace("a", "1")) + int(match[2])),
    text,
  )
  text = re.sub("[-=]+>", "→", text)
  text = re.sub(r"(?<=\d)(?=(?:[kcm]m|k?g|m[gl]|lbs?|mph|[GM]B)\b)", " ", text)
  text = re.sub(r"(?<=\d) and a half\b", ".5", text)
  text = re.sub(r"[−‐‑–﹣－]", "-", text).replace("{,}", ",")
  text = re.sub(r"(?<=\d)\s*[×x*]\s*10\^\(?(-?\d{1,3})\)?", r"e\1", text)
  text = re.sub(r"\\([$%])", r"\1", re.sub(r"\\[ ,;!]", "", text))
  return "".join(map(_plain_digit, text))


def _plain_digit(c: str) -> str:
  """A digit as one of 0 to 9, "½" as " 1/2", and all else as it is."""
  if unicodedata.category(c) == "Nd":
    return str(unicodedata.digit(c))
  parts = unicodedata.normalize("NFKC", c).split("⁄")
  return f" {parts[0]}/{parts[1]}" if len(parts) == 2 else c


_PARENTHESIS = re.compile(r"(?<=\s)\([^()]*\)")


def _find(text: str) -> list[_Found]:
  """The numerals of a text that says of none that it is something else."""
  # "2,962 metres (9,718 ft)"
  if _NUMERAL.search(_PARENTHESIS.sub("", text)):
    text = _PARENTHESIS.sub(lambda match: " " * len(match[0]), text)
  found = []
  for match in _NUMERAL.finditer(text):
    value = _value(match)
    if value is not None:
      found.append(_Found(value, match.start(), match.end()))
  return found


def _value(match: re.Match[str]) -> Fraction | None:
  part = match.groupdict()
  digits = re.sub(r"\D", "", part["digits"])
  if len(digits) > _MOST_DIGITS:
    return None
  if _THOUSANDS.fullmatch(digits + (part["decimals"] or "")):
    return None
  value = Fraction((digits or "0") + (part["decimals"] or ""))
  if part["exponent"]:
    value *= Fraction(10) ** int(part["exponent"])
  if part["below"]:
    if not int(part["below"]):
      return None
    above = part["whole"]
    fraction = Fraction(int(above or digits), int(part["below"]))
    value = value + fraction if above else fraction
  if part["scale"]:
    value *= _SCALES[part["scale"].lower()]
  signs = (part["sign"] or "").strip().lower(), part["sign2"]
  is_negative = signs[0] not in ("", "+") or signs[1]
  return -value if is_negative else value


# A unit is words without a number, and without a word that goes on counting.
_UNIT = r"[^\d\n=+*/×÷<>≈~;\\√π]*?"
_GOES_ON = re.compile(
  r"\b(?:or|and|to|plus|minus|times|remainder|over|than|if|not|but|by|repeating"
  r"|recurring|below)\b"
  r"|[+*×÷]|\d\s*x\b|-\s*\d",
  re.IGNORECASE,
)
_NAME = re.compile(r"^\W*(?:[A-Za-z]|[A-Za-z ]{1,30})\s*=\s*")


def _alone(text: str) -> Fraction | None:
  """The value of a text that is a number, with its unit and a remark."""
  if re.search(r"[-+*×/=?]\s*\Z", text):
    return None
  if _SEVERAL.search(text):
    return None
  math = _math_value(text)
  if math is not None:
    return math
  text = _NAME.sub("", re.sub(r"^\s*=\s*", "", text.strip()), count=1)
  text = re.sub(r"^(?:[-*•]|#+)\s+", "", _DOLLARS.sub(_inner, text).strip())
  text = text.strip("\"“”'`*_[]()<> \n")
  match = _NUMERAL.match(text)
  if not match or _value(match) is None:
    return None
  rest = text[match.end() :]
  remark = re.fullmatch(rf"({_UNIT})(?:\(.*\)?)?[^\w=+*/×÷<>-]*", rest)
  if not remark or len(remark[1].split()) > _FEW_UNIT_WORDS:
    return None
  is_list = _GOES_ON.search(remark[1]) or "," in remark[1]
  return None if is_list else _value(match)


_RIGHT_SIDE = re.compile(r"[=≈]\s*(?=[-+.$€£¥₹\d])")
_NOT = re.compile(
  r"(?:\b(?:(?:not|never)(?: \w+){0,2}|remainder of|than|least|most|between"
  r"|none of|step|part|question|problem|option|day|week|year|room|chapter"
  r"|page)\s+"
  r"|n['’]t (?:\w+ ){0,2}|sqrt\W*|[<>≤≥#]\s*)$",
  re.IGNORECASE,
)


def _stated(text: str) -> Fraction | None:
  """The value that the text after a marker gives."""
  text = replies.sentences(text)[0]
  if _is_unfinished(text):
    return None
  head = _MORE.split(text)[0]
  text = head if _find(head) else text
  found = _given(text)
  begins = found and not text[: found[0].start].strip(" \"'“(*$")
  if begins and _explains(text[found[0].end :]):
    value = found[0].value
    concluded = _given(_conclusion(text)[1])
    return value if _only(concluded) in (None, value) else None
  sides = _right_sides(text)
  if sides:
    return sides[-1]
  return _only(found) if found else _math_value(text)


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
_UNKNOWN = re.compile(r"\b[a-z]\s*[-+*/×]\s*\d|\d\s*[-+*/×]\s*[a-z]\b")


_RELATIVE = re.compile(
  r"\s+(?:\w+\s+){0,2}(?:more|less|fewer)\s+than\b(?!\W*(?:the\W+)?\d)"
)


def _given(text: str) -> list[_Found]:
  """Numerals that a text gives; none where it leaves open which."""
  if any(rule.search(text) for rule in (_SEVERAL, _DATE, _UNKNOWN)):
    return []
  found = [one for one in _find(text) if not _NOT.search(text[: one.start])]
  # "$60, which is 20 less than before"
  absolute = [one for one in found if not _RELATIVE.match(text, one.end)]
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


def _only(found: list[_Found]) -> Fraction | None:
  values = {one.value for one in found}
  return values.pop() if len(values) == 1 else None


def _right_sides(text: str) -> list[Fraction]:
  """Values of what stands on the right of an equals sign, and ends there."""
  if re.search(r"\b[A-Za-z]\s*=[^=]*\b[A-Za-z]\s*=", text):
    return []  # several unknowns
  sides = []
  for match in _RIGHT_SIDE.finditer(text):
    numeral = _NUMERAL.match(text, match.end())
    rest = text[numeral.end() :] if numeral else ""
    goes_on = re.match(r"\s*(?:[+*×÷/=]|-\s*[\d$]|x\s*\d)", rest)
    unknown = re.search(r"\d[a-z]\b|\b[a-z]\s*[-+*/]", text[: match.start()])
    if numeral and not goes_on and not unknown:
      sides.append(_value(numeral) if not _CONCLUSION.search(rest) else None)
  return [side for side in sides if side is not None]


_UNFINISHED = re.compile(
  r"\d\s*[-+*×/]\s+[$€£]?[\d,.]+\W*\Z|(?:[-+*×/=]|\d\s*x)\s*\Z"
)
_EQUATION_END = re.compile(
  r"=\s*[-+]?[$€£]?\s*\d[\d,.]*(?:\s+[^\W\d]\w+){0,3}\W*\Z"
)
_FEW_WORDS = 4
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_ONE_EQUATION = 12  # words; the end of a longer one may be half a number


def _concluded(text: str, question: str) -> Fraction | None:
  """The value that a reply without a marker ends on."""
  lines = [line for line in text.splitlines() if line.strip()]
  if not lines:
    return None
  # Above an explanation, or below one.
  is_head = not re.search("[=(]", lines[0]) and "\n\n" in text
  first = _alone(lines[0]) if is_head or len(lines) == 1 else None
  last = None if _is_item(lines[-1]) else _alone(lines[-1])
  if last is None:
    last = _last_result(text, question)
  if None not in (first, last):
    return last if first == last else None
  return first if last is None else last


def _last_result(text: str, question: str) -> Fraction | None:
  """The value that the last sentence of a reply comes to."""
  if not _is_whole(text) or replies.refuses(text):
    return None
  said = [s for s in replies.sentences(text) if not s.startswith("(")]
  last = said[-1] if said else ""
  head = _MORE.split(last)[0]
  given = _only(_find(head)) if len(said) == 1 else None
  if question and _is_answered(head, given, question):
    return given
  if last.endswith("?") or _TO_DO.search(last):
    return None
  if "=" not in last and replies.is_supposed(last):
    return None
  # "Tom had 12 and gave away 3, so he has 9."
  so, result = _conclusion(last)
  if not so and _repeats(last, question):
    return None
  if "%" in result and question and not _ASKS_SHARE.search(question):
    return None
  if all(_RELATIVE.match(result, one.end) for one in _find(result)):
    so, result = "", next(filter(_find, _MORE.split(last)[:1]), last)
  if end := _IS_AT_END.search(result):
    result = end[0]
  if _WORDS.search(result) or _compares(result, question):
    return None
  sides = _right_sides(result)
  if sides:
    return None if _ONE_MORE.search(result) else sides[-1]
  found = _given(result)
  value = (
    _only(_new(found, said[:-1], question) or found)
    if found
    else _math_value(result)
  )
  is_new = so or _SUMS_UP.search(last) or _agrees(said, value, question)
  return value if is_new else None


# What is still to be done has no result yet.
_TO_DO = re.compile(
  r"^[^=]*(?:\b(?:needs? to|have to|has to|let['’]?s)\b|^\W*(?:\w+ \d+\W+)?"
  r"(?:(?:now|next|first|then),? )?(?:we |you |I )?(?:must |can |should )?"
  r"(?:calculate|determine|find|add|subtract|multiply|divide|count|repeat|use"
  r"|write|check)\b)[^=]*$",
  re.IGNORECASE,
)
_ASKS_SHARE = re.compile(r"%|\bper ?cent|\b(?:share|rate|probability)\b", re.I)
# "Half of 86 is 43.", "17 times 6 equals 102 apples."
_IS_AT_END = re.compile(
  r"\b(?:is|equals|makes|gives)\s+[$€£]?-?\d[\d,.]*(?:\s+[a-z]+){0,2}\W*\Z"
)


# "12 × 2 = 24 for the cards, and 4 for the pens"
_ONE_MORE = re.compile(r"=[^=]*\d[^=\d]*(?:,|;|\band\b)[^=\d]*\d[^=]*\Z")
_COMPARISON = re.compile(r"\b(?:more|less|fewer|[a-z]{3,}er)\b", re.IGNORECASE)


def _compares(text: str, question: str) -> bool:
  """Whether a text tells a difference, and the question asks for none."""
  is_relative = re.search(rf"{_COMPARISON.pattern}\s+than\b", text, re.I)
  is_asked = _COMPARISON.search(question) or "difference" in question
  return bool(question and is_relative and not is_asked)


def _new(found: list[_Found], before: list[str], question: str) -> list[_Found]:
  """Of several values that a sentence has, those that were not told."""
  told = {one.value for one in _find(_plain(question))}
  if not question:
    told = {one.value for sentence in before for one in _find(sentence)}
    sides = [side for sentence in before for side in _right_sides(sentence)]
    told -= set(sides[-1:])
  return [one for one in found if one.value not in told]


_SUMS_UP = re.compile(
  r"\b(?:total|in all|we get|makes|correct|final)\b", re.IGNORECASE
)
# "17 remain after she gave 8 away", "after 2 hours, at 140 km"
_MORE = re.compile(
  r",?\s+(?:because\b|(?:after|since|when|while)\b(?!\s+\d))"
  r"|,\s+which\b(?! makes| leaves| gives| is \d+(?! (?:more|less|fewer)))"
  r"|,\s+(?:at|with|as)\b",
  re.IGNORECASE,
)


def _conclusion(sentence: str) -> tuple[str, str]:
  """The last "so" of a sentence, and what follows it; empty without one."""
  found = list(_CONCLUSION.finditer(sentence))
  return (found[-1][0], sentence[found[-1].end() :]) if found else ("", "")


def _agrees(said: list[str], value: Fraction | None, question: str) -> bool:
  """Whether a value was worked out before, or is all that a reply tells."""
  *before, last = said
  if question and _is_answered(last, value, question):
    return True
  sides = [side for sentence in before for side in _right_sides(sentence)]
  if sides:
    return value == sides[-1]
  found = [one for sentence in before for one in _find(sentence)]
  if found:
    return value == found[-1].value
  last = _MORE.split(last)[0]
  told = _find(last)
  if not question:
    return len(told) == 1
  ends = [0, *(one.end for one in told)]
  starts = [*(one.start for one in told), len(last)]
  rest = "".join(last[a:b] for a, b in zip(ends, starts, strict=True))
  return says(rest, question)


def _is_answered(last: str, value: Fraction | None, question: str) -> bool:
  """Whether a sentence has one new number, and else what was asked."""
  asked = replies.sentences(question)[-1]
  told = {one.value for one in _find(_plain(question))}
  found = [one for one in _find(last) if one.value not in told]
  if len(found) != 1 or found[0].value != value:
    return False
  rest = last[: found[0].start] + last[found[0].end :]
  is_told = bool(_find(rest)) and not _find(asked)
  return is_told or says(rest, question, asked)


# With these a numeral is only a part of what is said.
_WORDS = re.compile(
  r"\b(?:half|twice|double|triple|dozens?|times|below"
  r"|thirds?|quarters?|(?:fif|six|eigh|ten)ths?)\b",
  re.IGNORECASE,
)


def _repeats(sentence: str, question: str) -> bool:
  """Whether a sentence only says what the question says, numbers and all."""
  words = re.findall(r"\w+", sentence.lower())
  known = set(re.findall(r"\w+", question.lower()))
  numbers = [word for word in words if word[0].isdigit()]
  return (
    bool(question)
    and all(number in known for number in numbers)
    and 3 * sum(word in known for word in words) >= 2 * len(words)
  )


_CONCLUSION = re.compile(
  r"\b(?:so|therefore|thus|hence|total of|altogether|which (?:is|makes|leaves"
  r"|gives))\b",
  re.IGNORECASE,
)


def _is_item(line: str) -> bool:
  """Whether a line is a step of a list, "3. 20"."""
  return re.match(r"\s*(?:\d+[.)]|\|)\s", line) is not None


def _is_unfinished(text: str) -> bool:
  is_open = any(
    text.count(rf"\{a}") > text.count(rf"\{b}") for a, b in ("()", "[]")
  )
  return is_open or _UNFINISHED.search(text) is not None


def _is_whole(text: str) -> bool:
  """Whether a reply is complete, and does not stop amid a calculation."""
  if _is_unfinished(text):
    return False
  if not replies.is_cut_off(text):
    return True
  if _is_half_a_result(text):
    return False
  is_equation = _EQUATION_END.search(text) and len(_LETTERS.findall(text)) < 3
  most = _ONE_EQUATION if is_equation else _FEW_WORDS
  return len(text.split()) <= most


_SUM = re.compile(
  r"(\d[\d,]*(?:\.\d+)?)\s*([-+*/×÷x])\s*(\d[\d,]*(?:\.\d+)?)\s*="
  r"\s*(\d[\d,]*)\Z"
)


def _is_half_a_result(text: str) -> bool:
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
  result = _canonical(results.get(sign, one * other))
  said = match[4].replace(",", "")
  return result != said and result.startswith(said)


def _says_none(statement: str) -> bool:
  """Whether what is marked as the answer is one, but no number."""
  return len(statement.split()) <= _FEW_WORDS or replies.refuses(statement)


_DOLLARS = re.compile(r"\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def _inner(match: re.Match[str]) -> str:
  """What stands between dollars; two prices have text between them."""
  inner = next(filter(None, match.groups()))
  return match[0] if _GOES_ON.search(inner) else inner


def _has_math(text: str) -> bool:
  return "\\" in text or _DOLLARS.search(text) is not None


def _math_value(text: str) -> Fraction | None:
  """The value of LaTeX that stands alone, but for words around it."""
  if not _has_math(text):
    return None
  spans = [next(filter(None, groups)) for groups in _DOLLARS.findall(text)]
  outside = _DOLLARS.sub(" ", text) if spans else ""
  if len(spans) > 1 or _find(outside) or _GOES_ON.search(outside):
    return None
  if not spans and re.search(r"\\[(\[]|\$", text):
    return None  # cut off
  side = (spans[0] if spans else text).rpartition("=")[2].strip(" .")
  # A tower of powers, or a factorial, would take for ever.
  if len(side) > 80 or side.count("^") > 1 or re.search(r"\^\{?-?\d{3}", side):
    return None
  rest = re.sub(r"\\(?:[dt]?frac|sqrt|times|cdot|div|left|right)\b", "", side)
  if not re.search(r"\d", side) or re.search(r"[A-Za-z$!\\]", rest):
    return None
  return _parsed(side)


def _parsed(math: str) -> Fraction | None:
  # It takes half a second to import, and most replies have no LaTeX.
  import math_verify

  logging.getLogger("math_verify.parser").setLevel(logging.ERROR)
  settings = [math_verify.LatexExtractionConfig()]
  found = math_verify.parse(f"${math}$", settings, parsing_timeout=None)
  if not found or isinstance(found[0], str):
    return None
  try:
    value = found[0].doit()
    if not value.is_number or not value.is_rational and not value.is_Float:
      value = value.evalf(15)
    return Fraction(str(value))
  except (AttributeError, ValueError, TypeError, ZeroDivisionError):
    return None


def _canonical(value: Fraction) -> str:
  """A decimal where there is a finite one, else a fraction."""
  below = value.denominator
  for prime in (2, 5):
    while below % prime == 0:
      below //= prime
  if below != 1:
    return f"{value.numerator}/{value.denominator}"
  places = 0
  while (value * 10**places).denominator != 1:
    places += 1
  digits = str(abs(value * 10**places)).rjust(places + 1, "0")
  text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
  return f"-{text}" if value < 0 else text
