"""What a fine-tune says while it runs: metrics on disk, progress on screen."""

from __future__ import annotations

import math

from etils import epath
import jax
from jaxtyping import Array

from s2d_jax.errors import UserError
from s2d_jax.metrics import Curve
from s2d_jax.progress import Progress


class TrainingLog:
  """Metrics of each update as a curve, and a bar; the first host's only.

  An update's line is written once the next update has been dispatched: reading
  its metrics waits for the devices, which are to be busy meanwhile.

  A run that goes on from update `start` keeps the lines up to it and drops
  those after, which are about to be written again. `seconds` of a line is the
  time since the line before, what validation and saving took included.
  """

  def __init__(self, workdir: epath.Path, start: int, total: int):
    quiet = jax.process_index() > 0
    self._total = total
    self._pending: tuple[int, dict[str, Array]] | None = None
    self._progress = Progress(
      "finetune",
      total,
      "steps",
      done=start,
      quiet=quiet,
      status="starting: new programs are compiled first",
    )
    self._curve = Curve(workdir, "finetune", start, quiet)

  def __enter__(self) -> TrainingLog:
    self._progress.__enter__()
    return self

  def __exit__(self, *unused) -> None:
    self._progress.__exit__()
    self._curve.__exit__()

  def start_line(self, valid_loss: float) -> None:
    self._curve.append(
      {
        "step": 0,
        "valid_loss": valid_loss,
        "target_tokens": 0,
        "total_steps": self._total,
      }
    )

  def update(self, step: int, metrics: dict[str, Array]) -> None:
    """Takes the metrics of update `step`; writes those of the one before."""
    self._write_pending()
    self._pending = step, metrics

  def flush(self, valid_loss: float | None = None) -> None:
    """Writes the newest update too, with the validation loss after it, if any.

    Before a checkpoint: its lines must outlive what it outlives.
    """
    self._write_pending(valid_loss)
    self._curve.flush()

  def _write_pending(self, valid_loss: float | None = None) -> None:
    """Waits for the metrics of the newest update; writes and shows them."""
    if self._pending is None:
      return
    step, metrics = self._pending
    self._pending = None
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
    line["tokens"] = int(metrics["tokens"])
    line["target_tokens"] = int(metrics["target_tokens"])
    if "reply_tokens" in metrics:
      line["reply_tokens"] = float(metrics["reply_tokens"])
    self._curve.append(line)
    self._progress.advance(1, f"loss {loss:.4f}", line["tokens"])
