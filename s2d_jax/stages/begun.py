"""Examples that were begun: where their samples are, known to all hosts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s2d_jax.ordered import Place
from s2d_jax.records import Record
from s2d_jax.stages.shards import RecordShards


class Begun:
  """What an earlier start has left of examples that need more samples.

  Any host can go on with any of them: it reads the samples when it begins.

  Args:
    shards: that have the samples; all hosts make this together.
    own: of each sample that this host has found the number of its example, and
      its place: one behind the other.
  """

  def __init__(self, shards: RecordShards, own: Sequence[int]):
    rows = np.array(own, np.int64).reshape(-1, 1 + len(Place._fields))
    rows = shards.rows_of_all("begun", rows)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    self._shards = shards
    self._examples, self._places = rows[:, 0], rows[:, 1:]

  @property
  def numbers(self) -> np.ndarray:
    """Of the examples, in their order."""
    return np.unique(self._examples)

  def samples(self, number: int) -> list[Record]:
    """Those that are there of an example; none if it was not begun."""
    first, end = np.searchsorted(self._examples, [number, number + 1])
    places = self._places[first:end].tolist()
    return [self._shards.at(Place(*place)) for place in places]
