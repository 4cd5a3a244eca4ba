"""Functions of one's own, which a config names: `my_module:swap`."""

from __future__ import annotations

from collections.abc import Callable
import importlib
import os
import sys

from s2d_jax.errors import UserError


def function(name: str) -> Callable:
  """The function that `package.module:function` names."""
  module, _, attribute = str(name).partition(":")
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise UserError(
      f"python:{name} cannot be imported ({error}); write"
      " package.module:function, seen from the current directory"
    ) from None
  if not callable(found):
    raise UserError(f"python:{name} is {found!r}, not a function; name one")
  return found
