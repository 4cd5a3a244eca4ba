"""What is read in a reply: the answer, and how surely."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Answer(NamedTuple):
  """A normalised answer.

  Attributes:
    text: equal for answers that mean the same.
    strict: whether the reply has the form that was asked for: the answer alone,
      or marked as such ("Answer: 18"). Else it was read out of a sentence.
  """

  text: str
  strict: bool

  @property
  def tier(self) -> str:
    """ "strict" or "loose", as records have it."""
    return "strict" if self.strict else "loose"


class AnswerParser(Protocol):
  """Finds the answer in a reply; None where it can't be read with certainty.

  A wrong vote costs more than a missing one: misreadings of one kind agree with
  each other, and win.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    """Reads a reply; the question tells an echo from an answer."""
