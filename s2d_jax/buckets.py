"""What a bucket refuses, as one sentence.

Paths as gs://bucket/run are read and written by gcsfs, below etils.epath. What
goes wrong there comes as one of many exceptions: of gcsfs, of the libraries for
HTTP and for signing in that it stands on, or of Python. None of them need be
installed, so such an error is known by the code that it came through.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import traceback

from etils import epath

from s2d_jax.errors import UserError

_LIBRARIES = {"fsspec", "gcsfs"}


def be_quiet() -> None:
  """Has gcsfs not log the stack trace of what it raises anyway."""
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
  """Makes a UserError of what the libraries of a bucket raise meanwhile.

  Raises:
    UserError: a bucket cannot be reached, is not there or may not be used, or
      gcsfs is not installed.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    path = _refused(error)
    if path is None:
      raise
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
      raise UserError(
        f"{path} needs a package that is not installed ({reason}); for gs://"
        " it comes with pip install 'etils[epath-gcs]'"
      ) from None
    raise UserError(
      f"{path} cannot be used ({reason}); check the bucket's name, the network"
      " and your rights (gcloud auth application-default login), then start"
      " the same command again"
    ) from None


def _refused(error: Exception) -> epath.Path | None:
  """The path elsewhere whose library raised the error; None if none did."""
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  names = (frame.f_globals.get("__name__", "") for frame in frames)
  if _LIBRARIES.isdisjoint(name.partition(".")[0] for name in names):
    return None
  paths = [
    value
    for frame in frames
    for value in frame.f_locals.values()
    if isinstance(value, epath.Path) and "://" in str(value)
  ]
  return paths[-1] if paths else None
