"""Progress of work that hosts share: what all have done, shown by the lead."""

from __future__ import annotations

import time

from s2d_jax.parallel import hosts
from s2d_jax.progress import Progress

_PAUSE_SECONDS = 1.0  # between what a host tells the others


class JointProgress(Progress):
  """Counts what all hosts have done, up to a second ago.

  All of them make it, and advance it by what they do themselves.
  """

  def __init__(self, label: str, total: int, *args, **options):
    super().__init__(label, total, *args, **options)
    self._items = hosts.Counter(f"{label}, items")
    self._tokens_drawn = hosts.Counter(f"{label}, tokens")
    self._own = self._own_tokens = 0  # that the others have not been told of
    self._all = self._all_tokens = 0
    self._told, self._status = -_PAUSE_SECONDS, ""

  def advance(self, count: int, status: str = "", tokens: int = 0) -> None:
    self._own += count
    self._own_tokens += tokens
    self._status = status
    if time.monotonic() - self._told > _PAUSE_SECONDS:
      self._tell()

  def _tell(self) -> None:
    items = self._items.add(self._own)
    tokens = self._tokens_drawn.add(self._own_tokens)
    super().advance(items - self._all, self._status, tokens - self._all_tokens)
    self._all, self._all_tokens = items, tokens
    self._own = self._own_tokens = 0
    self._told = time.monotonic()

  def __exit__(self, kind, *unused) -> None:
    if kind is None:
      self._tell()
    super().__exit__(kind, *unused)
