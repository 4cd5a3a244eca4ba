"""What a full disk refuses, as one sentence.

Python raises an OSError. Checkpoints are written by tensorstore, below Orbax,
which raises a ValueError with the words of the system, often in a thread. Orbax
logs it there with its stack trace, and raises it again where it is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import logging
import os
import shutil
import tempfile

from etils import epath

from s2d_jax.errors import UserError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_WORDS = tuple(f"os_error_code='{number}'" for number in _NUMBERS)


def be_quiet() -> None:
  """Has Orbax not log the stack trace of what it raises anyway."""
  logging.getLogger("absl").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
  error = record.exc_info and record.exc_info[1]
  return not (error and _is_full(error))


def check(folder: epath.PathLike, needed: int) -> None:
  """Raises UserError where a disk would be full before all is written.

  Args:
    folder: that a checkpoint is to be written to; a bucket is never full.
    needed: its bytes.
  """
  if "://" not in os.fspath(folder) and _free(folder) < needed:
    raise _refused(folder, needed)


@contextlib.contextmanager
def mistakes(folder: epath.PathLike, needed: int = 0) -> Iterator[None]:
  """Makes a UserError of what a full disk refuses meanwhile.

  Args:
    folder: that is written to.
    needed: bytes of the checkpoint that is being written; 0: of none.

  Raises:
    UserError: no room is left, or no more of it may be used.
  """
  try:
    yield
  except Exception as error:
    if not _is_full(error):
      raise
    raise _refused(folder, needed) from None


def _is_full(error: BaseException) -> bool:
  if isinstance(error, OSError):
    return error.errno in _NUMBERS
  return any(words in str(error) for words in _WORDS)


def _refused(folder: epath.PathLike, needed: int) -> UserError:
  if "://" in os.fspath(folder):
    folder = tempfile.gettempdir()  # where what goes to a bucket is made
  wanted = f", and a checkpoint takes {_size(needed)}" if needed else ""
  return UserError(
    f"too little room is left on the disk of {folder}: it has"
    f" {_size(_free(folder))}{wanted}; make room, then start the same command"
    " again, and it goes on from what was whole before"
  )


def _free(folder: epath.PathLike) -> int:
  """Bytes; the folder may not be there yet."""
  there = epath.Path(folder)
  while not there.exists():
    there = there.parent
  return shutil.disk_usage(os.fspath(there)).free


def _size(count: int) -> str:
  return f"{count / 1e6:,.1f} MB"
