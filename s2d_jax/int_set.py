"""Whole numbers that were seen, in little memory."""

from __future__ import annotations

import numpy as np

_FEW = 1 << 14


class IntSet:
  """A set of numbers of 64 bits, as digests are, at some ten bytes each.

  That is a seventh of what Python's takes. Most of them are in an array, in
  order; the last are in a set until they are an eighth of all.
  """

  def __init__(self):
    self._sorted = np.zeros(0, np.int64)
    self._last: set[int] = set()

  def add(self, number: int) -> bool:
    """Adds a number; returns whether it is new."""
    if number in self._last or self._is_sorted_in(number):
      return False
    self._last.add(number)
    if len(self._last) > max(_FEW, len(self._sorted) // 8):
      last = np.fromiter(self._last, np.int64, len(self._last))
      self._sorted = np.sort(np.concatenate([self._sorted, last]))
      self._last.clear()
    return True

  def __len__(self) -> int:
    return len(self._sorted) + len(self._last)

  def _is_sorted_in(self, number: int) -> bool:
    place = self._sorted.searchsorted(number)
    return place < len(self._sorted) and self._sorted[place] == number
