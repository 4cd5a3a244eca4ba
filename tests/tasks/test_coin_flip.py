from __future__ import annotations

import itertools
import re

import pytest

from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError
from s2d_jax.tasks.coin_flip import CoinFlip


def _heads_up(text: str) -> str:
  """Plays the story out, sentence by sentence."""
  start, *middle, question = re.findall(r"[^.?]+[.?]", text)
  assert start == "A coin is heads up."
  assert question.strip() == "Is the coin still heads up?"
  heads = True
  for sentence in middle:
    act = re.fullmatch(
      r" ([a-z]+) (flips|does not flip) the coin\.", sentence
    ).group(2)
    heads = not heads if act == "flips" else heads
  return "yes" if heads else "no"


def _all(task: CoinFlip):
  return list(itertools.chain(*task.examples().values()))


@pytest.mark.parametrize("people", [1, 2, 3, 7])
@pytest.mark.parametrize("renamed", [False, True])
def test_the_label_is_how_the_story_ends(people, renamed):
  task = CoinFlip(people=people, train=20, valid=10, test=10, renamed=renamed)
  assert task.variants == (("plain", "renamed") if renamed else ("plain",))
  for example in _all(task):
    for variant in task.variants:
      fields = task.fields(example, variant)
      assert fields["text"].count("flip") == people
      assert _heads_up(fields["text"]) == example.label


def test_the_wording():
  task = CoinFlip(train=1, valid=1, test=1)
  example = _all(task)[0]
  inputs = example.inputs | {"people": ["ann", "bob"], "flips": [True, False]}
  text = task.fields(_with(example, inputs), "plain")["text"]
  assert text == (
    "A coin is heads up. ann flips the coin. bob does not flip the coin. Is"
    " the coin still heads up?"
  )


def _with(example, inputs):
  return type(example)(example.id, example.task, inputs, example.label)


@pytest.mark.parametrize("renamed", [False, True])
def test_no_two_texts_are_equal(renamed):
  task = CoinFlip(train=8000, valid=2000, test=2000, renamed=renamed)
  examples = _all(task)
  texts = [
    task.fields(example, variant)["text"]
    for example in examples
    for variant in task.variants
  ]
  assert len(set(texts)) == len(texts) == 12_000 * len(task.variants)
  assert len({example.id for example in examples}) == len(examples)


def test_every_example_there_is_can_be_drawn():
  room = 2 * len(_names())
  task = CoinFlip(people=1, train=room - 20, valid=10, test=10)
  texts = {task.fields(example, "plain")["text"] for example in _all(task)}
  assert len(texts) == room
  with pytest.raises(UserError, match=f"the {room} different examples"):
    CoinFlip(people=1, train=room - 19, valid=10, test=10)


def _names() -> set[str]:
  examples = _all(CoinFlip(train=4000, valid=1, test=1))
  return {name for e in examples for name in e.inputs["people"]}


def test_both_actions_and_answers_are_as_likely():
  examples = _all(CoinFlip(train=4000, valid=10, test=10))
  flips = [flip for e in examples for flip in e.inputs["flips"]]
  # Five standard deviations of 8,040 and 4,020 throws.
  assert abs(sum(flips) / len(flips) - 0.5) < 5 * 0.5 / 8040**0.5
  yes = sum(e.label == "yes" for e in examples) / len(examples)
  assert abs(yes - 0.5) < 5 * 0.5 / 4020**0.5


def test_others_do_the_same_under_other_names():
  task = CoinFlip(people=3, train=50, valid=5, test=5, renamed=True)
  act = lambda text: re.findall("does not flip|flips", text)
  for example in _all(task):
    people, renamed = example.inputs["people"], example.inputs["renamed"]
    assert len({*people, *renamed}) == 6
    texts = [task.fields(example, v)["text"] for v in task.variants]
    assert act(texts[0]) == act(texts[1])
    assert all(name in texts[1] for name in renamed)


def test_replies_and_targets():
  task = CoinFlip(train=5, valid=5, test=5, renamed=True)
  example = _all(task)[0]
  for variant, answer in itertools.product(task.variants, ("yes", "no")):
    target = task.target(example, variant, answer)
    assert task.answer(example, variant, target) == Answer(answer, True)
  assert task.answer(example, "plain", "Yes.") == Answer("yes", True)
  assert task.answer(example, "plain", "I wonder") is None
  assert task.score(example, "plain", example.label) == {"accuracy": 1.0}
  assert task.score(example, "plain", None) == {"accuracy": 0.0}


def test_worked_examples_end_as_the_story_does():
  task = CoinFlip(train=1, valid=1, test=1)
  prompt = task.prompts["cot_few_shot"]
  for user, reply in prompt.shots:
    answer = _heads_up(user.splitlines()[0])
    assert reply.endswith(f"\nAnswer: {answer}")
    assert not _names() & set(re.findall("[a-z]+", user.splitlines()[0])[4:5])
  asked = prompt.messages(**task.fields(_all(task)[0], "plain"))
  assert asked[-1]["content"].splitlines()[-1] == user.splitlines()[-1]
  assert {reply.split()[-1] for _, reply in prompt.shots} == {"yes", "no"}


def test_the_seed_draws_and_sizes_leave_the_test_split_alone():
  few = CoinFlip(train=5, valid=20, test=20).examples()
  more = CoinFlip(train=50, valid=20, test=20).examples()
  assert few["test"] == more["test"] and few["train"] == more["train"][:5]
  other = CoinFlip(train=5, valid=20, test=20, seed=1).examples()
  assert other["test"] != few["test"]


@pytest.mark.parametrize(
  "options, named",
  [
    ({"people": 0}, "task.people=0 must be from 1 to"),
    ({"people": 500}, "task.people=500 must be from 1 to"),
    ({"valid": 0}, "task.valid=0"),
  ],
)
def test_options_that_cannot_be(options, named):
  with pytest.raises(UserError, match=named):
    CoinFlip(**options)
