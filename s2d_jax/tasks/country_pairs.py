"""Do two countries share something? Two facts and a comparison.

Pairs have no cue but the facts: a country stands in as many pairs that share
theirs as in others, so that no name speaks for an answer. Splits are by
country, so nothing about a test country is ever trained on.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools
import random
import re
from typing import Any, NamedTuple

from s2d_jax.answers.choice import Choice
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks import countries
from s2d_jax.tasks.countries import Country
from s2d_jax.tasks.exact_match import ExactMatch
from s2d_jax.tasks.task import Example

Pair = tuple[Country, Country]
Shares = Callable[[Pair], bool]

_FORMAT = "yes or no"
# Before it is given up to find pairs: draws, and sweeps over each of them.
_DRAWS, _SWEEPS = 5, 500


class Shown(NamedTuple):
  """A country of the worked examples, which is never asked about."""

  name: str
  fact: str


@dataclasses.dataclass(frozen=True)
class Relation:
  """What two countries may share, and how it is said.

  Attributes:
    question: about {one} and {other}.
    part: the question about one of them, {part}.
    fact: its answer, about {name} and {fact}.
    same: what two facts are that are equal, as "the same continent".
    different: and what they are if not, as "two continents".
    shown: countries of the worked examples, by their ISO codes.
    pairs: of these; each stands in as many that share the fact as in others.
  """

  question: str
  part: str
  fact: str
  same: str
  different: str
  shown: Mapping[str, Shown]
  pairs: Sequence[tuple[str, str]]


class CountryPairs(ExactMatch):
  """Asks whether two countries share a fact.

  Half of the pairs of every split do. The second variant names the countries in
  the other order; test questions are asked in both.

  Args:
    facts: of the countries to ask about, by their ISO codes.
    sizes: pairs of the splits.
    held_out: countries of the splits test and valid; the training pairs are of
      all the others.
    seed: of the splits and the pairs.

  Attributes:
    relation: what may be shared.
    taught: variants of the questions to learn from; None: all.
    more_countries: options that give the splits more countries.
  """

  variants = ("plain", "swapped")
  perturbations: tuple[str, ...] = ()
  plain = biased = "plain"
  parser = Choice(("yes", "no"))
  name: str
  relation: Relation
  taught: tuple[str, ...] | None = ("plain",)
  more_countries = "task.valid_countries, task.test_countries"

  def __init__(
    self,
    facts: Mapping[str, str],
    sizes: Mapping[str, int],
    held_out: Mapping[str, int],
    seed: int,
  ):
    self._facts = facts
    self._sizes = {split: sizes[split] for split in ("test", "valid", "train")}
    self._held_out = held_out
    self._seed = seed
    self.prompts = _prompts(self.relation)
    for split, size in self._sizes.items():
      if size < 4 or size % 2:
        raise UserError(
          f"task.{split}={size} pairs must be an even number, 4 or more: the"
          " answer to half of them is yes"
        )
    most = len(facts) - 2
    if min(held_out.values()) < 2 or sum(held_out.values()) > most:
      raise UserError(
        f"task.valid_countries={held_out['valid']} and"
        f" task.test_countries={held_out['test']} must each be at least two,"
        f" and at most {most} together, which leaves two of the {most + 2} to"
        " learn from"
      )

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; no two are of the same countries."""
    known = [one for one in countries.countries(0) if one["iso"] in self._facts]
    left = countries.shuffled(known, self._seed)
    splits = {}
    # Every split has its share of each fact.
    left.sort(key=self._fact)
    for split, size in self._sizes.items():
      count = self._held_out.get(split, len(left))
      chosen = [left[place * len(left) // count] for place in range(count)]
      left = [country for country in left if country not in chosen]
      variants = None if split == "test" else self.taught
      splits[split] = [
        dataclasses.replace(example, variants=variants)
        for example in self._pairs(split, chosen, size)
      ]
    return splits

  def inputs_of(self, text: str) -> Mapping[str, Any] | None:
    """Of a text that asks as this task does; a name may have "and" in it."""
    before, _, behind = self.relation.question.partition("{one} and {other}")
    found = re.search(rf"\b{re.escape(before)}(.+){re.escape(behind)}", text)
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
      "text": _question(
        self.relation, names[::-1] if variant == "swapped" else names
      ),
      "format": _FORMAT,
      "parts": "\n".join(names),
      "rule": "same",
    }

  def cluster(self, example: Example) -> tuple[str, ...]:
    """Both countries: whoever errs about one errs in all of its pairs."""
    return tuple(example.inputs["countries"])

  def _fact(self, country: Country) -> str:
    return self._facts[country["iso"]]

  def _share(self, pair: Pair) -> bool:
    return self._fact(pair[0]) == self._fact(pair[1])

  def _pairs(
    self, split: str, chosen: Sequence[Country], size: int
  ) -> list[Example]:
    rng = random.Random(f"{self._seed}/{split}")
    for _ in range(_DRAWS):
      within = _that_share(chosen, size // 2, self._share, rng)
      across = within and _that_do_not(within, self._share, rng)
      if across:
        pairs = [rng.sample(pair, 2) for pair in within + across]
        rng.shuffle(pairs)
        return [self._example(*pair) for pair in pairs]
    raise UserError(
      f"task.{split}={size} balanced pairs cannot be had of the"
      f" {len(chosen)} countries of that split; ask for fewer pairs, or for"
      f" more countries ({self.more_countries})"
    )

  def _example(self, one: Country, other: Country) -> Example:
    return Example(
      id=f"{one['iso']}-{other['iso']}",
      task=self.name,
      inputs={"countries": list(map(countries.name_in_sentence, (one, other)))},
      label="yes" if self._share((one, other)) else "no",
    )


def _that_share(
  chosen: Sequence[Country], count: int, shares: Shares, rng: random.Random
) -> list[Pair]:
  """Pairs in which all countries stand about as often; none if too few."""
  pairs = list(filter(shares, itertools.combinations(chosen, 2)))
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


def _that_do_not(
  within: Sequence[Pair], shares: Shares, rng: random.Random
) -> list[Pair]:
  """The same countries, as often, in other pairs; none if that cannot be.

  The second countries change places until no pair shares its fact and none is
  there twice.
  """
  firsts, seconds = map(list, zip(*within, strict=True))
  rng.shuffle(seconds)
  for _ in range(_SWEEPS):
    pairs = list(zip(firsts, seconds, strict=True))
    seen = set()
    is_wrong = []
    for one, other in pairs:
      name = frozenset((one["iso"], other["iso"]))
      is_wrong.append(shares((one, other)) or name in seen)
      seen.add(name)
    if not any(is_wrong):
      return pairs
    for place in itertools.compress(range(len(pairs)), is_wrong):
      other = rng.randrange(len(pairs))
      mended = firsts[place], seconds[other]
      changed = firsts[other], seconds[place]
      if not (shares(mended) or shares(changed)):
        seconds[place], seconds[other] = seconds[other], seconds[place]
  return []


def _question(relation: Relation, names: Sequence[str]) -> str:
  return relation.question.format(one=names[0], other=names[1])


_DIRECT = "{text}\nAnswer with {format} only."
_STEPS = (
  "{text}\nThink step by step, then end with a line that starts with"
  ' "Answer:" and has {format}.'
)


def _asked(template: str, relation: Relation, pair: tuple[Shown, Shown]) -> str:
  text = _question(relation, [one.name for one in pair])
  return template.format(text=text, format=_FORMAT)


def _direct(pair: tuple[Shown, Shown]) -> str:
  return "yes" if pair[0].fact == pair[1].fact else "no"


def _reasoned(relation: Relation, pair: tuple[Shown, Shown]) -> str:
  facts = [relation.fact.format(name=one.name, fact=one.fact) for one in pair]
  is_same = _direct(pair) == "yes"
  verdict = f"That is {relation.same if is_same else relation.different}."
  steps = " ".join([*facts, verdict])
  return f"{steps[0].upper()}{steps[1:]}\nAnswer: {_direct(pair)}"


def _prompts(relation: Relation) -> Mapping[str, Template]:
  pairs = [
    (relation.shown[one], relation.shown[other])
    for one, other in relation.pairs
  ]
  return {
    # Room for whole sentences: few words are said by those who are shown how.
    "system1": Template(_DIRECT, max_new_tokens=32, stop=("\n",)),
    "system1_shots": Template(
      _DIRECT,
      shots=tuple(
        (_asked(_DIRECT, relation, pair), _direct(pair)) for pair in pairs
      ),
      max_new_tokens=8,
      stop=("\n",),
    ),
    "cot_few_shot": Template(
      _STEPS,
      shots=tuple(
        (_asked(_STEPS, relation, pair), _reasoned(relation, pair))
        for pair in pairs
      ),
      max_new_tokens=96,
    ),
    "part": Template(
      relation.part,
      shots=tuple(
        (relation.part.format(part=one.name), one.fact)
        for one in relation.shown.values()
      ),
      max_new_tokens=12,
      stop=("\n",),
    ),
    "merge": Template(
      "{answers}\n\n{text}\nAnswer with {format} only.",
      shots=tuple(
        (
          "\n".join(" ".join(one) for one in pair)
          + "\n\n"
          + _asked(_DIRECT, relation, pair),
          _direct(pair),
        )
        for pair in pairs
      ),
      max_new_tokens=8,
      stop=("\n",),
    ),
  }
