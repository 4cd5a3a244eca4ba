"""Kills a tiny run again and again, and compares what it leaves.

    python -m tests.kills 50

A run of two rounds, its report, and the conversion of its model are made
undisturbed, and again, killed so many times, each time started again with the
same command. The moments are drawn among all that the undisturbed run does
to files (it opens one to write, renames, makes or deletes it), in their order,
so that no stage is too short to be hit; the process is killed there, or up to a
tenth of a second later. All files must be the same in the end, but for those
that have times in them. It takes about ten seconds a kill.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import itertools
import json
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

from tests import tiny_chat
from tests.processes import Process
from tests.stages.conftest import SETTINGS

# Notes in the file of argument 3 what it does to files below argument 4, and is
# killed at the first of the lines of argument 1, so many seconds later.
_PROGRAM = """
import os, re, signal, sys, threading
moments, seconds, log, root = sys.argv[1:5]
del sys.argv[1:5]
moments = set(moments.splitlines())
seen = open(log, "w")
changes = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}

def end():
  os.kill(os.getpid(), signal.SIGKILL)

def look(event, arguments):
  if event not in changes or not isinstance(arguments[0], (str, os.PathLike)):
    return
  if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
    return
  path = os.path.abspath(os.fspath(arguments[0]))
  if not path.startswith(root):
    return
  path = re.sub("[0-9]{6,}", "N", os.path.relpath(path, root))
  seen.write(f"{event} {path}\\n")
  seen.flush()
  if f"{event} {path}" in moments:
    moments.clear()
    if float(seconds):
      threading.Timer(float(seconds), end).start()
    else:
      end()

sys.addaudithook(look)
import jax
from s2d_jax.reporting import plots
jax.clear_caches = lambda: None
plots.render = lambda *unused: b"a plot"
from s2d_jax import cli
cli.main()
"""
_LONGEST = 3600  # seconds of a command
# These have times or random numbers in them, in their names too. What is in the
# arrays of a checkpoint is compared as what is made of them.
_TIMED = re.compile(
  r".*(/done/|/tensorboard/|/_CHECKPOINT_METADATA|/(params|opt_state)/"
  r"|/thinker\.json|/metrics/sample\.jsonl|/report/index\.html)"
)
_TIMES = re.compile(rb'"seconds":[0-9.e-]+')


class Run:
  """The commands of one run, in a folder of its own."""

  def __init__(self, root: pathlib.Path, config: pathlib.Path):
    self._root, self._log = root, root.with_name(f"{root.name}.log")
    run = f"--workdir={root}/run"
    given = [f"--config={config}", run, "--config.rounds.count=2"]
    model = f"--model={root}/run/rounds/2"
    self._commands = [
      ["pipeline", *given],
      ["report", *given],
      ["convert", model, f"--out={root}/distilled"],
    ]
    root.mkdir()

  def make(self) -> list[tuple[str, str]]:
    """Runs all commands; returns what they did to files, with the command."""
    done = []
    for command in self._commands:
      self._end(self._start(command))
      changes = dict.fromkeys(self._changes())
      done += [(command[0], change) for change in changes]
    return done

  def make_killed(self, moments: Sequence[tuple[str, str]]) -> int:
    """The same, killed at these; returns how often that was.

    What was done within the delay of a kill is not done again, so that may be
    less often.
    """
    kills = 0
    for command in self._commands:
      left = [change for name, change in moments if name == command[0]]
      while left:
        began = time.monotonic()
        process = self._start(command, left, random.choice([0, 0.01, 0.1]))
        ended = process.wait(_LONGEST)
        if ended.status != -signal.SIGKILL:
          if ended.status:
            raise AssertionError(f"{command}, {kills} kills: {ended.err}")
          break
        kills += 1
        hit = next(change for change in self._changes() if change in left)
        del left[: left.index(hit) + 1]
        seconds = time.monotonic() - began
        print(f"{kills} {command[0]}: {hit} ({seconds:.0f} s)", flush=True)
      if command[0] != "convert" or not (self._root / "distilled").exists():
        self._end(self._start(command))
    return kills

  def _start(
    self, command: Sequence[str], moments: Sequence[str] = (), seconds=0.0
  ) -> Process:
    watched = ["\n".join(moments), str(seconds), str(self._log)]
    return Process(
      _PROGRAM, [*watched, str(self._root), *command], JAX_PLATFORMS="cpu"
    )

  def _changes(self) -> list[str]:
    """What the last command did to files."""
    return self._log.read_text().splitlines()

  def _end(self, process: Process) -> None:
    ended = process.wait(_LONGEST)
    if ended.status:
      raise AssertionError(ended.err)

  def files(self) -> dict[str, bytes]:
    """What is there without what has times in it."""
    return {
      path.relative_to(self._root).as_posix(): _TIMES.sub(
        b"", path.read_bytes().replace(str(self._root).encode(), b"")
      )
      for path in self._root.rglob("*")
      if path.is_file() and not _TIMED.match(path.as_posix())
    }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("kills", type=int)
  parser.add_argument("--seed", type=int, default=0)
  given = parser.parse_args()
  random.seed(given.seed)
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    os.environ |= {
      "S2D_CACHE": f"{root}/cache",
      "HF_HUB_OFFLINE": "1",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
      "JAX_COMPILATION_CACHE_DIR": f"{root}/compiled",
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.02",
    }
    model = tiny_chat.write(root / "model")
    (root / "tiny.py").write_text(SETTINGS.format(model=str(model)))
    whole = Run(root / "whole", root / "tiny.py")
    changes = whole.make()
    wanted, kills, differ = whole.files(), 0, set()
    for attempt in itertools.count():
      if kills >= given.kills:
        break
      count = min(given.kills - kills, len(changes))
      drawn = sorted(random.sample(range(len(changes)), count))
      killed = Run(root / f"killed{attempt}", root / "tiny.py")
      kills += killed.make_killed([changes[index] for index in drawn])
      found = killed.files()
      differ |= {
        name
        for name in wanted.keys() | found.keys()
        if wanted.get(name) != found.get(name)
      }
  told = {"changes": len(changes), "kills": kills, "files": len(wanted)}
  print(json.dumps(told | {"differ": sorted(differ)}, indent=2))
  return bool(differ)


if __name__ == "__main__":
  sys.exit(main())
