"""Counters of hosts that all live in this process."""

from __future__ import annotations

import collections

import pytest

from s2d_jax.parallel import hosts


class Counters:
  """Those of the same name are one, whichever host made them.

  Attributes:
    values: by name.
  """

  def __init__(self):
    self.values: collections.Counter[str] = collections.Counter()

  def made_by(self, count: int, patch: pytest.MonkeyPatch) -> None:
    """Has this process take itself for each of so many hosts."""
    patch.setattr(hosts, "count", lambda: count)
    patch.setattr(hosts, "Counter", lambda name: _Counter(self.values, name))


class _Counter:
  def __init__(self, values: collections.Counter[str], name: str):
    self._values, self._name = values, name

  def add(self, amount: int) -> int:
    self._values[self._name] += amount
    return self._values[self._name]
