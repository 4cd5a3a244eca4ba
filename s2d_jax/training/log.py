"""What a fine-tune says while it runs: metrics on disk, progress on screen."""

from __future__ import annotations

import math
import time
from typing import Any

from etils import epath
import jax

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.progress import Progress


class TrainingLog:
  """Metrics of each update in a JSONL file, and a bar; the first host's only.

  A run that goes on from update `start` keeps the lines up to it and drops
  those after, which are about to be written again. `seconds` of a line is the
  time since the line before, what validation and saving took included.
  """

  def __init__(self, path: epath.Path, start: int, total: int):
    self._tokens = 0
    self._began = self._last_line = time.monotonic()
    self._progress = Progress(
      "finetune", total, "steps", done=start, quiet=jax.process_index() > 0
    )
    self._file = None
    if jax.process_index() == 0:
      with records.Appender(path) as file:  # cuts a line that a kill halved
        lines = file.recovered if start else []
      records.write(path, [line for line in lines if line["step"] <= start])
      self._file = records.Appender(path)

  def __enter__(self) -> TrainingLog:
    self._progress.__enter__()
    return self

  def __exit__(self, *unused) -> None:
    self._progress.__exit__()
    if self._file:
      self._file.close()

  def start_line(self, valid_loss: float) -> None:
    self._append({"step": 0, "valid_loss": valid_loss, "target_tokens": 0})

  def step_line(
    self, step: int, metrics: dict[str, Any], valid_loss: float | None = None
  ) -> None:
    """Waits for the metrics of update `step`, then writes and shows them."""
    metrics = jax.device_get(metrics)
    loss = float(metrics["loss"])
    if not math.isfinite(loss + (valid_loss or 0)):
      raise UserError(
        f"the loss of finetune step {step} is {loss}, its validation loss"
        f" {valid_loss}; lower finetune.learning_rate"
      )
    line = {"step": step, "loss": loss}
    if valid_loss is not None:
      line["valid_loss"] = valid_loss
    line["learning_rate"] = float(metrics["learning_rate"])
    line["grad_norm"] = float(metrics["grad_norm"])
    line["target_tokens"] = int(metrics["target_tokens"])
    self._append(line)
    self._tokens += int(metrics["tokens"])
    rate = self._tokens / (time.monotonic() - self._began)
    self._progress.advance(1, f"loss {loss:.4f}  {rate:,.0f} tokens/s")

  def flush(self) -> None:
    """Before a checkpoint: its lines must outlive what it outlives."""
    if self._file:
      self._file.flush()

  def _append(self, line: records.Record) -> None:
    now = time.monotonic()
    if self._file:
      self._file.append({**line, "seconds": round(now - self._last_line, 3)})
    self._last_line = now
