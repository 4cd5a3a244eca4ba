"""What takes an answer back, and what does not, for all kinds of answers."""

from __future__ import annotations

import pytest

from s2d_jax.answers.choice import Choice
from s2d_jax.answers.number import Number
from s2d_jax.answers.stance import is_explanation, is_firm, last_turn
from s2d_jax.answers.text import Text
from s2d_jax.answers.verdict import Verdict

_ASKED = "What is the capital of Australia?"
_LEFT = "How many eggs does Ann have left?"


def test_what_others_answer():
  for said in ("A common answer among students is C.", "The usual guess is C."):
    assert Choice(tuple("ABCD"))(said) is None


@pytest.mark.parametrize(
  "behind",
  [
    "Just kidding.",
    "That's false.",
    "This is a popular myth.",
    "Said no one ever.",
    "My bad.",
    "Strike that.",
    "Or so I was told.",
    "That can't be it.",
    "That is what I would say on a bad day.",
    "The teacher marked this as false.",
    "Is it?",
  ],
)
def test_a_sentence_behind_takes_any_answer_back(behind):
  assert Text()(f"The capital of Australia is Sydney. {behind}", _ASKED) is None
  assert Number()(f"The answer is 18. {behind}", _LEFT) is None
  assert Choice(tuple("ABCD"))(f"The answer is B. {behind}") is None
  assert Choice(("yes", "no"))(f"Yes. {behind}") is None
  assert Verdict()(f"[[A]]\n\n{behind}") is None


@pytest.mark.parametrize(
  "reply",
  [
    "In the movie, the capital of Australia is Sydney.",
    "The capital of Australia is Sydney, they say.",
    "The capital of Australia is Sydney, according to my little brother.",
    "Sydney is wrongly called the capital of Australia.",
    "Hardly Sydney.",
    "Definitely not Sydney.",
    "Anything but Sydney.",
    "Good question.",
    "Sydney/Canberra",
  ],
)
def test_a_name_that_is_not_given(reply):
  assert Text()(reply, _ASKED) is None


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("Canberra. Its largest city is Sydney.", "canberra"),
    ("It's Canberra, but I'm not completely sure.", "canberra"),
    ("Many think it is Sydney, but it's Canberra.", "canberra"),
    ("Canberra. It is not on the coast, although it is near.", None),
  ],
)
def test_what_stands(reply, answer):
  found = Text()(reply, _ASKED)
  assert (found and found.text) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("Bob has 18 eggs left.", None),
    ("Ann has lost 18 eggs.", None),
    ("Ann is 18 years old.", None),
    ("So far that makes 18 eggs.", None),
    ("A student computed 24 - 6 = 18.", None),
    ("Answer: 18\nEDIT: 15", None),
    ("Answer: > 18", None),
    ("6 (that is the answer for insects)", None),
    ("There were 24 eggs.", None),
    ("The box has 24 eggs in total.", None),
    ("Answer: 24 (and 18 after baking)", None),
    ("Ann has 18 eggs left.", "18"),
    ("Answer: 18 eggs are left.", "18"),
    ("She uses 6 of 24. So 18 eggs are left.", "18"),
  ],
)
def test_numbers_that_are_said_of_something_else(reply, answer):
  found = Number()(reply, _LEFT)
  assert (found and found.text) == answer


def test_a_sentence_about_something_like_it():
  asked = "Who wrote The Old Man and the Sea?"
  assert Text()("Joseph Conrad wrote about the sea.", asked) is None


def test_a_fact_may_have_others_behind_it():
  found = Number()(
    "An adult human has 206 bones. Babies are born with about 300.",
    "How many bones does an adult human have?",
  )
  assert found is not None and found.text == "206"


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("The gas is nitrogen.", "B"),
    ("It's nitrogen.", "B"),
    ("The gas that plants absorb is carbon dioxide.", "A"),
    ("Carbon dioxide, not nitrogen.", "A"),
    ("Plants absorb nitrogen, too, and carbon dioxide.", None),
    ("The answer is carbon dioxide (A).", "A"),
    ("The answer is carbon dioxide (B).", None),
  ],
)
def test_options_by_their_text(reply, answer):
  asked = "Which gas do plants absorb? A) Carbon dioxide B) Nitrogen"
  found = Choice(("A", "B"))(reply, asked)
  assert (found and found.text) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("That's correct! Whales breathe air.", "yes"),
    ("That's not true.", "no"),
    ("That's correct, but only of some.", None),
    ("Right, let me think about that.", None),
  ],
)
def test_agreement_with_a_question(reply, answer):
  found = Choice(("yes", "no"))(reply, "Do whales breathe air?")
  assert (found and found.text) == answer


def test_words_of_the_question_take_nothing_back():
  assert not is_firm("He said 5.")
  assert is_firm("He said 5.", "What number was said?")
  assert not is_firm("There is no egg.", "Who is known?")  # not a part of one


def test_a_reply_begins_anew_behind_a_turn():
  assert last_turn("Lima. Wait, no, it is Quito.") == "it is Quito"
  assert last_turn("Lima is the capital.") == "Lima is the capital."


def test_an_explanation_goes_on_about_what_was_mentioned():
  assert is_explanation("Its harbour is famous.", told="Sydney")
  assert is_explanation("Sydney has a harbour.", told="Sydney")
  assert not is_explanation("Then Shakespeare rewrote it.", told="Thomas Kyd.")
