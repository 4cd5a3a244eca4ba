from __future__ import annotations

import random

import pytest

from s2d_jax.curation.choice import (
  choices_of,
  position_bias,
  same_words,
  survivor,
)
from s2d_jax.system2.consistency import orders


@pytest.mark.parametrize(
  "choices, number",
  [
    ([2], 2),
    ([2, 2, 2, 0, 0], 2),
    ([2, 2, 0, 0, 1], None),
    ([2, 2, None, None, 0], None),  # two of five are no majority
    ([2, 2, None, None, 2], 2),
    ([1, 0], None),
    ([None, None], None),
    ([], None),
  ],
)
def test_only_a_choice_of_most_orders_survives(choices, number):
  assert survivor(choices) == number


def test_replies_with_the_same_words_are_one_choice():
  same = same_words(["It is\nLima.", "Quito", "It is Lima.", ""])
  assert same == [0, 1, 0, 3]
  row = {"orders": [[0], [0], [0]], "choices": [2, 0, None], "same_as": same}
  assert choices_of(row) == [0, 0, None]
  assert survivor(choices_of(row)) == 0


def test_a_row_without_orders_has_one_choice():
  row = {"chosen": 3, "reply": "4", "example_id": "x", "variant": "plain"}
  assert choices_of(row) == [3]
  assert position_bias([row]) is None


def ask(choose, inputs=60, count=4, same_as=None):
  """Rows of a model that chooses by a rule: (input, order) → a reply."""
  rows = []
  for number in range(inputs):
    shown = orders(count, 0, str(number), "plain")
    rows.append(
      {
        "orders": shown,
        "choices": [choose(number, order) for order in shown],
        "same_as": same_as or list(range(count)),
      }
    )
  return rows


def test_who_always_names_the_first_is_biased_and_no_better_than_chance():
  bias = position_bias(ask(lambda number, order: order[0]))
  assert bias.shares == (1, 0, 0, 0)
  assert bias.is_biased and bias.is_chance
  assert bias.pairs == 120 and bias.by_chance == 30
  # 300 in one of four places: the sum of (observed - 75)² / 75 is 900.
  assert bias.p_value < 1e-100


def test_who_reads_the_replies_is_neither():
  bias = position_bias(ask(lambda number, order: number % 4))
  assert not bias.is_biased and not bias.is_chance
  assert bias.agree == bias.pairs == 120
  assert sum(bias.shares) == pytest.approx(1)


def test_who_draws_is_unbiased_and_no_better_than_chance():
  draw = random.Random(1)
  bias = position_bias(ask(lambda number, order: draw.choice(order)))
  assert not bias.is_biased and bias.is_chance


def test_equal_replies_are_chosen_alike_by_chance():
  # Three of four are the same: two draws agree with (9 + 1) / 16.
  draw = random.Random(2)
  rows = ask(lambda number, order: draw.choice(order), same_as=[0, 0, 0, 3])
  bias = position_bias(rows)
  assert bias.by_chance == pytest.approx(120 * 10 / 16)
  assert bias.is_chance and bias.agree > 60
  # Where all are the same there is nothing to choose.
  assert position_bias(ask(lambda *_: 0, same_as=[0] * 4)) is None


def test_inputs_may_have_different_numbers_of_replies():
  draw = random.Random(3)
  choose = lambda number, order: draw.choice(order)
  rows = ask(choose, count=2) + ask(choose, count=6)
  bias = position_bias(rows)
  # The first two places are in all inputs, and chosen more often.
  assert bias.shares[0] > 0.25 > bias.shares[5] > 0
  assert not bias.is_biased


def test_missing_choices_make_no_pair():
  bias = position_bias(ask(lambda number, order: None if number else 1))
  assert (bias.pairs, bias.agree) == (2, 2)
  assert position_bias(ask(lambda *_: None)) is None
