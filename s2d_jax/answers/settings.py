"""Parsers by their settings: {"kind": "choice", "options": [...]}."""

from __future__ import annotations

from collections.abc import Mapping
import inspect
from typing import Any

from s2d_jax.answers.answer import AnswerParser
from s2d_jax.answers.choice import Choice
from s2d_jax.answers.json_value import Json
from s2d_jax.answers.letters import Letters
from s2d_jax.answers.number import Number
from s2d_jax.answers.pattern import Regex
from s2d_jax.answers.text import Text
from s2d_jax.errors import UserError

PARSERS = {
  "number": Number,
  "choice": Choice,
  "regex": Regex,
  "text": Text,
  "letters": Letters,
  "json": Json,
}


def make_parser(spec: Mapping[str, Any]) -> AnswerParser:
  """A parser from its settings: {"kind": "choice", "options": [...]}."""
  if not isinstance(spec, Mapping):
    raise UserError(
      f'task.answer={spec!r} must be a mapping such as {{"kind": "number"}}'
    )
  options = dict(spec)
  kind = options.pop("kind", None)
  if kind not in PARSERS:
    raise UserError(
      f"task.answer.kind={kind!r} is unknown; there are {', '.join(PARSERS)}"
    )
  known = inspect.signature(PARSERS[kind]).parameters
  for name in options.keys() - known.keys():
    raise UserError(
      f"task.answer.{name} is unknown; {kind} has"
      f" {', '.join(known) or 'no options'}"
    )
  for name, parameter in known.items():
    if name not in options and parameter.default is parameter.empty:
      raise UserError(f"task.answer.{name} is missing; {kind} needs it")
  return PARSERS[kind](
    **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
  )
