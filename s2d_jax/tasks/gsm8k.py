"""GSM8K: grade-school word problems whose answer is a number."""

from __future__ import annotations

from s2d_jax.answers.number import Number
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Template
from s2d_jax.tasks import cells
from s2d_jax.tasks.cells import Row
from s2d_jax.tasks.questions import Questions

_FORMAT = "a number"
_STEPS = (
  '{text}\nThink step by step, then end with a line that starts with "Answer:"'
  " and has only {format}."
)
_SHOTS = (
  (
    "A baker fills 4 trays with 6 rolls each and sells 15 rolls. How many are"
    " left?",
    "4 trays of 6 rolls are 4 * 6 = 24 rolls. After 15 are sold, 24 - 15 = 9"
    " are left.\nAnswer: 9",
  ),
  (
    "Nora reads 20 pages on Monday and twice as many on Tuesday. Her book has"
    " 100 pages. How many pages has she still to read?",
    "On Tuesday she reads 20 * 2 = 40 pages. Together that is 20 + 40 = 60"
    " pages. She has 100 - 60 = 40 pages left.\nAnswer: 40",
  ),
  (
    "Three friends share a bill of $54 equally, and each adds a tip of $2. How"
    " many dollars does each of them pay?",
    "Each share of the bill is 54 / 3 = 18 dollars. With the tip each pays 18 +"
    " 2 = 20 dollars.\nAnswer: 20",
  ),
)


class Gsm8k(Questions):
  """Word problems (Cobbe et al. 2021).

  Args:
    train: source of the problems to learn from, with question and answer.
    valid: source of those to choose the checkpoint; none: part of train.
    test: source of those for the report; none: part of train.
    train_size: problems to learn from; None takes all that are left.
    valid_size: problems to choose the checkpoint.
    test_size: problems for the report; None takes all.
    seed: of the splits.
  """

  name = "gsm8k"

  def __init__(
    self,
    train: str = "hf:openai/gsm8k:main:train",
    valid: str | None = None,
    test: str | None = "hf:openai/gsm8k:main:test",
    train_size: int | None = None,
    valid_size: int | None = 200,
    test_size: int | None = None,
    seed: int = 0,
  ):
    super().__init__(
      name=self.name,
      sources={"train": train, "valid": valid, "test": test},
      sizes={"train": train_size, "valid": valid_size, "test": test_size},
      templates={"plain": "{question}"},
      answer=Number(),
      format=_FORMAT,
      prompts=_PROMPTS,
      label=_label,
      seed=seed,
    )


def reference(answer: str) -> str:
  """The number behind "####" in a solution of the data set."""
  _, mark, number = answer.rpartition("####")
  found = Number()(number) if mark else None
  if found is None:
    raise UserError(
      f"the solution {answer[-40:]!r} has no number behind ####; use the files"
      " of openai/gsm8k"
    )
  return found.text


def _label(row: Row) -> list[str] | None:
  cells.need_columns("gsm8k", row, ("answer",))
  return [reference(text) for text in cells.texts(row, "answer")] or None


_SYSTEM1 = "{text}\nAnswer with {format} only."
_PROMPTS = {
  "system1": Template(_SYSTEM1, max_new_tokens=16, stop=("\n",)),
  "system1_shots": Template(
    _SYSTEM1,
    shots=tuple(
      (
        _SYSTEM1.format(text=question, format=_FORMAT),
        solution.rpartition("Answer: ")[2],
      )
      for question, solution in _SHOTS
    ),
    max_new_tokens=16,
    stop=("\n",),
  ),
  "cot_few_shot": Template(
    _STEPS,
    shots=tuple(
      (_STEPS.format(text=question, format=_FORMAT), solution)
      for question, solution in _SHOTS
    ),
    max_new_tokens=256,
    stop=("\n\n",),
  ),
}
