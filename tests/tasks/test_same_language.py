"""Pairs of countries with the same official language, by another list."""

from __future__ import annotations

import collections
import itertools
import re

import pytest

from s2d_jax.errors import UserError
from s2d_jax.system2.methods import METHODS
from s2d_jax.tasks.same_language import SameLanguage
from s2d_jax.tasks.task import asked, cluster_of
from tests.system2.replies import finish, reply, said

# From an atlas, not from the package's own list.
_ATLAS = {
  "Spanish": ("Chile", "Cuba", "Mexico", "Spain", "Venezuela", "Argentina"),
  "Arabic": ("Egypt", "Jordan", "Oman", "Libya", "Saudi Arabia"),
  "English": ("Australia", "Jamaica", "Ghana", "Nigeria", "the United States"),
  "French": ("France", "Senegal", "Togo"),
  "Portuguese": ("Brazil", "Portugal", "Angola", "Mozambique"),
}
_LANGUAGE = {name: one for one, names in _ATLAS.items() for name in names}
_SEVERAL = (
  "Canada", "Switzerland", "Peru", "Ireland", "India", "Morocco", "Haiti",
)  # fmt: skip


@pytest.fixture(scope="module")
def task() -> SameLanguage:
  return SameLanguage()


@pytest.fixture(scope="module", params=range(4))
def splits(request):
  return SameLanguage(seed=request.param).examples()


def _names(examples) -> collections.Counter:
  return collections.Counter(n for e in examples for n in e.inputs["countries"])


def test_splits_share_no_country(splits):
  names = {split: set(_names(examples)) for split, examples in splits.items()}
  assert len(names["test"]) == 20
  for one, other in itertools.combinations(names.values(), 2):
    assert not one & other
  everywhere = set.union(*names.values())
  assert not everywhere & {*_SEVERAL}
  shown = {one.name for one in SameLanguage.relation.shown.values()}
  assert not everywhere & shown


def test_no_name_speaks_for_an_answer(splits):
  for examples in splits.values():
    by_label = {
      label: [e for e in examples if e.label == label]
      for label in ("yes", "no")
    }
    assert _names(by_label["yes"]) == _names(by_label["no"])


def test_labels_are_those_of_an_atlas(splits):
  checked = collections.Counter()
  for example in itertools.chain(*splits.values()):
    spoken = [_LANGUAGE.get(name) for name in example.inputs["countries"]]
    if None not in spoken:
      assert example.label == ("yes" if spoken[0] == spoken[1] else "no")
      checked[example.label] += 1
  assert min(checked["yes"], checked["no"]) > 5


def test_every_question_is_asked_in_both_orders(task, splits):
  for example in itertools.chain(*splits.values()):
    one, other = cluster_of(task, example)
    texts = [task.fields(example, v)["text"] for v in asked(task, example)]
    assert texts == [
      f"Do {one} and {other} have the same official language?",
      f"Do {other} and {one} have the same official language?",
    ]
    assert task.inputs_of(texts[0]) == example.inputs


def test_it_is_decomposed_into_its_countries(task, splits):
  example = splits["test"][0]
  prompts = METHODS["decompose"].prompts_for(task.name, task.prompts)
  steps = METHODS["decompose"].think(task.fields(example, "plain"), prompts)
  assert list(map(said, next(steps))) == [
    f"What is the official language of {name}?"
    for name in example.inputs["countries"]
  ]
  assert finish(steps, [reply("Arabic"), reply("Arabic.")]) == "yes"


@pytest.mark.parametrize("name", ["system1_shots", "cot_few_shot", "merge"])
def test_worked_examples_are_right_and_balanced(task, name):
  facts = {one.name: one.fact for one in task.relation.shown.values()}
  assert {facts[name] for name in ("Honduras", "Panama")} == {"Spanish"}
  assert {facts[name] for name in ("Qatar", "Syria")} == {"Arabic"}
  assert {facts[name] for name in ("Gabon", "Guinea")} == {"French"}
  uses = {"yes": [], "no": []}
  for user, said_there in task.prompts[name].shots:
    [pair] = re.findall(r"Do (\w+) and (\w+) have the same official", user)
    answer = said_there.split()[-1]
    assert answer == ("yes" if facts[pair[0]] == facts[pair[1]] else "no")
    uses[answer] += pair
    if name == "cot_few_shot":
      for country in pair:
        fact = f"{country} has {facts[country]} as its official language."
        assert fact in said_there
  assert sorted(uses["yes"]) == sorted(uses["no"]) == sorted(facts)


def test_more_pairs_than_the_countries_have():
  with pytest.raises(UserError, match="balanced pairs cannot be had of the"):
    SameLanguage(train=400).examples()
  with pytest.raises(UserError, match="at most 52 together"):
    SameLanguage(test_countries=50)
