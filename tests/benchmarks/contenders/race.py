"""What every contender does alike: read a job, time calls, write a result.

Runs in the virtual environments of the peers too: the standard library only.

A job is a JSON file with `weights` (a Hugging Face folder), `dtype`, `threads`,
`repeats`, `out` (where the result goes) and what its workload adds; see
`workloads.py`.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import os
import pathlib
import resource
import signal
import statistics
import sys
import time
from typing import Any

Job = dict[str, Any]


def read_job() -> Job:
  """The job named on the command line."""
  return json.loads(pathlib.Path(sys.argv[1]).read_text())


def seconds_since_start() -> float:
  """Since this process began, its interpreter and imports counted."""
  ticks = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2]
  started = int(ticks.split()[19]) / os.sysconf("SC_CLK_TCK")
  return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
  """Seconds that a call took, and what it gave."""
  began = time.perf_counter()
  out = call()
  return time.perf_counter() - began, out


def run(job: Job, call: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
  """Times `call(repeat)` once cold and `repeats` times warm.

  Args:
    job: with `repeats`; with `turns`, the process stops before each of them,
      until it is sent SIGCONT.
    call: does the workload once; gives what was counted in it. A
      `first_result` among that is the moment, in `perf_counter` seconds, at
      which the first of several results was there.

  Returns:
    start_s: until the model was loaded; first_s: the cold call, compilation in
    it; first_result_s: until there was something to read, from the start of the
    process; seconds: of each warm call; counts: what each of them counted.
  """
  start, began = seconds_since_start(), time.perf_counter()
  first, counted = timed(lambda: call(0))
  at = counted.pop("first_result", began + first)
  seconds, counts = [], []
  for repeat in range(1, job["repeats"] + 1):
    if job.get("turns"):
      signal.raise_signal(signal.SIGSTOP)
    took, counted = timed(lambda repeat=repeat: call(repeat))
    counted.pop("first_result", None)
    seconds.append(took)
    counts.append(counted)
  return {
    "start_s": start,
    "first_s": first,
    "first_result_s": start + at - began,
    "compile_s": max(0.0, first - statistics.median(seconds)),
    "seconds": seconds,
    "counts": counts,
    "peak_bytes": peak_bytes(),
  }


def peak_bytes() -> int:
  """The most memory that this process has held at once."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finish(job: Job, result: dict[str, Any]) -> None:
  """Writes the result where the job wants it."""
  pathlib.Path(job["out"]).write_text(json.dumps(result))


def count(rows: list[list[int]], eos: list[int]) -> dict[str, int]:
  """Tokens drawn up to and with the first end token, and completions."""
  return {
    "tokens": sum(len(until_end(row, eos)) for row in rows),
    "completions": len(rows),
  }


def until_end(row: list[int], eos: list[int]) -> list[int]:
  """Up to and with the first end token."""
  for index, token in enumerate(row):
    if token in eos:
      return row[: index + 1]
  return row


def target_tokens(job: Job) -> int:
  """That an epoch learns; the first token of an example has no predecessor."""
  return sum(sum(example["is_target"][1:]) for example in job["examples"])


def trained(job: Job) -> dict[str, int]:
  """What an epoch counts: tokens without padding, and targets."""
  tokens = sum(len(example["tokens"]) for example in job["examples"])
  return {"tokens": tokens, "target_tokens": target_tokens(job)}


def batches(prompts: list, samples: int, rows: int) -> list[list]:
  """Prompts in groups whose samples fill at most `rows` rows."""
  width = max(1, rows // samples)
  return [prompts[i : i + width] for i in range(0, len(prompts), width)]
