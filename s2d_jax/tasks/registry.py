"""Tasks by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import difflib
import inspect
from typing import Any

from s2d_jax.errors import UserError
from s2d_jax.tasks.coin_flip import CoinFlip
from s2d_jax.tasks.custom import Custom
from s2d_jax.tasks.gsm8k import Gsm8k
from s2d_jax.tasks.instructions import Instructions
from s2d_jax.tasks.judge import Judge
from s2d_jax.tasks.last_letters import LastLetters
from s2d_jax.tasks.opinions import Opinions
from s2d_jax.tasks.same_continent import SameContinent
from s2d_jax.tasks.same_language import SameLanguage
from s2d_jax.tasks.sums import Sums
from s2d_jax.tasks.sycophancy import Sycophancy
from s2d_jax.tasks.task import Task

TASKS = {
  task.name: task
  for task in (
    Sycophancy,
    Opinions,
    LastLetters,
    CoinFlip,
    Sums,
    SameContinent,
    SameLanguage,
    Instructions,
    Judge,
    Gsm8k,
    Custom,
  )
}


def make_task(name: str, options: Mapping[str, Any]) -> Task:
  """The task of this name; an unknown or missing option is a UserError."""
  if name not in TASKS:
    raise UserError(
      f"task.name={name!r} is unknown{_hint(name, TASKS)}; there are"
      f" {', '.join(sorted(TASKS))}"
    )
  known = inspect.signature(TASKS[name]).parameters
  unknown = set(options) - set(known)
  if unknown:
    wrong = min(unknown)
    raise UserError(
      f"task.{wrong} is unknown{_hint(wrong, known)}; {name} has"
      f" {', '.join(known)}"
    )
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise UserError(
        f"task.{option} is missing; the task {name} needs it in the config"
      )
  return TASKS[name](**options)


def _hint(name: str, known: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, list(known), n=1)
  return f" (did you mean {near[0]}?)" if near else ""
