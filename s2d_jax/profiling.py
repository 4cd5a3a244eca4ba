"""Profiler traces of some steps of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import itertools
import pathlib
import sys
import tempfile
import time
from typing import TypeVar

from etils import epath
import jax

from s2d_jax import records

T = TypeVar("T")

# The first step is mostly compilation; a trace then has enough steps to be
# useful, and ends before it is too large to view.
_FIRST = 2
_LEAST_STEPS, _LEAST_SECONDS = 4, 2.0

_workdir: epath.Path | None = None  # where traces are written; None: nowhere
_END = object()


def enable(workdir: epath.Path | None) -> None:
  """Makes `traced` write under profile/ of this workdir; None: stops it."""
  global _workdir
  _workdir = workdir


def traced(stage: str, steps: Iterable[T]) -> Iterator[T]:
  """Yields `steps`; if enabled, some of them are traced.

  The trace covers what makes the steps as well as what the caller does with
  them, and ends in profile/<stage>/.
  """
  if _workdir is None:
    yield from steps
    return
  steps, trace = iter(steps), None
  try:
    for number in itertools.count(1):
      if number == _FIRST:
        trace = _Trace(_workdir / "profile" / stage)
      with jax.profiler.StepTraceAnnotation(stage, step_num=number):
        step = next(steps, _END)
        if step is _END:
          return
        yield step
      if trace and trace.is_enough(number - _FIRST + 1):
        trace = trace.end()
  finally:
    if trace:
      trace.end()


class _Trace:
  """A trace under way.

  It is written on this machine first: not every build of JAX reaches a bucket.
  """

  def __init__(self, folder: epath.Path):
    self._folder = folder
    self._local = tempfile.TemporaryDirectory()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python calls would hide all else
    jax.profiler.start_trace(self._local.name, profiler_options=options)
    self._began = time.monotonic()

  def is_enough(self, steps: int) -> bool:
    seconds = time.monotonic() - self._began
    return steps >= _LEAST_STEPS and seconds >= _LEAST_SECONDS

  def end(self) -> None:
    jax.profiler.stop_trace()
    with self._local as name:
      local = pathlib.Path(name)
      for path in local.rglob("*"):
        if path.is_file():
          target = self._folder / path.relative_to(local)
          records.write_bytes(target, path.read_bytes())
    print(f"profile: a trace is in {self._folder}", file=sys.stderr, flush=True)
