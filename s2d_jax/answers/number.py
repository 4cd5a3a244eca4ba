"""Numbers in replies: "#### 1,234", "the answer is $18.00.", "\\frac{3}{4}"."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.latex import has_math
from s2d_jax.answers.numerals import canonical, find, plain
from s2d_jax.answers.result import concluded
from s2d_jax.answers.stated import alone, conclusion, given, stated


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
      strict = found is not None
      if strict or find(statement) or has_math(statement):
        found = found if strict else stated(statement)
        later = _concluded_behind(statement, text) or {found}
        return _answer(found if found in later else None, strict)
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


def _concluded_behind(statement: str, text: str) -> set[Fraction]:
  """The numbers of the last conclusion that follows a statement."""
  behind = replies.sentences(text.partition(f"{statement}\n")[2])
  behind = replies.sentences(statement)[1:] + behind
  said = [given(conclusion(sentence)[1]) for sentence in behind]
  return {one.value for one in next(filter(None, reversed(said)), [])}


_FEW_WORDS = 4


def _says_none(statement: str) -> bool:
  """Whether what is marked as the answer is one, but no number."""
  return len(statement.split()) <= _FEW_WORDS or replies.refuses(statement)
