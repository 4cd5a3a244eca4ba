"""What is said of test questions that were seen, before and in training."""

from __future__ import annotations

import dataclasses

from s2d_jax.evaluation.contamination import (
  Answered,
  Seen,
  answers_taught,
  overlap,
)
from s2d_jax.evaluation.exchangeability import Exchangeability
from s2d_jax.evaluation.masked_words import Guesses
from s2d_jax.reporting import contamination

ORDER = {
  "rows": 120,
  "left_out": 0,
  "shards": 9,
  "shuffles": 99,
  "p_value": 0.01,
  "p_of_shards": 0.002,
}
GUESSES = {"questions": 40, "guessed": 12, "elsewhere": 2, "p_value": 0.004}
FOUND = {"order": ORDER, "why_no_order": "", "guesses": GUESSES}


def seen(train, test) -> Seen:
  answers = [Answered((f"answer {i}",)) for i in range(12)]
  return Seen(
    overlap(train, test), overlap(train, test), answers_taught([], answers)
  )


def test_no_figure_where_nothing_can_be_compared():
  nothing = seen(["Is it?"], ["?!"])
  assert contamination.sentence(nothing) == (
    "None of 1 test prompts could be compared. None of their 1 questions in"
    " plain wording could be compared."
  )
  head, *lines = contamination.lines(nothing)
  for name, compared, found in lines[:6]:
    assert (compared, found) == ("0 of 1", "not known"), name
  assert lines[6][1:] == ["12 of 12", "0 (0.0 %)"]


def test_short_prompts_are_compared():
  told = contamination.sentence(seen(["Who was it?"], ["who was IT", "And I?"]))
  assert told.startswith("Of 2 test prompts 1 (50.0 %) were seen in training")


def test_an_order_that_was_read():
  first, second, limits = contamination.of_base_model(FOUND)
  assert "120 rows in the data set's own order are likelier than in 99" in first
  assert "p = 0.010, permutation test; p = 0.002, t-test over 9" in first
  assert "12 (30.0 %) where they are left out, and 2 (5.0 %)" in second
  assert "may also follow" in second and "Neither test proves" in limits


def test_an_order_that_was_not():
  order = ORDER | {"p_value": 0.4, "p_of_shards": None}
  guesses = GUESSES | {"p_value": 0.5}
  first, second, _ = contamination.of_base_model(
    FOUND | {"order": order, "guesses": guesses}
  )
  assert "are not clearly likelier than in 99 random orders (p = 0.400" in first
  assert "t-test" not in first and "may also follow" not in second


def test_no_order_and_no_words():
  found = {
    "order": None,
    "why_no_order": "they have none",
    "guesses": dict.fromkeys(GUESSES, 0),
  }
  first, _ = contamination.of_base_model(found)
  assert first.endswith("does not apply: they have none.")
  assert "s2d contamination tests it" in contamination.of_base_model({})[0]


def test_the_figures_are_those_that_the_test_has():
  assert dataclasses.asdict(Exchangeability(**ORDER)) == ORDER
  assert dataclasses.asdict(Guesses(**GUESSES)) == GUESSES
