from __future__ import annotations

import pytest

from s2d_jax.curation import long_rows
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.errors import UserError


def rows(count: int) -> list[LongRow]:
  return [
    LongRow(f"train/{i}", "plain", "a prompt of 9 tokens", "the window of 8")
    for i in range(count)
  ]


@pytest.mark.parametrize(
  "count, total, too_long, told",
  [
    (0, 4, "drop", None),
    (0, 4, "stop", None),
    (0, 0, "drop", None),
    (2, 4, "drop", None),
    (
      3,
      4,
      "drop",
      "3 of 4 train inputs are too long, too many .*train/0/plain",
    ),
    (1, 1, "drop", "1 of 1 train inputs are too long"),
    (1, 10**5, "stop", "train/0/plain: a prompt .*, as 1 of 100,000 train"),
    (3, 4, "stop", "do not fit the window of 8, as 3 of 4 train inputs;"),
  ],
)
def test_rows_are_left_out_or_end_the_run(count, total, too_long, told):
  if told is None:
    long_rows.check(rows(count), total, "train inputs", too_long)
    return
  with pytest.raises(UserError, match=told):
    long_rows.check(rows(count), total, "train inputs", too_long)


def test_counts_are_said():
  said = [long_rows.counted(count, "input") for count in (1, 2, 10**5)]
  assert said == ["1 input", "2 inputs", "100,000 inputs"]


def test_a_few_names_stand_for_many():
  assert long_rows.listed(["a"]) == "(a)"
  assert long_rows.listed(["a", "b", "a", "c"]) == "(a, b, c)"
  assert long_rows.listed(map(str, range(10**5))) == "(0, 1, 2 and 99,997 more)"
