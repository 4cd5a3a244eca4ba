"""Examples of files, of which none is in memory before it is asked for."""

from __future__ import annotations

import array
import bisect
from collections.abc import Iterator, Sequence
from typing import overload

from etils import epath
import numpy as np

from s2d_jax import ordered, records
from s2d_jax.errors import UserError
from s2d_jax.tasks.task import (
  Example,
  example_of,
  iterate_examples,
  located_examples,
)


class ExampleFiles(Sequence[Example]):
  """The examples of some files, one file after the other.

  The files are read once, to know where each example begins: eight bytes of it
  are in memory, and its id. Whoever asks in the order of the examples has a
  file read from front to back, on a disk as in a bucket.

  Args:
    paths: of the files.

  Attributes:
    ids: of all examples, in their order.
    edges: how many there are before the first file, and behind each.

  Raises:
    UserError: a line is no example, or two have the same id.
  """

  def __init__(self, *paths: epath.Path):
    self._paths = paths
    self._starts = array.array("q")
    self.edges = [0]
    hashes = array.array("q")  # of ids: a set of these would be ten times more

    def ids() -> Iterator[str]:
      for path in paths:
        for start, example in located_examples(path):
          self._starts.append(start)
          hashes.append(hash(example.id))
          yield example.id
        self.edges.append(len(self._starts))

    self.ids = ordered.texts(ids())
    if len(np.unique(np.frombuffer(hashes, np.int64))) < len(self):
      self._check_ids()
    self._files = [path.open("rb") for path in paths]

  def __len__(self) -> int:
    return len(self._starts)

  @overload
  def __getitem__(self, index: int) -> Example: ...

  @overload
  def __getitem__(self, index: slice) -> list[Example]: ...

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[number] for number in range(len(self))[index]]
    index = range(len(self))[index]
    file = bisect.bisect(self.edges, index) - 1
    record = records.record_at(self._files[file], self._starts[index])
    return example_of(record, self._paths[file], index - self.edges[file] + 1)

  def _check_ids(self) -> None:
    """Raises UserError for the first two examples of one id."""
    found: dict[str, epath.Path] = {}
    for path in self._paths:
      for example in iterate_examples(path):
        first = found.setdefault(example.id, path)
        if first != path:
          raise UserError(
            f"{first} and {path} both have an example {example.id!r}; ids must"
            " be unique"
          )
