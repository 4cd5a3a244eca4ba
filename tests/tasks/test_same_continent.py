from __future__ import annotations

import collections
import itertools
import re

import pytest

from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError
from s2d_jax.system2.methods import METHODS
from s2d_jax.tasks.same_continent import SameContinent
from s2d_jax.tasks.task import cluster_of
from tests.system2.replies import finish, reply, said

# From an atlas, not from the package's own source.
_ATLAS = {
  "Africa": (
    "Nigeria", "Kenya", "Morocco", "South Africa", "the Gambia", "Chad",
  ),
  "Asia": ("Japan", "India", "Israel", "the Philippines", "Mongolia"),
  "Europe": ("France", "Ireland", "Ukraine", "the Netherlands", "Greece"),
  "North America": ("Canada", "Cuba", "Panama", "the Dominican Republic"),
  "South America": ("Peru", "Chile", "Brazil"),
  "Oceania": ("Australia", "New Zealand"),
}  # fmt: skip
_CONTINENT = {name: place for place, names in _ATLAS.items() for name in names}
_OF_SHOTS = {
  "Iceland": "Europe",
  "Malta": "Europe",
  "Bhutan": "Asia",
  "the Maldives": "Asia",
  "Comoros": "Africa",
  "the Seychelles": "Africa",
  "Guyana": "South America",
  "Suriname": "South America",
  "the Bahamas": "North America",
  "Barbados": "North America",
}


@pytest.fixture(scope="module")
def task() -> SameContinent:
  return SameContinent()


@pytest.fixture(scope="module")
def splits(task):
  return task.examples()


def _names(examples) -> collections.Counter:
  return collections.Counter(n for e in examples for n in e.inputs["countries"])


def test_splits_share_no_country(splits):
  assert {split: len(e) for split, e in splits.items()} == {
    "test": 200, "valid": 80, "train": 1300,
  }  # fmt: skip
  names = {split: set(_names(examples)) for split, examples in splits.items()}
  # A country without another of its continent in the split is in no pair.
  assert 33 <= len(names["test"]) <= 36 and 20 <= len(names["valid"]) <= 24
  for one, other in itertools.combinations(names.values(), 2):
    assert not one & other


def test_no_name_speaks_for_an_answer(splits):
  for examples in splits.values():
    yes = [e for e in examples if e.label == "yes"]
    no = [e for e in examples if e.label == "no"]
    assert len(yes) == len(no)
    assert _names(yes) == _names(no)
    # Nor does the place in the list.
    changes = sum(
      one.label != other.label
      for one, other in zip(examples, examples[1:], strict=False)
    )
    assert 0.3 < changes / len(examples) < 0.7


def test_no_two_pairs_are_of_the_same_countries(splits):
  pairs = [
    frozenset(example.inputs["countries"])
    for examples in splits.values()
    for example in examples
  ]
  assert len(set(pairs)) == len(pairs) and {len(p) for p in pairs} == {2}
  ids = {example.id for examples in splits.values() for example in examples}
  assert len(ids) == len(pairs)


def test_labels_are_those_of_an_atlas(splits):
  checked = collections.Counter()
  for example in itertools.chain(*splits.values()):
    places = [_CONTINENT.get(name) for name in example.inputs["countries"]]
    if None not in places:
      assert example.label == ("yes" if places[0] == places[1] else "no")
      checked[example.label] += 1
  assert min(checked["yes"], checked["no"]) > 5


def test_countries_on_two_continents_are_not_asked_about():
  task = SameContinent(
    train=500, valid_countries=60, test_countries=60, min_population=1
  )
  names = _names(itertools.chain(*task.examples().values()))
  for name in (
    "Russia", "Turkey", "Egypt", "Kazakhstan", "Cyprus", "Georgia", *_OF_SHOTS,
  ):  # fmt: skip
    assert not any(name.removeprefix("the ") in one for one in names), name


def test_the_wording(task, splits):
  example = splits["test"][0]
  one, other = example.inputs["countries"]
  fields = task.fields(example, "plain")
  assert fields["text"] == f"Are {one} and {other} on the same continent?"
  swapped = task.fields(example, "swapped")
  assert swapped["text"] == f"Are {other} and {one} on the same continent?"
  # The program asks the same in both orders.
  for name in ("parts", "rule"):
    assert swapped[name] == fields[name]
  assert cluster_of(task, example) == (one, other)


def test_replies_and_targets(task, splits):
  example = splits["test"][0]
  for variant, answer in itertools.product(task.variants, ("yes", "no")):
    target = task.target(example, variant, answer)
    assert task.answer(example, variant, target) == Answer(answer, True)
  assert task.answer(example, "plain", "No, they are not.").text == "no"
  assert task.answer(example, "plain", "In Europe.") is None
  assert task.score(example, "plain", example.label) == {"accuracy": 1.0}
  assert task.score(example, "plain", None) == {"accuracy": 0.0}


@pytest.mark.parametrize("name", ["system1_shots", "cot_few_shot", "merge"])
def test_worked_examples_are_right_and_balanced(task, name):
  uses = {"yes": [], "no": []}
  for user, reply_text in task.prompts[name].shots:
    [pair] = re.findall(r"Are (.+) and (.+) on the same continent\?", user)
    places = [_OF_SHOTS[country] for country in pair]
    answer = reply_text.split()[-1]
    assert answer == ("yes" if places[0] == places[1] else "no")
    uses[answer] += pair
    facts = {
      "system1_shots": [],
      "cot_few_shot": [
        f"{c} is in {p}." for c, p in zip(pair, places, strict=True)
      ],
      "merge": [f"{c} {p}\n" for c, p in zip(pair, places, strict=True)],
    }[name]
    said_there = f"{user}\n{reply_text}".lower()
    assert all(fact.lower() in said_there for fact in facts)
  # No name speaks for an answer here, either.
  assert sorted(uses["yes"]) == sorted(uses["no"]) == sorted(_OF_SHOTS)


def test_worked_examples_end_as_the_question_does(task, splits):
  fields = task.fields(splits["test"][0], "plain")
  for name in ("system1_shots", "cot_few_shot"):
    asked = task.prompts[name].messages(**fields)
    for message in asked[::2]:
      assert (
        message["content"].splitlines()[1:]
        == (asked[-1]["content"].splitlines()[1:])
      )
  plain = task.prompts["system1"].messages(**fields)
  assert plain[-1] == task.prompts["system1_shots"].messages(**fields)[-1]


def test_the_facts_of_the_worked_examples(task):
  for user, place in task.prompts["part"].shots:
    [country] = re.findall(r"Which continent is (.+) in\?", user)
    assert _OF_SHOTS[country] == place


def test_it_is_decomposed_into_its_countries(task, splits):
  example = splits["test"][0]
  prompts = METHODS["decompose"].prompts_for(task.name, task.prompts)
  steps = METHODS["decompose"].think(task.fields(example, "plain"), prompts)
  calls = next(steps)
  assert list(map(said, calls)) == [
    f"Which continent is {name} in?" for name in example.inputs["countries"]
  ]
  merged = finish(steps, [reply("Asia"), reply("Africa")])
  assert task.answer(example, "plain", merged) == Answer("no", True)


@pytest.mark.parametrize("seed", range(4))
def test_few_pairs_are_balanced_too(seed):
  for examples in SameContinent(4, 4, 4, seed=seed).examples().values():
    assert sorted(e.label for e in examples) == ["no", "no", "yes", "yes"]


def test_the_seed_draws_and_sizes_leave_the_test_split_alone(splits):
  few = SameContinent(train=10).examples()
  assert few["test"] == splits["test"] and few["valid"] == splits["valid"]
  other = SameContinent(train=10, seed=1).examples()
  assert set(_names(other["test"])) != set(_names(splits["test"]))


@pytest.mark.parametrize(
  "options, named",
  [
    ({"train": 0}, "task.train=0 pairs must be an even number"),
    ({"test": 2}, "task.test=2 pairs must be an even number, 4 or more"),
    ({"valid": 7}, "task.valid=7 pairs must be an even number"),
    ({"valid_countries": 1}, "task.valid_countries=1 and .* at least two"),
    ({"test_countries": 170}, r"and at most \d+ together"),
  ],
)
def test_options_that_cannot_be(options, named):
  with pytest.raises(UserError, match=named):
    SameContinent(**options)


@pytest.mark.parametrize(
  "options", [{"test": 1000}, {"train": 5000}, {"valid_countries": 5}]
)
def test_more_pairs_than_the_countries_have(options):
  wanted = "balanced pairs cannot be had of the .*, task.min_population"
  with pytest.raises(UserError, match=wanted):
    SameContinent(**options).examples()
