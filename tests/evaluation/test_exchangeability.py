from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.exchangeability import (
  exchangeability,
  permutation_p,
  shard_p,
)

ROWS = [(number, number, number + 100) for number in range(60)]


def pairs(text) -> list[tuple[int, int]]:
  return [*itertools.pairwise(text)]


def test_a_memorised_order_is_found():
  known = set(pairs([token for row in ROWS for token in row]))

  def score(texts):
    return [sum(pair in known for pair in pairs(text)) for text in texts]

  found = exchangeability(ROWS, 30, 99, score)
  assert (found.rows, found.left_out, found.shards) == (60, 0, 6)
  assert found.p_value == 1 / 100
  assert found.p_of_shards < 1e-4


def test_p_values_of_a_model_that_has_read_nothing_are_uniform():
  """The log-probability of an order is noise, the same whenever it is read."""

  def p_values(seed):
    def score(texts):
      return [random.Random(f"{seed}{text}").gauss(0, 1) for text in texts]

    found = exchangeability(ROWS[:24], 15, 19, score, seed)
    return found.p_value, found.p_of_shards

  by_order, by_shards = zip(
    *(p_values(seed) for seed in range(400)), strict=True
  )
  ranks = np.bincount(np.round(np.array(by_order) * 20).astype(int))[1:]
  assert len(ranks) == 20 and stats.chisquare(ranks).pvalue > 0.01
  # The t-test is exact for normal differences only.
  assert 0.02 < np.mean(np.array(by_shards) < 0.05) < 0.09


def test_all_orders_have_the_same_tokens_and_fit_the_window():
  rows = [(row,) * (row % 7 + 1) for row in range(1, 40)] + [(5,) * 50]
  read = []

  def score(texts):
    read.append([sorted(text) for text in texts])
    assert max(map(len, texts)) <= 20
    return [0.0] * len(texts)

  calls = []
  found = exchangeability(rows, 20, 19, score, advance=lambda: calls.append(1))
  assert len(read) == len(calls) == 20
  assert all(order == read[0] for order in read)
  assert found.rows + found.left_out == len(rows) and found.left_out >= 1
  # Every order is as likely as the own one, so nothing is found.
  assert found.p_value == 1 and found.p_of_shards is None


def test_no_two_rows_fit_the_window():
  assert exchangeability(ROWS, 5, 19, lambda texts: []) is None


def test_by_hand():
  own, others = np.array([3.0, 2.0]), np.array([[1.0, 1.0], [4.0, 1.0]])
  assert permutation_p(own, others) == pytest.approx(2 / 3)  # one ties
  differences = own - [2.5, 1.0]
  mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(2)
  assert shard_p(own, others) == pytest.approx(stats.t.sf(mean / error, 1))
