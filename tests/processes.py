"""Programs in processes of their own, and several processes of one run.

Each is a fork of a process that has imported what they import, which takes
seconds, and has touched no device.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
import gc
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from typing import NamedTuple

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
  ["s2d_jax.stages.pipeline", "transformers", "pytest"]
)


class Ended(NamedTuple):
  """How a process ended."""

  status: int
  out: str
  err: str


class Process:
  """A Python program in a process of its own.

  Args:
    program: Python.
    arguments: its `sys.argv[1:]`.
    environ: what differs from the environment of this process.
  """

  def __init__(
    self, program: str, arguments: Sequence[str] = (), **environ: str
  ):
    self._said = tempfile.TemporaryDirectory()
    self._process = _FORKS.Process(
      target=_run,
      args=(program, arguments, os.environ | environ, self._said.name),
      daemon=True,
    )
    self._process.start()

  @property
  def is_running(self) -> bool:
    return self._process.is_alive()

  def kill(self, number: int = signal.SIGKILL) -> None:
    if self.is_running:
      os.kill(self._process.pid, number)

  def said(self, stream: str) -> str:
    """What it has written to `out` or `err` so far."""
    path = pathlib.Path(self._said.name, stream)
    return path.read_text() if path.exists() else ""

  def wait(self, seconds: float = 500) -> Ended:
    """Waits until it has ended by itself.

    Raises:
      subprocess.TimeoutExpired: it has not, and is killed.
    """
    self._process.join(seconds)
    if self.is_running:
      self.kill()
      raise subprocess.TimeoutExpired(self.said("err"), seconds)
    return Ended(self._process.exitcode, self.said("out"), self.said("err"))


def _run(
  program: str, arguments: Sequence[str], environ: dict[str, str], said: str
) -> None:
  """Does in a fork what `python -c program` does."""
  gc.disable()
  os.environ.clear()
  os.environ.update(environ)
  for stream, name in ((1, "out"), (2, "err")):
    with open(pathlib.Path(said, name), "w") as file:
      os.dup2(file.fileno(), stream)
  import jax

  # As they were when JAX was imported.
  devices = int(os.environ.get("JAX_NUM_CPU_DEVICES", -1))
  jax.config.update("jax_num_cpu_devices", devices)
  jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS"))
  sys.argv = ["-c", *arguments]
  try:
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
  finally:
    atexit._run_exitfuncs()  # a fork ends without


def run(program: str, arguments: Sequence[str] = (), **environ: str) -> Ended:
  """How the program ends, by itself."""
  return Process(program, arguments, **environ).wait()


class Processes:
  """`count` processes of one Python program, which find each other.

  Args:
    count: processes.
    program: Python, run with `flags`.
    flags: of all; those by which processes find each other are added.
    more: flags of single processes, by index.
  """

  def __init__(
    self,
    count: int,
    program: str,
    flags: Sequence[str] = (),
    more: dict[int, Sequence[str]] | None = None,
  ):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port = free.getsockname()[1]
    self._running = [
      Process(
        program,
        [
          *flags,
          f"--coordinator=localhost:{port}",
          f"--num_processes={count}",
          f"--process_id={index}",
          *(more or {}).get(index, ()),
        ],
        JAX_PLATFORMS="cpu",
      )
      for index in range(count)
    ]

  def __len__(self) -> int:
    return len(self._running)

  def kill(self, index: int) -> None:
    self._running[index].kill()

  @property
  def are_running(self) -> bool:
    return all(process.is_running for process in self._running)

  def wait_for(self, index: int, seconds: float) -> None:
    """Waits until this one has ended, which says little."""
    self._running[index].wait(seconds)

  def wait(self, seconds: float = 200) -> list[Ended]:
    """Waits for all to end by themselves."""
    try:
      return [process.wait(seconds) for process in self._running]
    finally:
      for process in self._running:
        process.kill()
