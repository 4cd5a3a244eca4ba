from __future__ import annotations

import os

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
  rows = pack(made, 16, share=False)
  found = []
  for row in range(len(rows.tokens)):
    for end in set(rows.until[row].tolist()) - {0}:
      (places,) = np.nonzero(rows.until[row] == end)
      assert places[-1] == end - 1
      assert (np.diff(places) == 1).all()
      positions = rows.positions[row, places]
      assert positions.tolist() == list(range(len(places)))
      of_example = np.isin(rows.target_index[row], places)
      of_example &= rows.target_weight[row] > 0
      targets = rows.target_token[row, of_example]
      after = rows.target_index[row, of_example] + 1
      assert rows.tokens[row, after].tolist() == targets.tolist()
      found.append((rows.tokens[row, places].tolist(), targets.tolist()))
  wanted = [
    (e.tokens.tolist(), e.tokens[e.is_target].tolist()) for e in made.values()
  ]
  assert sorted(found) == sorted(wanted)
  assert set(np.unique(rows.target_weight)) <= {0.0, 1.0}


def test_first_fit_decreasing_and_padding():
  rows = pack(examples([2, 5, 3, 7, 3]), 10, share=False)
  # 7 + 3, 5 + 3 + 2: two full rows.
  assert rows.tokens.shape == (2, 10)
  assert rows.padding == 0
  assert rows.until[0].tolist() == [7] * 7 + [10] * 3
  assert rows.until[1].tolist() == [5] * 5 + [8] * 3 + [10] * 2
  assert pack(examples([2, 5, 3, 7, 3]), 20, share=False).padding == 0
  assert pack(examples([5]), 20).padding == 0.75


def _conversation(*tokens: int, reply: int) -> Tokenised:
  """The last `reply` tokens are the reply."""
  return Tokenised(
    np.array(tokens, np.int32), np.arange(len(tokens)) >= len(tokens) - reply
  )


def test_what_examples_begin_with_stands_in_a_row_once():
  rows = pack(
    {
      "b": _conversation(1, 2, 3, 8, 9, reply=2),
      "c": _conversation(1, 2, 7, 9, reply=1),
      "a": _conversation(1, 2, 3, 4, 5, 6, reply=2),
    },
    10,
  )
  assert rows.tokens.tolist() == [[1, 2, 3, 4, 5, 6, 8, 9, 7, 9]]
  assert rows.positions.tolist() == [[0, 1, 2, 3, 4, 5, 3, 4, 2, 3]]
  assert rows.until.tolist() == [[10, 10, 8, 6, 6, 6, 8, 8, 10, 10]]
  targets = rows.target_weight[0] > 0
  # 4 → 5, 5 → 6; 3 → 8, 8 → 9, of which the 3 is the first's; 7 → 9.
  assert rows.target_index[0, targets].tolist() == [3, 4, 2, 6, 8]
  assert rows.target_token[0, targets].tolist() == [5, 6, 8, 9, 9]


def test_the_same_example_twice_weighs_twice():
  twice = {name: _conversation(1, 2, 3, reply=1) for name in "ab"}
  rows = pack(twice, 8)
  assert rows.until.tolist() == [[3, 3, 3, 0, 0, 0, 0, 0]]
  assert rows.target_weight[0].tolist() == [2, 0, 0, 0, 0, 0, 0, 0]


def test_an_example_goes_where_it_shares_most():
  """Not where the example before it went, which has no more room."""
  rows = pack(
    {
      "a": _conversation(1, 2, 3, 4, 5, 6, reply=1),
      "b": _conversation(1, 2, 3, 7, 8, 9, reply=1),
      "c": _conversation(1, 3, 4, 4, 4, reply=1),
      "d": _conversation(1, 3, 5, reply=1),
    },
    9,
  )
  assert rows.tokens.tolist() == [
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 3, 4, 4, 4, 5, 0, 0, 0],
  ]


def test_sharing_never_makes_more_rows_than_the_longest_first():
  """In the order of tokens these would leave much of each row empty."""
  rng = np.random.default_rng(0)
  for _ in range(20):
    made = examples(rng.integers(2, 40, 60), seed=int(rng.integers(1 << 30)))
    shared, apart = pack(made, 40), pack(made, 40, share=False)
    assert len(shared.tokens) <= len(apart.tokens)
    assert shared.target_weight.sum() == apart.target_weight.sum()


def first_fit(made: dict[str, Tokenised], length: int) -> list[list[int]]:
  """The tokens of each row, by looking at all rows for every example."""
  rows: list[list[list[int]]] = []  # the examples of each
  in_common = lambda a, b: len(os.path.commonprefix([a, b]))
  filled = lambda row: sum(
    len(one) - in_common(one, before)
    for before, one in zip([[], *row], row, strict=False)
  )
  for tokens in sorted(example.tokens.tolist() for example in made.values()):
    shares = [in_common(row[-1], tokens) for row in rows]
    free = [length - filled(row) for row in rows]
    fitting = [
      (-share, index)
      for index, (share, space) in enumerate(zip(shares, free, strict=True))
      if len(tokens) - share <= space
    ]
    if not fitting:
      rows.append([])
    rows[min(fitting)[1] if fitting else -1].append(tokens)
  return [
    [
      token
      for before, one in zip([[], *row], row, strict=False)
      for token in one[in_common(one, before) :]
    ]
    for row in rows
  ]


def test_every_row_is_looked_at_without_looking_at_every_row():
  """Few tokens and many examples: groups of rows form, join and are used up."""
  rng = np.random.default_rng(5)
  compared = 0
  for _ in range(30):
    lengths, words = rng.integers(1, 25, 80), int(rng.integers(1, 5))
    made = {
      str(i): Tokenised(
        rng.integers(0, words, length).astype(np.int32), np.ones(length, bool)
      )
      for i, length in enumerate(lengths)
    }
    found, wanted = pack(made, 32), first_fit(made, 32)
    if len(wanted) > len(pack(made, 32, share=False).tokens):
      continue  # nothing is shared
    compared += 1
    assert [
      tokens[:filled].tolist()
      for tokens, filled in zip(
        found.tokens, (found.until > 0).sum(axis=1), strict=True
      )
    ] == wanted
  assert compared > 20


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
  assert not batch.target_weight[2:].any() and not batch.until[2:].any()


def test_an_example_too_long_is_named_never_cut():
  with pytest.raises(UserError, match="task/1 has 11 tokens.*row_length=10"):
    pack(examples([10, 11]), 10)
  with pytest.raises(UserError, match="no examples"):
    pack({}, 10)
