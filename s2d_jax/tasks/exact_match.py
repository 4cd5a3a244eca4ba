"""What tasks share whose answers are right if they equal the label."""

from __future__ import annotations

from s2d_jax.answers.answer import Answer, AnswerParser
from s2d_jax.errors import UserError
from s2d_jax.tasks.task import Example


class ExactMatch:
  """Answers of one word: the target is the answer itself.

  Attributes:
    parser: finds the answer in a reply.
  """

  parser: AnswerParser

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    return self.parser(reply, self.fields(example, variant)["text"])

  def target(self, example: Example, variant: str, answer: str) -> str:
    return answer

  def score(
    self, example: Example, variant: str, answer: str | None
  ) -> dict[str, float]:
    return {"accuracy": float(answer == example.label)}


def split_sizes(train: int, valid: int, test: int) -> dict[str, int]:
  """Examples by split, in the order in which they are to be drawn.

  The test split comes first: the size of another does not change it.

  Raises:
    UserError: there is none in one of them.
  """
  if min(train, valid, test) < 1:
    raise UserError(
      f"task.train={train}, task.valid={valid} and task.test={test} must"
      " each be at least one"
    )
  return {"test": test, "valid": valid, "train": train}
