"""Logging to Weights & Biases, with --wandb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import json
import os
from typing import Any
import uuid

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError

_run: Any = None  # the one that is open in this process


@contextlib.contextmanager
def wandb_run(workdir: epath.Path, config: Mapping[str, Any]) -> Iterator[None]:
  """Opens the W&B run of a workdir; curves are logged to it inside.

  Its id is random and kept in metrics/wandb.json, so that a run that was killed
  resumes the same one. It is not derived from names: the runs/quickstart of two
  people are two runs.

  Args:
    workdir: of the run; its last part is the name.
    config: every setting.

  Raises:
    UserError: the package is missing, or W&B does not let it start.
  """
  global _run
  try:
    import wandb
  except ImportError:
    raise UserError(
      "--wandb needs a package that is not installed; pip install"
      " 's2d_jax[wandb]', or leave the flag out"
    ) from None
  path = workdir / "metrics" / "wandb.json"
  if not path.exists():
    drawn = {"id": uuid.uuid4().hex[:12]}
    records.write_text(path, json.dumps(drawn) + "\n")
  is_local = "://" not in str(workdir)
  try:
    run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", "s2d_jax"),
      id=records.read_json(path, "delete it for a new W&B run")["id"],
      name=workdir.name,
      config=dict(config),
      resume="allow",
      # Otherwise it would be in the current folder.
      dir=os.environ.get("WANDB_DIR", os.fspath(workdir) if is_local else None),
      # Capturing the output would break the progress bars.
      settings=wandb.Settings(console="off"),
    )
  except wandb.errors.Error as error:
    reason = " ".join(str(error).split())
    raise UserError(
      f"W&B does not start ({reason}); call `wandb login`, or set"
      " WANDB_MODE=offline"
    ) from None
  _run = run
  status = 1
  try:
    yield
    status = 0
  finally:
    _run = None
    run.finish(exit_code=status)


def last_step(name: str) -> int:
  """The newest step of a curve that W&B has; -1 if it has none."""
  if _run is None:
    return -1
  # Stages count different things, so each has an axis of its own.
  _run.define_metric(f"{name}/*", step_metric=f"{name}/step")
  return _run.summary.get(f"{name}/step", -1)


def log(name: str, step: int, figures: Mapping[str, float]) -> None:
  """Sends a point of each curve, if there is a run."""
  if _run is not None:
    named = {f"{name}/{key}": value for key, value in figures.items()}
    _run.log({f"{name}/step": step, **named})
