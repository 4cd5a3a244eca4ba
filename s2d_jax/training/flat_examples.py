"""Many examples in few arrays: their tokens lie one behind the other.

An array of an example's own has a head of a hundred bytes, so a million of them
take several times what their tokens do.
"""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence

from jaxtyping import Int
import numpy as np

from s2d_jax.training.examples import Tokenised

_BETWEEN = "\0"  # names


class FlatExamples(Sequence[Tokenised]):
  """Examples that have names; each is a view.

  Attributes:
    lengths: tokens of each.

  Args:
    named: the examples with their names; they may go as soon as they are read.
  """

  lengths: Int[np.ndarray, " N"]

  def __init__(self, named: Iterable[tuple[str, Tokenised]]):
    tokens, lengths = array.array("i"), array.array("i")
    is_target, self._names = bytearray(), bytearray()
    for name, example in named:
      tokens.frombytes(example.tokens.astype(np.int32).tobytes())
      is_target += example.is_target.tobytes()
      lengths.append(len(example.tokens))
      self._names += f"{name}{_BETWEEN}".encode()
    self._tokens = narrow(np.frombuffer(tokens, np.int32))
    self._is_target = np.frombuffer(is_target, bool)
    self.lengths = np.frombuffer(lengths, np.int32)
    self._edges = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, index: int) -> Tokenised:
    index = range(len(self))[index]  # or an IndexError
    own = slice(*self._edges[index : index + 2])
    return Tokenised(self._tokens[own], self._is_target[own])

  def name(self, index: int) -> str:
    """Takes as long as it takes to read all names: for an error."""
    return self._names.decode().split(_BETWEEN)[index]

  def in_common(self) -> int:
    """How many tokens all of them begin with alike."""
    first, starts = self[0].tokens, self._edges[:-1]
    for place in range(self.lengths.min()):
      if (self._tokens[starts + place] != first[place]).any():
        return place
    return int(self.lengths.min())


def narrow(values: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
  """The same numbers in two bytes each, where all of them fit.

  Those of most vocabularies do.
  """
  is_wide = (values < 0).any() or (values > np.iinfo(np.uint16).max).any()
  return values if is_wide else values.astype(np.uint16)
