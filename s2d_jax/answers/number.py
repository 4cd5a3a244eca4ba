"""Numbers in replies: "#### 1,234", "the answer is $18.00.", "\\frac{3}{4}"."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.latex import has_math
from s2d_jax.answers.numerals import canonical, find, plain
from s2d_jax.answers.result import concluded
from s2d_jax.answers.stated import alone, stated


@dataclasses.dataclass(frozen=True)
class Number:
  """A number, by its value: 0.75, 3/4 and \\frac{3}{4} are one answer."""

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = plain(replies.said(reply))
    statements = replies.marked(text)
    if replies.contradicts(text):
      return None
    for statement in statements:
      found = alone(statement)
      if found is not None:
        return _answer(found, strict=True)
      if find(statement) or has_math(statement):
        return _answer(stated(statement), strict=False)
      if _says_none(statement):
        return None
    if replies.is_unanswered(reply):
      return None
    found = alone(text)
    if found is not None:
      return _answer(found, strict=True)
    return _answer(concluded(text, question), strict=False)


def _answer(value: Fraction | None, strict: bool) -> Answer | None:
  return None if value is None else Answer(canonical(value), strict)


_FEW_WORDS = 4


def _says_none(statement: str) -> bool:
  """Whether what is marked as the answer is one, but no number."""
  return len(statement.split()) <= _FEW_WORDS or replies.refuses(statement)
