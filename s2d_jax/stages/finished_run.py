"""The folder of a run, opened to ask its models."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.records import Record


def folder_of(name: epath.PathLike) -> epath.Path | None:
  """The run that a name means, its folder or a checkpoint's; None: no run."""
  path = epath.Path(name)
  if path.parent.name == "checkpoints" and path.is_dir():
    path = path.parent.parent
  found = _settings(path)
  is_run = bool(found) and "model_type" not in found
  return path if is_run and (path / "examples").exists() else None


def read_config(run: epath.Path, dtype: str | None = None) -> ConfigDict:
  """The settings of a run that has learnt something.

  Args:
    run: its folder.
    dtype: of the products of sampling; None: the run's.

  Raises:
    UserError: it has no checkpoint yet.
  """
  if not (run / "checkpoints").exists():
    raise UserError(
      f"{run} has no checkpoint yet; run `s2d finetune` first, or name its base"
      " model"
    )
  found, config = _settings(run), default()
  with config.unlocked():
    config.task = ConfigDict(found.pop("task"))
    config.update(found)
  config.model.dtype = dtype or config.model.dtype
  return config


def _settings(run: epath.Path) -> Record:
  path, advice = run / "config.json", "copy the run's own there again"
  return records.read_json(path, advice) if path.exists() else {}
