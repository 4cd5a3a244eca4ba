"""What the two programs have in common: their flags, the race, the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import json
import pathlib
import platform
import signal
import sys
from typing import Any

from absl import app, flags

from s2d_jax.errors import UserError
from tests.benchmarks import processes, summary

MODEL = flags.DEFINE_string(
  "model", "smollm2-135m-instruct", "A name, a folder or a .gguf file."
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  "float32",
  ["float32", "bfloat16"],
  "Number type of all contenders.",
)
_REPEATS = flags.DEFINE_integer(
  "repeats", 5, "Times each contender is measured, after a cold call.", 1
)
_THREADS = flags.DEFINE_integer("threads", 2, "Cores for each contender.", 1)
_OUT = flags.DEFINE_string("out", "", "A JSON file for every figure.")
_PEERS = flags.DEFINE_string(
  "peers",
  "",
  "Folder of the environments that peers.sh makes; default: $S2D_PEERS or"
  " ~/.cache/s2d_jax/peers.",
)
_BOUND = flags.DEFINE_bool(
  "bound", True, "Measure the matrix products alone, too (float32)."
)


def start(main: Callable[[Sequence[str]], None]) -> None:
  """Runs a program; a UserError is one line."""
  # Contenders that are stopped would outlive a program that just ends.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: it was ended"))

  def run(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      sys.exit(f"error: what is {argv[1]!r}? settings begin with --")
    try:
      main(argv)
    except UserError as error:
      sys.exit(f"error: {error}")

  app.run(run)


def contenders(wanted: Sequence[str], known: Mapping[str, Any]) -> list[str]:
  """Checked names."""
  for name in wanted:
    if name not in known:
      raise UserError(
        f"--contenders has {name!r}; there are {', '.join(known)}"
      )
  return list(wanted)


def job(folder: pathlib.Path) -> dict[str, Any]:
  """What the flags say, to every contender."""
  return {
    "weights": str(folder),
    "dtype": _DTYPE.value,
    "repeats": _REPEATS.value,
    "threads": _THREADS.value,
  }


def race(
  names: Sequence[str], kind: str, environments: Mapping[str, Any], job
) -> dict[str, dict[str, Any]]:
  """Runs the contenders; one that fails is told and left out."""
  folder = processes.peers(_PEERS.value)
  modules = {
    name: (processes.python(environments[name], folder), f"{name}_{kind}")
    for name in names
  }
  results = processes.race(modules, job)
  for name, result in list(results.items()):
    if isinstance(result, UserError):
      print(f"left out: {result}", file=sys.stderr, flush=True)
      del results[name]
  return results


def products(job, passes) -> dict[str, Any] | None:
  """The matrix products alone, unless they are not wanted."""
  if not _BOUND.value or job["dtype"] != "float32":
    return None
  small = {key: job[key] for key in ("weights", "threads")}
  small |= {"passes": passes, "repeats": 5}
  modules = {"matrix products": (sys.executable, "products")}
  [result] = processes.race(modules, small).values()
  if isinstance(result, UserError):
    raise result
  return result


def refused(check: Callable[..., None], *args) -> bool:
  """Whether a check fails, which is told."""
  try:
    check(*args)
  except UserError as error:
    print(f"left out: {error}", file=sys.stderr, flush=True)
    return True
  return False


def report(title, job, shown, unit, bound, results, products) -> None:
  """Prints the table, and writes every figure where that is wanted."""
  print(
    f"{title}, {job['dtype']}, {job['threads']} cores of"
    f" {platform.machine()}, medians of {job['repeats']}"
  )
  print(summary.table(shown))
  if bound:
    rates = ", ".join(f"{rate:.0f}" for rate in products["gflops"])
    print(f"bound: {bound:.0f} {unit}/s from products at {rates} GFLOP/s")
  if _OUT.value:
    written = {
      "title": title,
      "settings": {
        key: value
        for key, value in job.items()
        if isinstance(value, str | int | float)
      },
      "bound": bound,
      "products": products,
      "figures": shown,
      "results": results,
    }
    pathlib.Path(_OUT.value).write_text(json.dumps(written, indent=1) + "\n")
