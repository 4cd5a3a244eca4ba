"""A digest of what something was made from, which tells when it is stale."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import json

from etils import epath

import s2d_jax
from s2d_jax import records
from s2d_jax.records import Record


def digest(made_by: Record, files: Iterable[epath.Path]) -> str:
  """Of settings and whatever else made it of the lines of some files.

  Another version of this package may make something else of them.
  """
  made_by = {"version": s2d_jax.__version__} | made_by
  found = hashlib.blake2b(json.dumps(made_by).encode(), digest_size=16)
  for path in files:
    with path.open("rb") as file:
      for block in records.whole_lines(file):
        found.update(block)
  return found.hexdigest()
