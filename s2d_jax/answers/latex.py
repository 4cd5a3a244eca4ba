"""The value of LaTeX: "\\frac{3}{4}", "\\sqrt{16}"."""

from __future__ import annotations

from fractions import Fraction
import logging
import re

from s2d_jax.answers.numerals import find

GOES_ON = re.compile(
  r"\b(?:or|and|to|plus|minus|times|remainder|over|than|if|not|but|by"
  r"|repeating|recurring|below)\b|[+*×÷]|\d\s*x\b|-\s*\d",
  re.IGNORECASE,
)
_DOLLARS = re.compile(r"\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def _inner(match: re.Match[str]) -> str:
  """What stands between dollars; two prices have text between them."""
  inner = next(filter(None, match.groups()))
  return match[0] if GOES_ON.search(inner) else inner


def unwrapped(text: str) -> str:
  """A text without the signs round its LaTeX."""
  return _DOLLARS.sub(_inner, text)


def has_math(text: str) -> bool:
  return "\\" in text or _DOLLARS.search(text) is not None


def math_value(text: str) -> Fraction | None:
  """The value of LaTeX that stands alone, but for words around it."""
  if not has_math(text):
    return None
  spans = [next(filter(None, groups)) for groups in _DOLLARS.findall(text)]
  outside = _DOLLARS.sub(" ", text) if spans else ""
  if len(spans) > 1 or find(outside) or GOES_ON.search(outside):
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
