"""How glibc hands out the memory of arrays on a CPU."""

from __future__ import annotations

import ctypes
import glob
import os
import sys

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 2**30
_THREADS = "/proc/self/task"
_ACCELERATORS = ("/dev/accel*", "/dev/vfio/*", "/dev/nvidia[0-9]*", "/dev/kfd")


def keep_buffers() -> None:
  """Has a step of the CPU take over the buffers of the one before.

  By default each buffer of some megabytes is mapped anew, and its pages are
  cleared at their first use: a fifth of the time of sampling. Kept are those
  of a single arena, as each thread would have its own, so this is of no effect
  once JAX has threads, besides NumPy's one a processor. Nor beside an
  accelerator, whose host loads checkpoints of many gigabytes and should give
  all of it back.
  """
  is_cpu = os.environ.get("JAX_PLATFORMS") == "cpu" or not any(
    map(glob.glob, _ACCELERATORS)
  )
  if sys.platform != "linux" or not is_cpu or _has_begun():
    return
  set_option = getattr(ctypes.CDLL(None), "mallopt", None)
  if set_option is not None:  # glibc's alone
    set_option(_ARENA_MAX, 1)
    set_option(_MMAP_THRESHOLD, _LARGEST)
    set_option(_TRIM_THRESHOLD, _LARGEST)


def _has_begun() -> bool:
  """Whether there are more threads than NumPy starts."""
  return len(os.listdir(_THREADS)) > (os.cpu_count() or 1)
