from __future__ import annotations

import collections

import ml_collections
import numpy as np
import pytest

from s2d_jax.training.data import Splits, TrainingData
from s2d_jax.training.examples import Tokenised

CONFIG = ml_collections.ConfigDict(
  {"row_length": 8, "batch_rows": 3, "epochs": 2}
)


def splits(last_token: int = 7, last_is_target: bool = True) -> Splits:
  """Seven examples of a row each to learn, and one to validate on."""
  tokens = np.arange(56, dtype=np.int32).reshape(7, 8)
  is_target = np.tile(np.arange(8) > 4, (7, 1))
  tokens[-1, -1], is_target[-1, -1] = last_token, last_is_target
  train = map(Tokenised, tokens, is_target)
  return Splits(
    {str(index): example for index, example in enumerate(train)},
    {"v": Tokenised(tokens[0], is_target[0])},
  )


def data(given: Splits | None = None, seed: int = 0, **changes) -> TrainingData:
  config = ml_collections.ConfigDict(CONFIG.to_dict() | changes)
  return TrainingData(config, given or splits(), seed, share=True)


def first_tokens(of: TrainingData) -> list[int]:
  """Of all rows of a run in their order; empty rows left out."""
  batches = [of.batch(step) for step in range(1, of.total_steps + 1)]
  assert {batch.tokens.shape for batch in batches} == {(3, 8)}
  return [
    int(row[0])
    for batch in batches
    for row, until in zip(batch.tokens, batch.until, strict=True)
    if until.any()
  ]


def test_batches_hold_every_row_once_an_epoch():
  made = data()
  assert made.total_steps == -(-2 * 7 // 3)
  read = first_tokens(made)
  assert len(read) == 14
  for epoch in (read[:7], read[7:]):
    assert sorted(epoch) == list(range(0, 56, 8))
  assert read[:7] != read[7:]  # each in an order of its own
  assert collections.Counter(made.valid.target_token.flat)[7] == 1


def test_the_order_is_that_of_the_seed():
  assert first_tokens(data(seed=1)) == first_tokens(data(seed=1))
  assert first_tokens(data(seed=1)) != first_tokens(data(seed=2))


@pytest.mark.parametrize(
  "name, other",
  [
    ("seed", data(seed=1)),
    ("total_steps", data(epochs=3)),
    ("batch_rows", data(batch_rows=4)),
    ("rows", data(splits(last_token=1))),
    ("rows", data(splits(last_is_target=False))),
  ],
)
def test_other_batches_have_another_fingerprint(name, other):
  one = data().fingerprint()
  assert one == data().fingerprint()
  assert one.keys() == other.fingerprint().keys()
  assert one[name] != other.fingerprint()[name]


def test_a_fingerprint_is_what_it_was_before():
  """Runs that began with an earlier version go on."""
  digest = "99e6b3ceb66882b93963f8e38302a3ef6ea83652c948f50c6f984cea85b8fa10"
  assert data().fingerprint()["rows"] == digest
