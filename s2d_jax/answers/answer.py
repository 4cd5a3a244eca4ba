"""What is read in a reply: the answer, and how surely."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Answer(NamedTuple):
  """A normalised answer.

  Attributes:
    text: equal for answers that mean the same.
    strict: whether the reply has the form that was asked for: the answer alone,
      or marked as such ("Answer: 18"). Else it was read out of a sentence.
    is_sure: whether all that the reply says besides was understood. An answer
      that is not sure is scored, but has no vote.
  """

  text: str
  strict: bool
  is_sure: bool = True

  @property
  def tier(self) -> str:
    """ "strict", "loose" or "unsure", as records have it."""
    if not self.is_sure:
      return UNSURE
    return "strict" if self.strict else "loose"


UNSURE = "unsure"


def has_vote(tier: str | None, loose: bool = True) -> bool:
  """Whether an answer of a tier votes.

  Args:
    tier: as `Answer.tier` has it; None where it was not recorded.
    loose: whether answers vote that were read out of a sentence, too.
  """
  return tier == "strict" or loose and tier != UNSURE


class AnswerParser(Protocol):
  """Finds the answer in a reply; None where it can't be read.

  A wrong vote costs more than a missing one: misreadings of one kind agree with
  each other, and win. So an answer that may be another one is not sure, and
  has none.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    """Reads a reply; the question tells an echo from an answer."""
