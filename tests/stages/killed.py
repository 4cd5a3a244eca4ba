"""Runs that are killed, and what a folder holds before and after."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

import pytest


@contextlib.contextmanager
def killed(owner: Any, name: str, calls: int) -> Iterator[None]:
  """What `owner` calls `name` ends the program when it is called so often."""
  whole, left = getattr(owner, name), [None] * calls

  def ends(*values):
    left.pop()
    if not left:
      raise RuntimeError("killed")
    return whole(*values)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(owner, name, ends)
    yield


def files(folder: pathlib.Path) -> dict[str, bytes]:
  """Path in the folder → what the file holds."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }
