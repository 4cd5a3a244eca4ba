"""What is asked of glibc on a CPU, and that it does it."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from s2d_jax import host_memory

_PAGES = """
import resource, sys, threading
from s2d_jax import host_memory
if sys.argv[1] == "keep":
  host_memory.keep_buffers()
import numpy as np
def steps():
  for _ in range(50):
    np.ones(2**22, np.uint8)  # 4 MB, as a step's buffers
thread = threading.Thread(target=steps)
thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[tuple[int, int]]:
  calls = []

  class Library:
    def mallopt(self, name, value):
      calls.append((name, value))

  monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
  monkeypatch.setattr(host_memory.os, "cpu_count", lambda: 1)
  (tmp_path / "1").touch()
  monkeypatch.setattr(host_memory, "_THREADS", str(tmp_path))
  monkeypatch.setattr(sys, "platform", "linux")
  return calls


def test_one_arena_keeps_what_is_freed(asked, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  host_memory.keep_buffers()
  # M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h.
  assert asked == [(-8, 1), (-3, 2**30), (-1, 2**30)]


def test_the_host_of_an_accelerator_gives_memory_back(asked, monkeypatch):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.setattr(
    host_memory.glob, "glob", lambda name: ["/dev/accel0"] * ("accel" in name)
  )
  host_memory.keep_buffers()
  assert asked == []


def test_threads_that_have_their_arenas_are_left_alone(
  asked, monkeypatch, tmp_path
):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  (tmp_path / "2").touch()
  host_memory.keep_buffers()
  assert asked == []


def test_another_system_is_left_alone(asked, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.setattr(sys, "platform", "darwin")
  host_memory.keep_buffers()
  assert asked == []


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's"
)
def test_the_next_step_maps_no_pages_anew():
  def faults(what):
    done = subprocess.run(
      [sys.executable, "-c", _PAGES, what],
      env={"JAX_PLATFORMS": "cpu"},
      capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)

  fresh, kept = faults("fresh"), faults("keep")
  if fresh == kept:
    pytest.skip("this system does not count page faults")
  assert kept < fresh
