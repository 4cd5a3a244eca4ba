"""What tasks share whose answers are right if they equal the label."""

from __future__ import annotations

from s2d_jax.answers.answer import Answer, AnswerParser
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
