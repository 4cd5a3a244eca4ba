from __future__ import annotations

import collections
import itertools
import json

import pytest

from s2d_jax.errors import UserError
from s2d_jax.tasks import rules
from s2d_jax.tasks.instructions import Instructions
from s2d_jax.tasks.task import Example


@pytest.fixture(scope="module")
def splits():
  return Instructions().examples()


def _request(example: Example) -> str:
  """The text without its rule."""
  kind, value = example.inputs["kind"], example.inputs["value"]
  rule = rules.RULES[kind].worded(value)
  assert example.inputs["text"].endswith(f" {rule}")
  return example.inputs["text"].removesuffix(f" {rule}")


def test_every_example_is_another_one(splits):
  sizes = {split: len(found) for split, found in splits.items()}
  assert sizes == {"train": 200, "valid": 60, "test": 120}
  examples = list(itertools.chain(*splits.values()))
  assert len({example.id for example in examples}) == 380
  assert len({example.inputs["text"] for example in examples}) == 380


def test_no_request_is_in_two_splits():
  # All there are, which an error tells.
  sizes = {"train": 932, "valid": 468, "test": 1400}
  for split, size in sizes.items():
    with pytest.raises(UserError, match=rf"task.{split}=\d+ .*to {size},"):
      Instructions(**{split: size + 1})
  found = Instructions(**sizes).examples()
  requests = {s: set(map(_request, found[s])) for s in found}
  assert min(map(len, requests.values())) == 21
  for one, other in itertools.combinations(requests.values(), 2):
    assert not one & other
  examples = list(itertools.chain(*found.values()))
  assert len({example.id for example in examples}) == sum(sizes.values())


def test_kinds_take_turns(splits):
  first = [example.inputs["kind"] for example in splits["test"][:17]]
  assert first == list(rules.RULES)
  counts = collections.Counter(e.inputs["kind"] for e in splits["test"])
  assert set(counts.values()) == {7, 8}
  # And so do values and requests.
  for kind in rules.RULES:
    own = [e for e in splits["test"] if e.inputs["kind"] == kind]
    values = {str(example.inputs["value"]) for example in own}
    assert len(values) == min(len(rules.RULES[kind].values), len(own))
    assert len(set(map(_request, own))) >= 6


def test_the_seed_draws_and_sizes_leave_the_test_split_alone(splits):
  again = Instructions(train=5).examples()
  assert again["test"] == splits["test"]
  assert again["train"] == splits["train"][:5]
  assert Instructions(seed=1).examples()["test"] != splits["test"]


def test_examples_come_back_from_their_file(splits):
  for example in itertools.chain(*splits.values()):
    record = json.loads(json.dumps(example.to_record()))
    assert Example(**record) == example


def _accuracy(example: Example, reply: str) -> float:
  task = Instructions()
  found = task.answer(example, "plain", reply)
  return task.score(example, "plain", found and found.text)["accuracy"]


def _example(request: str, kind: str, value) -> Example:
  text = f"{request} {rules.RULES[kind].worded(value)}"
  inputs = {"text": text, "kind": kind, "value": value}
  return Example("x", "instructions", inputs)


def test_replies():
  example = _example("Why do cats purr?", "exact_words", 4)
  task = Instructions()
  assert task.fields(example, "plain")["text"] == (
    "Why do cats purr? Use exactly 4 words."
  )
  for reply in ("They are very happy.", "**They are very happy**\n"):
    assert _accuracy(example, reply) == 1.0, reply
    assert task.answer(example, "plain", reply).strict
  for reply in ("They are happy.", "", "<think>They are very happy.</think>"):
    assert _accuracy(example, reply) == 0.0, reply
  assert task.answer(example, "plain", " \n") is None
  assert task.target(example, "plain", "They are very happy.") is None


def test_a_request_that_is_repeated_is_no_answer():
  example = _example("Why do cats purr?", "exact_words", 4)
  assert _accuracy(example, "Why do cats purr?") == 0.0
  assert _accuracy(example, example.inputs["text"]) == 0.0
  assert _accuracy(example, "Use exactly 4 words.") == 0.0
  assert _accuracy(example, "Why do cats meow?") == 1.0
  dinner = _example("Say that dinner is ready.", "case", "lower case letters")
  assert _accuracy(dinner, "dinner is ready") == 1.0


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_needs_an_example(split):
  with pytest.raises(UserError, match=f"task.{split}=0 requests"):
    Instructions(**{split: 0})
