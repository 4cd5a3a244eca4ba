"""Distilling System 2 into System 1, in JAX.

import s2d_jax
lm = s2d_jax.LanguageModel.load("smollm2-135m-instruct")
solver = s2d_jax.Solver.load("runs/continents")
"""

from typing import TYPE_CHECKING

from s2d_jax import buckets
from s2d_jax.errors import UserError as UserError
from s2d_jax.language_model import LanguageModel as LanguageModel

if TYPE_CHECKING:
  from s2d_jax.solver import Solver as Solver

__version__ = "0.1.0"

buckets.set_clients()


def __getattr__(name: str):
  """Loads the solver where it is used: it brings the flags of the stages."""
  if name != "Solver":
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  from s2d_jax.solver import Solver

  return Solver
