"""The client of buckets: gcsfs, for runs of many hosts that last days.

gcsfs remembers what it has listed, with the sizes, as long as a process lives.
The other hosts of a run write meanwhile: their files would not be there, or be
read up to the length that they had. So here nothing is remembered.

gcsfs gives a request up after half a minute. Here a bucket that has answered
before is waited for longer, also where it is silent. If the answer to a
deletion is lost, the next try finds nothing: to delete what is not there is no
error.

It is the client of flat buckets, with Google's protocol over HTTP. The other
one of gcsfs asks over gRPC first whether a bucket has real folders, and again
each time if it gets no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
import inspect
import io
import itertools
import random
import sys
import time
from typing import Any

import aiohttp
from gcsfs.core import GCSFileSystem
from gcsfs.retry import is_retriable
from google.auth.exceptions import TransportError

_now, _sleep = time.monotonic, asyncio.sleep  # which tests make short

# Seconds from the first try to the last, and between two.
_PATIENCE = 600.0
_PATIENCE_AT_FIRST = 30.0
_LONGEST_PAUSE = 32.0
# Seconds without a byte. By itself gcsfs limits the whole time of a request,
# which a large file may take.
_SILENCE = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
# Bytes: what one request reads, how many of these an open file keeps, and what
# is copied for a line.
_BLOCK, _BLOCKS = 2 << 20, 16
_BUFFER = 1 << 16
# A request of gcsfs, without the tries that it makes.
_ask_once = inspect.unwrap(GCSFileSystem._request)


def _may_pass(error: Exception) -> bool:
  """gcsfs does not count a server that is silent, or where one signs in."""
  return is_retriable(error) or isinstance(
    error, (TimeoutError, TransportError)
  )


class BucketClient(GCSFileSystem):
  """A `GCSFileSystem` that asks each time, and is patient."""

  def __init__(self, *args: Any, **options: Any):
    options |= {"use_listings_cache": False, "requests_timeout": _SILENCE}
    super().__init__(*args, **options)
    self._has_answered = self._has_said_so = False

  async def _request(self, method: str, path: str, *args: Any, **options: Any):
    """What all that gcsfs asks goes through: status, headers, …, content."""
    began = _now()
    for attempt in itertools.count():
      try:
        answer = await _ask_once(self, method, path, *args, **options)
      except Exception as error:
        if isinstance(error, FileNotFoundError) and method == "DELETE":
          return 204, {}, None, b""
        if not _may_pass(error):
          self._has_answered = True
          raise
        patience = _PATIENCE if self._has_answered else _PATIENCE_AT_FIRST
        if _now() - began > patience:
          raise
        if attempt >= 5 and self._has_answered:
          self._say_that_it_waits(error)
        pause = min(2.0**attempt, _LONGEST_PAUSE)
        await _sleep(pause * random.uniform(0.5, 1))
      else:
        self._has_answered, self._has_said_so = True, False
        return answer

  def _open(self, path: str, mode: str = "rb", **options: Any):
    """A file; what is read is kept for a while, as of a disk.

    By itself a file of gcsfs copies a block of megabytes for each line, and
    asks anew for each that is not behind the one before: samples are sorted so.
    """
    if mode != "rb":
      return super()._open(path, mode=mode, **options)
    options |= {
      "block_size": _BLOCK,
      "cache_type": "blockcache",
      "cache_options": {"maxblocks": _BLOCKS},
    }
    file = super()._open(path, mode=mode, **options)
    return io.BufferedReader(file, _BUFFER)

  async def _delete_files(self, files: Sequence[str], batchsize: int):
    """One by one: what a batch finds missing is told in its answer alone."""
    del batchsize
    deletions = [self._rm_file(file) for file in files]
    return await asyncio.gather(*deletions, return_exceptions=True)

  def _say_that_it_waits(self, error: Exception) -> None:
    if self._has_said_so:
      return
    reason = " ".join(str(error).split()) or type(error).__name__
    print(
      f"the bucket does not answer ({reason}); it is asked again for"
      f" {_PATIENCE / 60:.0f} minutes",
      file=sys.stderr,
      flush=True,
    )
    self._has_said_so = True
