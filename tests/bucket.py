"""A bucket that is a folder: gs:// as etils reaches it, without a network."""

from __future__ import annotations

import pathlib

from etils.epath import backend
import fsspec
from fsspec.implementations.local import LocalFileSystem
import pytest


def make(root: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
  """Has gs://b/… lie in `root`/b/… while `patch` lasts."""

  class Bucket(LocalFileSystem):
    protocol = ("gs", "gcs")
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
      # What it has listed comes back with gs:// in front.
      path = "/" + str(path).removeprefix("gs://").strip("/")
      return path if path.startswith(str(root)) else f"{root}{path}"

    def open(self, path, mode="rb", **options):
      if "a" in mode:
        raise NotImplementedError("an object store cannot append")
      return super().open(path, mode, **options)

  bucket = Bucket(auto_mkdir=True)
  patch.setattr(
    backend._FileSystemSpecBackend,
    "_get_filesystem",
    lambda self, name: bucket if name == "gcs" else fsspec.filesystem(name),
  )
