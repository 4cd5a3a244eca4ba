"""The pairwise judge: which of two answers is better?

Every pair is judged in both orders. A verdict is mapped to the original order,
so that votes over both orders agree if the judge does.
"""

from __future__ import annotations

from collections.abc import Mapping
import re

from s2d_jax.answers.answer import Answer
from s2d_jax.answers.verdict import Verdict
from s2d_jax.errors import UserError
from s2d_jax.system2 import bsm, cot
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks import item_splits
from s2d_jax.tasks.judge_formats import FORMATS
from s2d_jax.tasks.task import Example

_FORMAT = "[[A]], [[B]] or [[C]]"

# What the letters in the prompt mean: the first answer of the pair, the second.
_MEANINGS = {
  "original": {"A": "1", "B": "2", "C": "tie"},
  "swapped": {"A": "2", "B": "1", "C": "tie"},
}

_REQUEST = """\
Two assistants have answered a user's question. Judge which answer is better: \
how well it follows the request, how right, helpful and clear it is. Neither \
the order nor the length of the answers matters. The verdict is A if the \
first answer is better, B if the second is, and C if neither is.

[Question]
{question}

[Answer A]
{answer_a}

[Answer B]
{answer_b}

[Verdict]
Which answer is better?"""

_SYSTEM1 = "{text}\nAnswer with {format} only."

# The pairs of the worked examples of `bsm` and `cot_judge`, and their verdicts.
_SHOTS = tuple(
  (pair, verdict)
  for (pair, _), verdict in zip(
    (*bsm.SOLVE_SHOTS, cot.JUDGE_SHOTS[-1]),
    ("[[A]]", "[[B]]", "[[A]]"),
    strict=True,
  )
)

_PROMPTS = {
  "system1": Template(_SYSTEM1, max_new_tokens=8),
  "system1_shots": Template(
    _SYSTEM1,
    shots=tuple(
      (_SYSTEM1.format(text=_REQUEST.format(**pair), format=_FORMAT), verdict)
      for pair, verdict in _SHOTS
    ),
    max_new_tokens=8,
  ),
}


class Judge:
  """Judges pairs of answers, in both orders.

  Args:
    format: of the rows: llmbar, mt_bench, oasst2 or pairs; or one for each
      split, as {"train": …, "valid": …, "test": …}.
    train: source of the pairs to learn from.
    valid: source of those to choose the checkpoint; none: part of train.
    test: source of those for the report; none: part of train.
    train_size: pairs to learn from; None takes all that are left.
    valid_size: pairs to choose the checkpoint.
    test_size: pairs for the report.
    max_answer_chars: longer answers are cut at a word; None: never.
    seed: of the splits.
  """

  name = "judge"
  variants = ("original", "swapped")
  perturbations = ()
  plain = biased = "original"
  prompts: Mapping[str, Template] = _PROMPTS

  def __init__(
    self,
    format: str | Mapping[str, str],
    train: str,
    valid: str | None = None,
    test: str | None = None,
    train_size: int | None = None,
    valid_size: int | None = 100,
    test_size: int | None = 200,
    max_answer_chars: int | None = None,
    seed: int = 0,
  ):
    self._sources = {"train": train, "valid": valid, "test": test}
    self._sizes = {
      "train": train_size, "valid": valid_size, "test": test_size,
    }  # fmt: skip
    item_splits.check(self._sources, self._sizes)
    if max_answer_chars is not None and max_answer_chars < 1:
      raise UserError(
        f"task.max_answer_chars={max_answer_chars} must be at least one, or"
        " None"
      )
    self._formats = _formats(format, self._sources)
    self._max_chars = max_answer_chars
    self._seed = seed

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; no question is in two of them."""
    splits = item_splits.read_items(
      {split: FORMATS[name] for split, name in self._formats.items()},
      self._sources,
      self._sizes,
      self._seed,
    )
    names = ("question", "answer_1", "answer_2", "votes")
    return {
      split: [
        Example(
          id=f"{split}/{pair['id']}",
          task=self.name,
          inputs={name: pair[name] for name in names if name in pair},
          label=pair["label"],
        )
        for pair in pairs
      ]
      for split, pairs in splits.items()
    }

  def fields(self, example: Example, variant: str) -> Fields:
    answers = [
      _cut(example.inputs[name], self._max_chars)
      for name in ("answer_1", "answer_2")
    ]
    if variant == "swapped":
      answers.reverse()
    parts = {
      "question": example.inputs["question"],
      "answer_a": answers[0],
      "answer_b": answers[1],
    }
    return parts | {"text": _REQUEST.format(**parts), "format": _FORMAT}

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    """ "1" or "2", whichever the verdict means in the original order, "tie"."""
    found = Verdict()(reply)
    return found and found._replace(text=_MEANINGS[variant][found.text])

  def target(self, example: Example, variant: str, answer: str) -> str:
    shown = {meaning: letter for letter, meaning in _MEANINGS[variant].items()}
    return f"[[{shown[answer]}]]"

  def score(
    self, example: Example, variant: str, answer: str | None
  ) -> dict[str, float]:
    """Agreement with the people's label."""
    if example.label is None:
      return {}
    return {"accuracy": float(answer == example.label)}


def _formats(
  format: str | Mapping[str, str], named: Mapping[str, str | None]
) -> dict[str, str]:
  """The format of each split that has a source of its own."""
  splits = [split for split, source in named.items() if source is not None]
  if not isinstance(format, str):
    missing = [split for split in splits if split not in format]
    if missing:
      raise UserError(
        f"task.format has no {missing[0]!r}, but task.{missing[0]} names a"
        " source; give the format of its rows"
      )
  formats = {
    s: format if isinstance(format, str) else format[s] for s in splits
  }
  for name in formats.values():
    if name not in FORMATS:
      raise UserError(
        f"task.format={name!r} is unknown; there are {', '.join(FORMATS)}"
      )
  return formats


def _cut(text: str, max_chars: int | None) -> str:
  if max_chars is None or len(text) <= max_chars:
    return text
  start = re.match(rf".{{1,{max_chars}}}(?=\s)", text, re.DOTALL)
  return (start.group() if start else text[:max_chars]).rstrip() + " …"
