"""What an export appears by: complete or not at all, and never over another."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
from typing import Any

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError


@contextlib.contextmanager
def new_folder(folder: epath.PathLike) -> Iterator[epath.Path]:
  """Yields an empty folder that becomes `folder` at the end.

  Raises:
    UserError: there is something under that name, or it is in a bucket.
  """
  with _new(folder) as temporary:
    temporary.mkdir(parents=True)
    yield temporary


@contextlib.contextmanager
def new_file(file: epath.PathLike) -> Iterator[epath.Path]:
  """Yields the name of a file that becomes `file` at the end.

  Raises:
    UserError: there is something under that name, or it is in a bucket.
  """
  with _new(file) as temporary:
    temporary.parent.mkdir(parents=True, exist_ok=True)
    yield temporary


@contextlib.contextmanager
def _new(path: epath.PathLike) -> Iterator[epath.Path]:
  path = epath.Path(path)
  if "://" in os.fspath(path):
    raise UserError(
      f"{path} is in a bucket, and exports are written to a local disk; name a"
      " folder or file there and copy it: gcloud storage cp -r"
    )
  if path.exists():
    raise UserError(f"{path} exists already; name another or delete this one")
  temporary = path.parent / (path.name + ".tmp")
  _delete(temporary)  # left by a kill
  try:
    yield temporary
  except BaseException:
    _delete(temporary)
    raise
  temporary.rename(path)


def _delete(path: epath.Path) -> None:
  if path.is_dir():
    path.rmtree()
  else:
    path.unlink(missing_ok=True)


def write_json(path: epath.Path, values: Any) -> None:
  text = json.dumps(values, indent=2, ensure_ascii=False)
  records.write_text(path, text + "\n")
