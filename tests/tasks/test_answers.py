"""Answers as a person reads them, in real replies and in tricky ones."""

from __future__ import annotations

import collections
import json
import pathlib

import pytest

from s2d_jax.errors import UserError
from s2d_jax.system2.cot import final_answer
from s2d_jax.tasks.answers import (
  Choice,
  Letters,
  Number,
  Regex,
  Text,
  make_parser,
)

# Replies of SmolLM2-135M-Instruct. "answer" is what a person takes the reply to
# say, null where it says nothing of the kind. "reasoned" replies come from
# methods that throw the steps away first. "missed": the answer can be told only
# by one who knows the question, or stands before the place where the reply was
# cut; no vote is right there, another vote would be wrong.
_REAL = json.loads(
  pathlib.Path(__file__).with_name("real_replies.json").read_text()
)
_OPTIONS = ("options", "pattern", "max_words")


@pytest.mark.parametrize("case", _REAL, ids=lambda case: case["reply"][-30:])
def test_real_replies(case):
  reply = case["reply"]
  if case["reasoned"]:
    reply = final_answer(reply)
  spec = {"kind": case["kind"]}
  spec |= {name: case[name] for name in _OPTIONS if name in case}
  wanted = None if case.get("missed") else case["answer"]
  assert make_parser(spec)(reply) == wanted


def test_there_are_enough_real_replies_of_every_kind():
  assert len(_REAL) >= 200
  kinds = collections.Counter(case["kind"] for case in _REAL)
  assert set(kinds) == {"number", "choice", "letters", "text", "regex"}
  told = collections.Counter(
    (case["kind"], case["answer"] is None) for case in _REAL
  )
  assert min(told.values()) >= 5 and len(told) == 10
  assert sum(case.get("missed", False) for case in _REAL) < 0.1 * len(_REAL)


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("#### 1,234", "1234"),
    ("So the answer is $18.00.", "18"),
    ("**Answer:** -3.50 dollars", "-3.5"),
    ("Answer: 5 + 3 = 8", "8"),
    ("First 4, then 7.", "7"),
    ("The answer is 3. No, the answer is 4.", "4"),
    ("\\boxed{42}", "42"),
    ("3/4 of it.", "3/4"),
    ("He has 6 * 2 = 12 apples in 3 bags.", "12"),
    ("007", "7"),
    ("-0", "0"),
    ("Answer: .5", "0.5"),
    ("\\boxed{\\frac{3}{4}}", "3/4"),
    ("Here is the answer:\n- First take 50 x 8 = 400\n- Then 3 x", None),
    ("The answer is:\n\n18 eggs", "18"),
    ("Take 180 and add it to get the distance, which is 60 + 180 = 18", None),
    ("Let me think about the 3 bags and then", None),
    ("I do not know.", None),
    ("", None),
  ],
)
def test_number(reply, answer):
  assert Number()(reply) == answer


@pytest.mark.parametrize(
  "options, reply, answer",
  [
    (("yes", "no"), "YES!", "yes"),
    (("yes", "no"), "Not at all: no.", "no"),
    (("yes", "no"), "Nobody knows, yesterday neither.", None),
    (("yes", "no"), "There is no right answer.", None),
    (("yes", "no"), "no longer heads up", None),
    (("yes", "no"), "yes or no", "yes"),
    (("yes", "no"), "It is yes, or is it no?", None),
    (("A", "B"), "Answer: (B)", "B"),
    (("A", "B"), "A cat sat.", "A"),
    (("A", "B"), "A: one, B: another", None),
    (("A", "B"), "A) Mars", "A"),
    (("A", "B"), "It is a cat, so [[B]]", "B"),
    (("A", "B"), "a b", None),
    (("very good", "good"), "Very good.", "very good"),
  ],
)
def test_choice(options, reply, answer):
  assert Choice(options)(reply) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("ny", "ny"),
    ("N-Y", "ny"),
    ("n, y", "ny"),
    ('The letters are "ny".', "ny"),
    ("Answer: n y", "ny"),
    ("**ny**", "ny"),
    ('The last letter of "green" is "n".', None),
    ("New York", None),
    ("The last letters are n and y", None),
    ("", None),
  ],
)
def test_letters(reply, answer):
  assert Letters()(reply) == answer


def test_regex_and_text():
  assert Regex(r"grade: (\w)")("grade: B\ngrade: A") == "A"
  assert Regex(r"\d+")("1 and 22") == "22"
  assert Regex(r"x")("none") is None
  assert Text(4)("The Café, È LUNGO! More.") == "cafe e lungo"
  assert Text(3)("This is far too long a sentence.") is None
  assert Text(3)("") is None
  assert Text(5)("Dr. J. R. Who. He did.") == "dr j r who"
  assert Text(3)("The U.S.A. is it. So.") == "usa is it"
  assert Text(3)("No. It is not.") == "no"


@pytest.mark.parametrize(
  "spec, named",
  [
    ({}, "kind=None is unknown; there are number, choice"),
    ({"kind": "choice", "options": ["a"]}, "two or more different"),
    ({"kind": "text", "words": 3}, "task.answer.words is unknown"),
  ],
)
def test_settings_that_cannot_be(spec, named):
  with pytest.raises(UserError, match=named):
    make_parser(spec)
