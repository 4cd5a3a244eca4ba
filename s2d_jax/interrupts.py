"""A Ctrl-C is heard wherever it comes."""

from __future__ import annotations

import _thread
from collections.abc import Iterator
import contextlib
import signal
import sys
import threading
import time

_AGAIN_SECONDS = 0.1  # by then, what swallowed it is over


@contextlib.contextmanager
def sent_again() -> Iterator[None]:
  """Inside, a KeyboardInterrupt that nobody can catch comes once more.

  It is raised in whatever the main thread runs. In a `__del__`, or in the
  callback that JAX has in every garbage collection, Python only prints that it
  was ignored, and the program runs on.
  """
  former = sys.unraisablehook

  def hook(unraisable: sys.UnraisableHookArgs) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
      # A `threading.Thread` takes locks, which the main thread may hold.
      _thread.start_new_thread(_interrupt, ())
    else:
      former(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  finally:
    sys.unraisablehook = former


def _interrupt() -> None:
  time.sleep(_AGAIN_SECONDS)
  signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
