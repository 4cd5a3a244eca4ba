"""A regular expression of the user's."""

from __future__ import annotations

import dataclasses
import re

from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Regex:
  """The last match of a pattern: its first group, or all of it."""

  pattern: str

  def __post_init__(self):
    try:
      re.compile(self.pattern)
    except (re.error, TypeError) as error:
      raise UserError(
        f"task.answer.pattern={self.pattern!r} is no regular expression"
        f" ({error})"
      ) from None

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    found = list(re.finditer(self.pattern, reply, re.MULTILINE))
    if not found:
      return None
    groups = found[-1].groups() or (found[-1].group(),)
    text = (groups[0] or "").strip()
    return Answer(text, strict=True) if text else None
