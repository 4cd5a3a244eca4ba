"""What SmolLM2-135M-Instruct really said, read as a person reads it."""

from __future__ import annotations

import collections
from fractions import Fraction
import json
import pathlib

import pytest

from s2d_jax.answers.settings import make_parser
from s2d_jax.system2.cot import final_answer

# "answer" is what a person takes the reply to say, null where it says nothing
# of the kind; "accepted", where several readings are right. "reasoned" replies
# come from methods that throw the steps away first. "missed": the answer can be
# told only by one who knows the question, or stands before the place where the
# reply was cut, or contradicts another, or stands under a condition, or what
# follows leaves it open; no vote is right there, another vote would be wrong.
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
  found = make_parser(spec)(reply, case.get("question", ""))
  text = None if found is None else found.text
  if case["kind"] == "number" and text and case["answer"]:
    assert Fraction(text) == Fraction(case["answer"])
  elif case.get("missed"):
    assert text in (None, case["answer"])
  else:
    assert text in case.get("accepted", [case.get("answer")])


def test_there_are_enough_real_replies_of_every_kind():
  assert len(_REAL) >= 200
  kinds = collections.Counter(case["kind"] for case in _REAL)
  assert set(kinds) == {"number", "choice", "letters", "text", "regex"}
  told = collections.Counter(
    (case["kind"], None in case.get("accepted", [case.get("answer")]))
    for case in _REAL
  )
  assert min(told.values()) >= 5 and len(told) == 10
  assert sum(case.get("missed", False) for case in _REAL) < 0.11 * len(_REAL)
