"""What a fine-tune reads: packed rows, in an order that its seed decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import grain
import ml_collections

from s2d_jax.models.params import Params
from s2d_jax.training.packing import (
  NamedExamples,
  PackedRows,
  arrange,
  pack,
  stack,
)


class Splits(NamedTuple):
  """Examples by name; every process holds all of them."""

  train: NamedExamples  # to learn
  valid: NamedExamples  # to choose the checkpoint by


class TrainingData:
  """The batches of a run, and the rows it is validated on.

  Batch k depends on the examples, the settings and the seed alone, so the
  number of updates made is the position in the data.

  Attributes:
    valid: all rows of the validation split.
    teacher_length: tokens of a row of the teacher; None where there is none.
  """

  teacher_length: int | None = None

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
    self._places = arrange(splits.train, config.row_length, share)
    self._train = stack(self._places, config.row_length)
    self.valid = pack(splits.valid, config.row_length, share)
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

  @property
  def target_slots(self) -> int:
    """Of a row."""
    return self._train.target_index.shape[1]

  def prepare(self, step: int, weights: Callable[[], Params]) -> None:
    """What has to be done before `batch`: nothing, where targets are given."""
    del step, weights

  def figures(self, step: int) -> dict[str, float]:
    """What its line of metrics says of the rows of update `step`."""
    del step
    return {}

  def batch(self, step: int) -> PackedRows:
    """The rows of update `step`, from 1; the last has empty ones at its end."""
    return self._train.take(self._order[step - 1], self._batch_rows)

  def fingerprint(self) -> dict[str, int | str]:
    """What is the same as long as all batches are."""
    return {
      "seed": self._seed,
      "total_steps": self.total_steps,
      "batch_rows": self._batch_rows,
      "rows": self._train.digest(),
    }
