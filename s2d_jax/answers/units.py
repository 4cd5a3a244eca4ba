"""One amount in two units: "$0.75, which is 75 cents"."""

from __future__ import annotations

from fractions import Fraction
import re

# Of what, and how many of the smallest of them.
_SIZES = {
  "cent": ("money", 1),
  "dollar": ("money", 100),
  "second": ("time", 1),
  "minute": ("time", 60),
  "hour": ("time", 3600),
  "day": ("time", 86400),
  "week": ("time", 604800),
  "mm": ("length", 1),
  "cm": ("length", 10),
  "m": ("length", 1000),
  "km": ("length", 1000000),
  "g": ("mass", 1),
  "kg": ("mass", 1000),
}
_LONG = {"meter": "m", "metre": "m", "gram": "g"}
_PREFIX = {"kilo": "k", "centi": "c", "milli": "m"}
_NAME = (
  rf"(?:{'|'.join(_PREFIX)})?(?:{'|'.join(_LONG)})s?\b"
  rf"|(?:{'|'.join(sorted(_SIZES, key=len, reverse=True))})s?\b"
)
_AMOUNT = re.compile(
  rf"(?P<sign>\$)?(?P<number>\d[\d,]*(?:\.\d+)?)(?(sign)|[\s-]+(?P<unit>{_NAME}))"
)
_AND = re.compile(r"\s*(?:,|and)?\s*")


def _unit(name: str) -> str:
  for long, short in (_PREFIX | _LONG).items():
    name = name.replace(long, short)
  return name if name in _SIZES else name.removesuffix("s")


def same_amount(text: str) -> dict[str, Fraction]:
  """The numbers by unit, if all amounts of a text are one in several units."""
  totals: list[tuple[str, Fraction]] = []
  numbers: dict[str, Fraction] = {}
  end, unit = -1, ""
  for match in _AMOUNT.finditer(text):
    before = unit
    unit = _unit(match["unit"]) if match["unit"] else "dollar"
    kind, size = _SIZES[unit]
    number = Fraction(match["number"].replace(",", ""))
    # "2 hours and 15 minutes"
    if end >= 0 and _AND.fullmatch(text, end, match.start()):
      numbers.pop(before, None)
      totals[-1] = (kind, totals[-1][1] + number * size)
    else:
      numbers[unit] = number
      totals.append((kind, number * size))
    end = match.end()
  return numbers if len(totals) > 1 and len(set(totals)) == 1 else {}


_ASKED = re.compile(
  rf"\b(?:how many|in(?: how many)?|number of)\s+(?P<unit>{_NAME})",
  re.IGNORECASE,
)


def asked_unit(question: str) -> str:
  """The unit in which a question wants its answer; empty if it names none."""
  found = _ASKED.search(question)
  return _unit(found["unit"].lower()) if found else ""
