"""Do two countries have the same official language?

Languages are those of the law, or of all offices where no law names one
(English in Australia), by the CIA World Factbook. Countries with several
official languages are never asked about, nor are those whose language no other
country has: their answer would always be "no".
"""

from __future__ import annotations

from s2d_jax.tasks.country_pairs import CountryPairs, Relation, Shown

_COUNTRIES = {
  "Arabic": "AE BH EG JO KW LB LY MR OM SA TN YE",
  "English": "AU BZ GB GH GM GY JM LR NA NG SB SL TT US ZM",
  "French": "BJ CD CG CI FR SN TG",
  "Portuguese": "AO BR CV GW MZ PT",
  "Spanish": "AR CL CO CR CU DO EC ES GT MX NI SV UY VE",
}

_RELATION = Relation(
  question="Do {one} and {other} have the same official language?",
  part="What is the official language of {part}?",
  fact="{name} has {fact} as its official language.",
  same="the same language",
  different="two languages",
  shown={
    "HN": Shown("Honduras", "Spanish"),
    "QA": Shown("Qatar", "Arabic"),
    "GA": Shown("Gabon", "French"),
    "PA": Shown("Panama", "Spanish"),
    "SY": Shown("Syria", "Arabic"),
    "GN": Shown("Guinea", "French"),
  },
  pairs=(
    ("HN", "PA"), ("PA", "QA"), ("QA", "SY"), ("SY", "GA"), ("GA", "GN"),
    ("GN", "HN"),
  ),
)  # fmt: skip


class SameLanguage(CountryPairs):
  """Asks whether two countries have the same official language.

  Questions to learn from are asked in both orders: there are few countries.

  Args:
    train: pairs to learn from.
    valid: pairs held out to choose the checkpoint.
    test: pairs held out for the report.
    valid_countries: those that the pairs of the validation split are of.
    test_countries: those that the pairs of the test split are of; the training
      pairs are of all the others.
    seed: of the splits and the pairs.
  """

  name = "same_language"
  relation = _RELATION
  taught = None

  def __init__(
    self,
    train: int = 90,
    valid: int = 12,
    test: int = 50,
    valid_countries: int = 10,
    test_countries: int = 20,
    seed: int = 0,
  ):
    facts = {
      iso: language
      for language, codes in _COUNTRIES.items()
      for iso in codes.split()
    }
    super().__init__(
      facts,
      {"train": train, "valid": valid, "test": test},
      {"valid": valid_countries, "test": test_countries},
      seed,
    )
