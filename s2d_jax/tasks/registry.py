"""Tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
import inspect
from typing import Any

from s2d_jax.errors import UserError
from s2d_jax.tasks.sycophancy import Sycophancy
from s2d_jax.tasks.task import Task

TASKS = {task.name: task for task in (Sycophancy,)}


def make_task(name: str, options: Mapping[str, Any]) -> Task:
  """The task of this name; an unknown name or option, a UserError."""
  if name not in TASKS:
    raise UserError(
      f"task.name={name!r} is unknown; there are {', '.join(sorted(TASKS))}"
    )
  known = inspect.signature(TASKS[name]).parameters
  unknown = set(options) - set(known)
  if unknown:
    raise UserError(
      f"task.{min(unknown)} is unknown; {name} has {', '.join(known)}"
    )
  return TASKS[name](**options)
