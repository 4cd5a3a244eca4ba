from __future__ import annotations

import numpy as np
import pytest

from s2d_jax.errors import UserError
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.packing import pack


def examples(lengths, seed=0) -> dict[str, Tokenised]:
  rng = np.random.default_rng(seed)
  made = {}
  for i, length in enumerate(lengths):
    tokens = rng.integers(0, 50, length).astype(np.int32)
    is_target = np.arange(length) >= rng.integers(1, length)
    made[f"task/{i}"] = Tokenised(tokens, is_target)
  return made


def test_every_example_lies_whole_in_one_row_and_once():
  made = examples(np.random.default_rng(1).integers(2, 17, 60))
  rows = pack(made, 16)
  found = []
  for row in range(len(rows.tokens)):
    for segment in range(1, rows.segments[row].max() + 1):
      (places,) = np.nonzero(rows.segments[row] == segment)
      assert (np.diff(places) == 1).all()
      positions = rows.positions[row, places]
      assert positions.tolist() == list(range(len(places)))
      of_segment = np.isin(rows.target_index[row], places)
      of_segment &= rows.target_weight[row] > 0
      targets = rows.target_token[row, of_segment]
      after = rows.target_index[row, of_segment] + 1
      assert rows.tokens[row, after].tolist() == targets.tolist()
      found.append((rows.tokens[row, places].tolist(), targets.tolist()))
  wanted = [
    (e.tokens.tolist(), e.tokens[e.is_target].tolist()) for e in made.values()
  ]
  assert sorted(found) == sorted(wanted)
  assert set(np.unique(rows.target_weight)) <= {0.0, 1.0}


def test_first_fit_decreasing_and_padding():
  rows = pack(examples([2, 5, 3, 7, 3]), 10)
  # 7 + 3, 5 + 3 + 2: two full rows.
  assert rows.tokens.shape == (2, 10)
  assert rows.padding == 0
  assert np.bincount(rows.segments[0]).tolist() == [0, 7, 3]
  assert np.bincount(rows.segments[1]).tolist() == [0, 5, 3, 2]
  assert pack(examples([2, 5, 3, 7, 3]), 20).padding == 0
  assert pack(examples([5]), 20).padding == 0.75


def test_target_slots_are_a_bucket_of_the_fullest_row():
  full = Tokenised(np.arange(12, dtype=np.int32), np.arange(12) >= 3)
  rows = pack({"a": full}, 12)
  assert rows.target_index.shape == (1, 16)
  assert rows.target_weight.sum() == 9
  assert rows.target_index[0, :9].tolist() == list(range(2, 11))


def test_packing_is_deterministic():
  once, again = (pack(examples(range(2, 17)), 16) for _ in range(2))
  for a, b in zip(once, again, strict=True):
    np.testing.assert_array_equal(a, b)


def test_take_pads_with_rows_of_no_weight():
  rows = pack(examples([9, 8, 7]), 10)
  batch = rows.take(np.array([2, 0]), 4)
  np.testing.assert_array_equal(batch.tokens[:2], rows.tokens[[2, 0]])
  assert not batch.target_weight[2:].any() and not batch.segments[2:].any()


def test_an_example_too_long_is_named_never_cut():
  with pytest.raises(UserError, match="task/1 has 11 tokens.*row_length=10"):
    pack(examples([10, 11]), 10)
  with pytest.raises(UserError, match="no examples"):
    pack({}, 10)
