from __future__ import annotations

import itertools
import re

import pytest

from s2d_jax.errors import UserError
from s2d_jax.system2 import cot
from s2d_jax.tasks.sums import Sums


def test_no_two_numbers_are_added_twice():
  task = Sums(digits=1, train=10, valid=5, test=5)  # of the 45 that there are
  examples = list(itertools.chain(*task.examples().values()))
  asked = {frozenset(example.inputs["numbers"]) for example in examples}
  shown = {
    frozenset(map(int, re.findall(r"\d+", user)))
    for user, _ in task.prompts["cot_few_shot"].shots
  }
  assert len(asked) == 20 and not asked & shown


@pytest.mark.parametrize("digits", [1, 2, 5, 18])
def test_numbers_have_their_digits_and_labels_are_sums(digits):
  task = Sums(digits=digits, train=2, valid=2, test=8)
  for example in task.examples()["test"]:
    one, other = example.inputs["numbers"]
    assert len(str(one)) == len(str(other)) == digits
    text = task.fields(example, "plain")["text"]
    assert text == f"What is {one} + {other}?"
    assert example.label == str(one + other)
    found = task.answer(example, "plain", f"It is {one + other:,}.")
    assert found.text == example.label


def test_the_test_split_does_not_depend_on_the_others():
  few, many = Sums(train=3, valid=3, test=9), Sums(train=30, valid=9, test=9)
  assert few.examples()["test"] == many.examples()["test"]


@pytest.mark.parametrize("digits", [1, 3, 9])
def test_each_step_of_a_worked_example_is_right(digits):
  task = Sums(digits=digits, train=5, valid=5, test=5)
  for user, reply in task.prompts["cot_few_shot"].shots:
    one, other = map(int, re.findall(r"\d+", user))
    written = ""
    for added, total in re.findall(r"([\d +]+) = (\d+)", reply):
      assert sum(map(int, added.split("+"))) == int(total)
      written = total[-1] + written
    carried = re.search(r"carry 1\.\nAnswer", reply)
    assert int("1" * bool(carried) + written) == one + other
    assert cot.final_answer(reply) == str(one + other)


@pytest.mark.parametrize(
  "options, said",
  [
    ({"digits": 0}, "task.digits=0 must be from 1 to 18"),
    ({"valid": 0}, "task.valid=0 .* must each be at least one"),
    ({"digits": 1}, "more than the 20 examples there are with task.digits=1"),
  ],
)
def test_what_cannot_be(options, said):
  with pytest.raises(UserError, match=said):
    Sums(**options)
