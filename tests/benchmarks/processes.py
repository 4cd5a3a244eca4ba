"""Contenders in processes of their own, by turns."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from typing import Any

from s2d_jax.errors import UserError
from tests.benchmarks import weights

ROOT = pathlib.Path(__file__).parents[2]
_THREADS = (
  "OMP_NUM_THREADS",
  "OPENBLAS_NUM_THREADS",
  "MKL_NUM_THREADS",
  "NUMEXPR_NUM_THREADS",
)

# Contender → the virtual environment it runs in; None is this one.
SAMPLERS = {
  "s2d": None,
  "transformers": "torch",
  "tunix": "tunix",
  "llama_cpp": "llama_cpp",
}
TRAINERS = {"s2d": None, "torch": "torch", "trainer": "torch", "tunix": "tunix"}


def peers(folder: str) -> pathlib.Path:
  """Where the peers' environments are: as told, or where peers.sh puts them."""
  told = folder or os.environ.get("S2D_PEERS")
  return pathlib.Path(told) if told else weights.cache() / "peers"


def python(environment: str | None, folder: pathlib.Path) -> str:
  """The interpreter of an environment."""
  if environment is None:
    return sys.executable
  path = folder / environment / "bin" / "python"
  if not path.exists():
    raise UserError(
      f"{path} does not exist; make it with tests/benchmarks/peers.sh"
      f" {folder}, or leave its contenders out with --contenders"
    )
  return str(path)


def race(
  modules: Mapping[str, tuple[str, str]], job: Mapping[str, Any]
) -> dict[str, dict[str, Any] | UserError]:
  """Runs contenders by turns, each on as many cores as it has threads.

  A machine that others share is now faster, now slower; so all make their first
  repeat, then all their second. Only one is not stopped at any time.

  Args:
    modules: contender → an interpreter and the module that it runs.
    job: what all are told.

  Returns:
    What each wrote; of one that failed an error, with its last words.
  """
  with contextlib.ExitStack() as stack:
    contenders = {}
    for name, (interpreter, module) in modules.items():
      print(f"{name}: cold call …", file=sys.stderr, flush=True)
      folder = stack.enter_context(tempfile.TemporaryDirectory())
      contenders[name] = _Contender(interpreter, module, job, folder)
      stack.callback(contenders[name].kill)
      contenders[name].until_stopped()
    for repeat in range(1, job["repeats"] + 1):
      for name, contender in contenders.items():
        if not contender.ended:
          print(f"{name}: repeat {repeat} …", file=sys.stderr, flush=True)
          contender.go_on()
          contender.until_stopped()
    return {name: one.result() for name, one in contenders.items()}


class _Contender:
  """A process that stops itself before each of its repeats."""

  def __init__(self, interpreter: str, module: str, job, folder: str):
    self._name = f"tests.benchmarks.contenders.{module}"
    self._out = pathlib.Path(folder, "out.json")
    self._words = pathlib.Path(folder, "stderr")
    path = pathlib.Path(folder, "job")
    path.write_text(json.dumps({**job, "out": str(self._out), "turns": True}))
    with self._words.open("w") as words, _only(job["threads"]):
      self._process = subprocess.Popen(  # inherits the cores
        [interpreter, "-m", self._name, str(path)],
        cwd=ROOT,
        env=_environment(job["threads"]),
        stdout=subprocess.DEVNULL,
        stderr=words,
      )

  @property
  def ended(self) -> bool:
    return self._process.returncode is not None

  def go_on(self) -> None:
    self._process.send_signal(signal.SIGCONT)

  def until_stopped(self) -> None:
    """Waits until it has stopped or ended."""
    if not self.ended:  # it may have been killed while it was stopped
      _, status = os.waitpid(self._process.pid, os.WUNTRACED)
      if not os.WIFSTOPPED(status):
        self._process.returncode = os.waitstatus_to_exitcode(status)

  def kill(self) -> None:
    """Ends it where it has not ended."""
    self._process.kill()
    self._process.wait()

  def result(self) -> dict[str, Any] | UserError:
    """What it wrote; an error with its last words where it failed."""
    code = self._process.returncode
    if code == 0 and self._out.exists():
      return json.loads(self._out.read_text())
    words = self._words.read_text(errors="replace").strip().splitlines()
    told = [f"{self._name} ended with {code}:", *words[-12:]]
    return UserError("\n".join(told))


def _environment(threads: int) -> dict[str, str]:
  """Of a contender: nothing of ours but the way to this repository."""
  kept = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("JAX_", "XLA_")) and key != "PYTHONPATH"
  }
  more = {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
  if "JAX_PLATFORMS" in os.environ:
    more["JAX_PLATFORMS"] = os.environ["JAX_PLATFORMS"]
  return kept | dict.fromkeys(_THREADS, str(threads)) | more


@contextlib.contextmanager
def _only(cores: int):
  """Keeps to as many of the cores that this process may use."""
  allowed = os.sched_getaffinity(0)
  os.sched_setaffinity(0, sorted(allowed)[:cores])
  try:
    yield
  finally:
    os.sched_setaffinity(0, allowed)
