"""Several processes of one run, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import socket
import subprocess
import sys
from typing import NamedTuple

_ROOT = pathlib.Path(__file__).parents[1]


class Ended(NamedTuple):
  """How a process ended."""

  status: int
  out: str
  err: str


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
    env = os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"}
    self._running = [
      subprocess.Popen(
        [
          *(sys.executable, "-c", program, *flags),
          f"--coordinator=localhost:{port}",
          f"--num_processes={count}",
          f"--process_id={index}",
          *(more or {}).get(index, ()),
        ],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for index in range(count)
    ]

  def kill(self, index: int) -> None:
    self._running[index].kill()

  @property
  def are_running(self) -> bool:
    return all(process.poll() is None for process in self._running)

  def wait_for(self, index: int, seconds: float) -> None:
    """Waits until this one has ended, which says little."""
    self._running[index].wait(seconds)

  def wait(self, seconds: float = 200) -> list[Ended]:
    """Waits for all to end by themselves."""
    try:
      said = [process.communicate(timeout=seconds) for process in self._running]
    finally:
      for process in self._running:
        process.kill()
    return [
      Ended(process.returncode, out, err)
      for process, (out, err) in zip(self._running, said, strict=True)
    ]
