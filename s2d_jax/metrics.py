"""Figures of a stage over its steps: JSON Lines, TensorBoard, and W&B.

metrics/<stage>.jsonl is the source. TensorBoard's event file is rewritten from
it whenever the stage resumes, so it has each step once, however often the run
was killed; a W&B run gets the steps that it does not have yet.
"""

from __future__ import annotations

import time

from etils import epath

from s2d_jax import records, tracking
from s2d_jax.event_file import EventFile
from s2d_jax.records import Record

# Counts since the previous line; they are plotted as rates.
_COUNTED = ("passes", "tokens", "target_tokens")
_NOT_DRAWN = ("step", "seconds", "total_steps", "of", *_COUNTED)


class Curve:
  """The lines of metrics/<name>.jsonl, which `append` also plots.

  A stage that goes on from step `start` keeps the lines up to it and drops
  those after, which are about to be written again.

  Args:
    workdir: of the run.
    name: of the stage.
    start: the last step that stands; 0 for a new curve.
    quiet: nothing is written, as on all hosts but one.
  """

  def __init__(
    self, workdir: epath.Path, name: str, start: int, quiet: bool = False
  ):
    self._name = name
    self._last_line = time.monotonic()
    self._file = None
    if quiet:
      return
    path = workdir / "metrics" / f"{name}.jsonl"
    with records.Appender(path) as file:  # cuts a line that a kill halved
      lines = file.recovered if start else []
    lines = [line for line in lines if line["step"] <= start]
    records.write(path, lines)
    self._file = records.Appender(path)
    self._events = EventFile(workdir / "tensorboard" / name)
    # As if the run had gone on without a pause.
    wall_time = time.time() - sum(line["seconds"] for line in lines)
    known = tracking.last_step(name)
    for line in lines:
      wall_time += line["seconds"]
      self._draw(line, wall_time, track=line["step"] > known)
    self._events.flush()

  def append(self, line: Record) -> None:
    """Adds a line, which has a "step", and sets its "seconds".

    Those are the time since the previous line, whatever was done in it.
    """
    now = time.monotonic()
    line = {**line, "seconds": round(now - self._last_line, 3)}
    self._last_line = now
    if self._file is not None:
      self._file.append(line)
      self._draw(line, time.time(), track=True)

  def _draw(self, line: Record, wall_time: float, track: bool) -> None:
    figures = scalars(line)
    self._events.add(line["step"], figures, wall_time)
    if track:
      tracking.log(self._name, line["step"], figures)

  def flush(self) -> None:
    """When this returns, every line will survive a kill."""
    if self._file is not None:
      self._file.flush()
      self._events.flush()

  def __enter__(self) -> Curve:
    return self

  def __exit__(self, *unused) -> None:
    if self._file is not None:
      self._file.close()
      self._events.close()


def scalars(line: Record) -> dict[str, float]:
  """The figures of a line that are plotted, counts as rates."""
  drawn = {
    name: value
    for name, value in line.items()
    if name not in _NOT_DRAWN and value is not None
  }
  if line["seconds"]:
    drawn |= {
      f"{name}_per_second": line[name] / line["seconds"]
      for name in _COUNTED
      if line.get(name)
    }
  return drawn
