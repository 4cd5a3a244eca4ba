"""What a fine-tune reads: packed rows, in an order that its seed decides."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
from typing import NamedTuple

import grain
import ml_collections
import numpy as np

from s2d_jax.training.examples import Tokenised
from s2d_jax.training.packing import PackedRows, pack


class Splits(NamedTuple):
  """Examples by name; every process holds all of them."""

  train: Mapping[str, Tokenised]  # to learn
  valid: Mapping[str, Tokenised]  # to choose the checkpoint by


class TrainingData:
  """The batches of a run, and the rows it is validated on.

  Batch k depends on the examples, the settings and the seed alone, so the
  number of updates made is the position in the data.

  Attributes:
    valid: all rows of the validation split.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    splits: Splits,
    seed: int,
    share: bool,
  ):
    """Packs both splits.

    Args:
      config: the `finetune` section.
      splits: the examples.
      seed: of the order of rows.
      share: whether examples may share tokens (`step.can_share`).

    Raises:
      UserError: a split has no examples, or one is too long.
    """
    self._train, self.valid = (
      pack(split, config.row_length, share) for split in splits
    )
    self._batch_rows = config.batch_rows
    self._seed = seed
    self._order = (
      grain.MapDataset.range(len(self._train.tokens))
      .seed(seed)
      .shuffle()
      .repeat(config.epochs)
      .batch(config.batch_rows)
    )

  @property
  def total_steps(self) -> int:
    """Updates of the whole run."""
    return len(self._order)

  def batch(self, step: int) -> PackedRows:
    """The rows of update `step`, from 1; the last has empty ones at its end."""
    return self._train.take(self._order[step - 1], self._batch_rows)

  def fingerprint(self) -> dict[str, int | str]:
    """What is the same as long as all batches are."""
    return {
      "seed": self._seed,
      "total_steps": self.total_steps,
      "batch_rows": self._batch_rows,
      "rows": _digest(self._train),
    }


def _digest(rows: PackedRows) -> str:
  digest = hashlib.sha256()
  for field in rows:
    digest.update(str(field.shape).encode())
    digest.update(np.ascontiguousarray(field))
  return digest.hexdigest()
