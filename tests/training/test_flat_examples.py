from __future__ import annotations

import numpy as np
import pytest

from s2d_jax.training.examples import Tokenised
from s2d_jax.training.flat_examples import FlatExamples
from s2d_jax.training.packing import arrange, pack, stack

_TOKENS = [[5, 1, 2, 3], [5, 1, 2], [5, 1, 9, 9, 0]]


def named(offset: int = 0) -> list[tuple[str, Tokenised]]:
  return [
    (f"ä/{i}", Tokenised(np.array(row) + offset, np.arange(len(row)) > i))
    for i, row in enumerate(_TOKENS)
  ]


@pytest.mark.parametrize("offset", [0, 1 << 16, -8])
def test_examples_are_as_they_were(offset):
  """Also where numbers do not fit two bytes, or are below zero."""
  flat = FlatExamples(iter(named(offset)))
  assert len(flat) == 3 and flat.lengths.tolist() == [4, 3, 5]
  for one, (_, wanted) in zip(flat, named(offset), strict=True):
    assert one.tokens.tolist() == wanted.tokens.tolist()
    assert one.is_target.tolist() == wanted.is_target.tolist()
  assert flat[-1].tokens.tolist() == flat[2].tokens.tolist()
  assert [flat.name(i) for i in range(3)] == ["ä/0", "ä/1", "ä/2"]
  assert flat.in_common() == 2


def test_few_bytes_are_kept_and_rows_are_taken_with_all():
  narrow = FlatExamples(named())
  assert narrow[0].tokens.dtype == np.uint16
  rows = stack(arrange(narrow, 8), 8)
  assert sum(field.itemsize for field in rows) <= 12
  for offset in (0, 1 << 16):
    rows = stack(arrange(FlatExamples(named(offset)), 8), 8)
    wide = pack(dict(named(offset)), 8)
    kinds = [np.dtype(np.int32)] * 5 + [np.dtype(np.float32)]
    assert [field.dtype for field in wide] == kinds
    assert rows.digest() == wide.digest()
    assert rows.tokens.max() == 9 + offset
