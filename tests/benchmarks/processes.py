"""Contenders in processes of their own, one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
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


def run(interpreter: str, module: str, job: dict[str, Any]) -> dict[str, Any]:
  """Runs a contender on as many cores as it has threads.

  Raises:
    UserError: it failed; its last words are part of the message.
  """
  with tempfile.TemporaryDirectory() as folder:
    out, path = pathlib.Path(folder, "out.json"), pathlib.Path(folder, "job")
    path.write_text(json.dumps(job | {"out": str(out)}))
    name = f"tests.benchmarks.contenders.{module}"
    with _only(job["threads"]):  # which a process inherits
      done = subprocess.run(
        [interpreter, "-m", name, str(path)],
        cwd=ROOT,
        env=_environment(job["threads"]),
        capture_output=True,
        text=True,
      )
    if done.returncode or not out.exists():
      words = "\n".join(done.stderr.strip().splitlines()[-12:])
      raise UserError(f"{name} ended with {done.returncode}:\n{words}")
    return json.loads(out.read_text())


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
