from __future__ import annotations

import itertools
import re

import pytest

from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError
from s2d_jax.tasks.last_letters import LastLetters


@pytest.fixture(scope="module")
def splits():
  return LastLetters().examples()


def _words(examples) -> list[str]:
  return [word for example in examples for word in example.inputs["words"]]


def test_no_word_is_used_twice(splits):
  assert {split: len(found) for split, found in splits.items()} == {
    "train": 200,
    "valid": 200,
    "test": 200,
  }
  words = _words(itertools.chain(*splits.values()))
  assert len(words) == 1200 == len({word.lower() for word in words})
  assert all(re.fullmatch("[A-Z][a-z]{3,9}", word) for word in words)
  assert len({e.id for found in splits.values() for e in found}) == 600


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_label_is_what_the_text_asks_for(count):
  task = LastLetters(words=count, train=5, valid=5, test=5)
  for example in itertools.chain(*task.examples().values()):
    text = task.fields(example, "plain")["text"]
    quoted = re.fullmatch(
      r'Take the last letters of the words in "(.+)" and concatenate them\.',
      text,
    ).group(1)
    words = quoted.split(" ")
    assert len(words) == count
    assert example.label == "".join(word[-1:] for word in words)


def test_right_and_wrong_replies(splits):
  task = LastLetters()
  example = splits["test"][0]
  right = example.label
  for reply in (right, right.upper(), f'"{right}"', f"The answer is: {right}"):
    answer = task.answer(example, "plain", reply).text
    assert task.score(example, "plain", answer) == {"accuracy": 1.0}, reply
  for reply in (right[::-1] + "q", ""):
    found = task.answer(example, "plain", reply)
    answer = found and found.text
    assert task.score(example, "plain", answer) == {"accuracy": 0.0}, reply


def test_a_target_is_read_as_the_answer_that_it_says(splits):
  task = LastLetters()
  for example in splits["valid"]:
    target = task.target(example, "plain", example.label)
    assert task.answer(example, "plain", target) == Answer(example.label, True)


def test_worked_examples_are_right_and_not_asked_about(splits):
  asked = set(_words(itertools.chain(*splits.values())))
  for name in ("rephrase", "respond", "cot_few_shot"):
    shots = LastLetters().prompts[name].shots
    assert len(shots) == 3
    for user, reply in shots:
      words = re.search('"([A-Za-z ]+)" and', user).group(1).split()
      assert not asked & set(words)
      spelled = re.findall(r"\b(?:\w-)+\w\b", reply)
      if name != "respond":
        assert [letters.replace("-", "") for letters in spelled] == words
      right = "".join(word[-1] for word in words)
      assert (reply.split()[-1] == right) == (name != "rephrase")


def test_worked_examples_are_asked_as_the_question_is(splits):
  task = LastLetters()
  fields = task.fields(splits["test"][0], "plain") | {"restated": "R"}
  for template in task.prompts.values():
    asked = template.messages(**fields)[-1]["content"]
    assert fields["text"] in asked
    for user, _ in template.shots:
      # The same but for what is quoted and restated.
      assert user.split('"')[0] == asked.split('"')[0]
      assert user.splitlines()[-1] == asked.splitlines()[-1]


def test_the_seed_draws_the_words_and_sizes_leave_the_test_split_alone(splits):
  assert LastLetters().examples() == splits
  assert LastLetters(train=300).examples()["test"] == splits["test"]
  assert LastLetters(seed=1).examples()["test"] != splits["test"]


@pytest.mark.parametrize(
  "options, named",
  [({"words": 0}, "task.words=0"), ({"train": 20_000}, "40800 words")],
)
def test_options_that_cannot_be(options, named):
  with pytest.raises(UserError, match=named):
    LastLetters(**options)
