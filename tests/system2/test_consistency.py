import pytest

from s2d_jax.system2.consistency import (
  ORDERS,
  chosen,
  number_responses,
  orders,
)
from s2d_jax.system2.methods import METHODS
from tests.system2.replies import finish, reply, said


def test_responses_are_numbered_and_one_is_asked_for():
  listed = number_responses(["It is\nLima.", "Quito {x}"])
  assert listed == "[Response 1] It is Lima.\n[Response 2] Quito {x}"
  fields = {"text": "Which?", "responses": listed}
  steps = METHODS["usc"].think(fields, METHODS["usc"].prompts)
  text = said(next(steps))
  assert text.index("Which?") < text.index("[Response 1]")
  assert "most consistent" in text
  assert finish(steps, reply("2")).text == "2"


def test_orders_belong_to_the_input():
  shown = orders(6, 0, "x", "plain")
  assert len(shown) == ORDERS
  assert all(sorted(order) == list(range(6)) for order in shown)
  assert len({tuple(order) for order in shown}) > 1
  assert orders(6, 0, "x", "plain") == shown
  assert orders(6, 0, "y", "plain") != shown != orders(6, 1, "x", "plain")
  # Every reply is as often first as any other.
  first = [orders(4, 0, str(i), "plain")[0][0] for i in range(800)]
  assert all(abs(first.count(reply) - 200) < 60 for reply in range(4))


@pytest.mark.parametrize(
  "text, index",
  [
    ("3", 2),
    ("Response 1 is the most consistent.", 0),
    ("[Response 4]", 3),
    ("0", None),
    ("5", None),
    ("In 1999 it was 2.", 1),
    ("none", None),
    ("2.", 1),
    ("3: it says what most of them say", 2),
    ("Response #3", 2),
    ("Of the 4 responses, response 2 agrees most.", 1),
    ("3 of 4 say Lima, so Response 1", 0),
    ("Response 1 is the most consistent, as 2 and 3 agree with it.", 0),
    ("Response 1 differs. Response 4 is the most consistent.", 3),
    ("Response 1 and 3 agree; the answer is 3", 2),
    ("The most consistent response is Response 2.", 1),
    ("[Response 9] or [Response 2]", 1),
    ("-1", None),
    ("Quito 1.5", None),
    ("", None),
  ],
)
def test_chosen(text, index):
  assert chosen(text, 4) == index
