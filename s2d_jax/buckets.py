"""How buckets are reached, and what they refuse, as one sentence.

Paths as gs://bucket/run are read and written by gcsfs, below etils.epath, and
arrays of checkpoints by TensorStore, below Orbax, which asks Google's client
what kind of bucket it is. What goes wrong there comes as one of many
exceptions: of these, of the libraries for HTTP and for signing in that they
stand on, or of Python. None of them need be installed, so such an error is
known by the code that it came through.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import os
import re
import traceback

from etils import epath
import fsspec

from s2d_jax.errors import UserError

_LIBRARIES = {"fsspec", "gcsfs", "google"}
# How TensorStore says that something is missing or cut, and where it was.
_DAMAGE = ("NOT_FOUND", "OUT_OF_RANGE", "DATA_LOSS", "FAILED_PRECONDITION")
_IN_TENSORSTORE = re.compile(r"[A-Z_]+: .*?(gs://[^\s:\]]+)")
# A server that is silent for a minute is asked again. Without these TensorStore
# waits for it as long as the connection stands.
_TENSORSTORE = {
  "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "30",
  "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "60",
  "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}


def set_clients() -> None:
  """Has all that this process reads and writes in buckets done by our client.

  Call it before the first path in a bucket is used.
  """
  os.environ["EPATH_USE_TF"] = "false"  # nor by TensorFlow, if it is installed
  for protocol in ("gs", "gcs"):
    fsspec.register_implementation(
      protocol,
      "s2d_jax.bucket_client.BucketClient",
      clobber=True,
      errtxt="gcsfs cannot be imported",
    )
  for name, value in _TENSORSTORE.items():
    os.environ.setdefault(name, value)


def be_quiet() -> None:
  """Has the libraries not log the stack trace of what they raise anyway."""
  for name in ("gcsfs", "fsspec"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  logging.getLogger("absl").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
  error = record.exc_info and record.exc_info[1]
  return not (error and _refused(error))


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
    # TensorStore goes on in brackets with all that it was asked.
    reason = " ".join(str(error).partition(" [")[0].split())
    reason = reason or type(error).__name__
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


def _refused(error: BaseException) -> str | None:
  """The path elsewhere whose library raised the error; None if none did."""
  said = str(error)
  in_tensorstore = _IN_TENSORSTORE.match(said)
  if in_tensorstore and not said.startswith(_DAMAGE):
    return in_tensorstore[1]
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  names = (frame.f_globals.get("__name__", "") for frame in frames)
  if _LIBRARIES.isdisjoint(name.partition(".")[0] for name in names):
    return None
  paths = [
    str(value)
    for frame in frames
    for value in frame.f_locals.values()
    if isinstance(value, epath.Path) and "://" in str(value)
  ]
  return paths[-1] if paths else None


def files(folder: epath.Path) -> list[epath.Path]:
  """All files below a folder, sorted; etils' walk forgets gs:// in a bucket."""
  scheme = "gs://" if str(folder).startswith("gs://") else ""
  return sorted(
    epath.Path(scheme + str(root).removeprefix(scheme)) / name
    for root, _, names in folder.walk()
    for name in names
  )
