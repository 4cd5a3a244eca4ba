"""Numerals in a text and their values: "1,234", "twenty", "2 1/2", "1e3"."""

from __future__ import annotations

from fractions import Fraction
import re
from typing import NamedTuple
import unicodedata

_MINUS = r"(?:[-+](?=[$€£¥₹.\d])|\b(?:minus|negative)\s+)"
_CURRENCY = r"(?:[$€£¥₹]|\b(?:USD|EUR|GBP|US\$)\s?)"
_SCALES = {
  "dozen": 12,
  "hundred": 100,
  "thousand": 1000,
  "million": 10**6,
  "billion": 10**9,
}
NUMERAL = re.compile(
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
_MOST_DIGITS = 30  # more are a loop, not a number
# "48.500" is 48500 in half of Europe, and 48.5 elsewhere.
_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d\d0")


class Numeral(NamedTuple):
  value: Fraction
  start: int
  end: int


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


# "1.250,50" and "3,5"; "2,35,000"
_EUROPEAN = re.compile(
  r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+(?=,\d{1,2}(?!\d))|\d+(?=,\d(?!\d))),(\d{1,2})"
  r"(?=\s*[^\W\d_]|\s*[€$£]|\W*\Z)"
)
_INDIAN = re.compile(r"(?<![\d.,])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
# "37,50 €"
_EUROS = re.compile(
  r"(?<![\d.,])(€\s?\d+|\d+(?=,\d\d\s?(?:€|EUR|euros?\b))),(?=\d\d(?!\d))",
  re.IGNORECASE,
)


def plain(text: str) -> str:
  """Digits for words and all scripts, one kind of minus, no thin spaces."""
  text = _IN_WORDS.sub(_in_digits, text)
  text = _HUNDREDS.sub(
    lambda match: str(100 * int(match[1].replace("a", "1")) + int(match[2])),
    text,
  )
  text = re.sub("[-=]+>", "→", text)
  text = _EUROPEAN.sub(lambda m: m[1].replace(".", "") + "." + m[2], text)
  text = _INDIAN.sub(lambda match: match[0].replace(",", ""), text)
  text = _EUROS.sub(r"\1.", text)
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


def find(text: str) -> list[Numeral]:
  """The numerals of a text that says of none that it is something else."""
  # "2,962 metres (9,718 ft)"
  if NUMERAL.search(_PARENTHESIS.sub("", text)):
    text = _PARENTHESIS.sub(lambda match: " " * len(match[0]), text)
  found = []
  for match in NUMERAL.finditer(text):
    value = value_of(match)
    if value is not None:
      found.append(Numeral(value, match.start(), match.end()))
  return found


def value_of(match: re.Match[str]) -> Fraction | None:
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


def only(found: list[Numeral]) -> Fraction | None:
  values = {one.value for one in found}
  return values.pop() if len(values) == 1 else None


def canonical(value: Fraction) -> str:
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
