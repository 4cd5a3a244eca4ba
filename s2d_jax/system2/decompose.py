"""Decomposition: simpler questions first, then one answer out of theirs.

Questions are decomposed as in Decomposed Prompting (Khot et al. 2023) and
Self-Ask (Press et al. 2023). Split: the task names the parts of a question, or
the model lists simpler questions. Solve: each part is asked by itself, all at
once, and the majority of its replies counts. Merge: a rule compares the
answers, or the model reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
import functools
import operator
import re
from typing import NamedTuple

from s2d_jax.answers import reply as replies
from s2d_jax.answers.number import Number
from s2d_jax.answers.numerals import canonical
from s2d_jax.errors import UserError
from s2d_jax.functions import function
from s2d_jax.generation.engine import Completion
from s2d_jax.system2.program import Fields, ModelCall, Prompts, Steps, Template

_MOST_PARTS = 4

_SPLIT = (
  "{text}\n\nWhich simpler questions have to be answered first? List up to"
  " four, one a line. Each must be clear without the others. Do not answer"
  " them."
)

# Worked examples: small models keep to a form only when they are shown it.
_SPLIT_SHOTS = (
  (
    "Is the Nile longer than the Rhine?",
    "How long is the Nile?\nHow long is the Rhine?",
  ),
  (
    "In which language did the author of Faust write?",
    "Who wrote Faust?\nIn which language did the author of Faust write?",
  ),
)

PROMPTS = {
  "split": Template(
    _SPLIT,
    shots=tuple(
      (_SPLIT.format(text=text), listed) for text, listed in _SPLIT_SHOTS
    ),
    max_new_tokens=96,
  ),
  "part": Template(
    "{part}\nAnswer with one short sentence.", max_new_tokens=48, stop=("\n",)
  ),
  "merge": Template(
    "{text}\n\nThis is known:\n{answers}\n\nAnswer the question with {format}.",
    max_new_tokens=64,
  ),
}


# What a rule compares are words: "It is Asia." is not "Asia".
SHORT_PART = Template(
  "{part}\nAnswer with a name or a number only.",
  max_new_tokens=16,
  stop=("\n",),
)


# What it makes of the answers to the parts; an empty text is no answer.
Rule = Callable[[Sequence[str]], str]


class PartAnswer(NamedTuple):
  """What was asked, and what most replies say."""

  part: str
  text: str


def by_rule(fields: Fields, prompts: Prompts) -> Steps:
  """Merges by the task's rule; no answer if a part has none."""
  answers = yield from _solve(fields["parts"].splitlines(), fields, prompts)
  said = [replies.bare(answer.text) for answer in answers]
  return rule(fields["rule"])(said) if all(said) else ""


def by_model(fields: Fields, prompts: Prompts) -> Steps:
  """Merges by a model call that reads the parts and their answers."""
  if "parts" in fields:
    parts = fields["parts"].splitlines()
  else:
    listed = yield prompts["split"].ask(**fields)
    parts = questions(listed.text) or [fields["text"]]
  answers = yield from _solve(parts, fields, prompts)
  known = "\n".join(f"{answer.part} {answer.text}" for answer in answers)
  return (yield prompts["merge"].ask(**fields, answers=known))


def same(answers: Sequence[str]) -> str:
  """Whether all answers are the same: "yes" or "no"."""
  return "yes" if len(set(answers)) == 1 else "no"


def _leads(
  is_before: Callable[[Fraction, Fraction], bool], numbers: Sequence[Fraction]
) -> str:
  first, *others = numbers
  return "yes" if all(is_before(first, one) for one in others) else "no"


def _sum(numbers: Sequence[Fraction]) -> str:
  return canonical(sum(numbers))


def _of_numbers(merge: Callable[[Sequence[Fraction]], str]) -> Rule:
  """A rule of the numbers in the answers; no answer if one has none."""

  def merged(answers: Sequence[str]) -> str:
    found = [Number()(answer) for answer in answers]
    if None in found:
      return ""
    return merge([Fraction(one.text) for one in found])

  return merged


# What a task may name as its rule.
RULES: dict[str, Rule] = {
  "same": same,
  "larger": _of_numbers(functools.partial(_leads, operator.gt)),
  "smaller": _of_numbers(functools.partial(_leads, operator.lt)),
  "sum": _of_numbers(_sum),
}


def rule(name: str) -> Rule:
  """The rule of this name, or the function that `my_module:merge` names.

  Raises:
    UserError: there is none.
  """
  if not isinstance(name, str) or not (name in RULES or ":" in name):
    raise UserError(
      f"task.rule={name!r} must be one of {', '.join(RULES)}, or a function of"
      " the list of answers, as my_module:merge"
    )
  return RULES[name] if name in RULES else _of_a_user(name)


@functools.cache  # it is asked for once a sample
def _of_a_user(name: str) -> Rule:
  merge = function(name)

  def merged(answers: Sequence[str]) -> str:
    text = merge(answers)
    if not isinstance(text, str):
      raise UserError(
        f"task.rule: {name} gave {type(text).__name__}; it must return a text,"
        " an empty one for no answer"
      )
    return text

  return merged


def _solve(
  parts: Sequence[str], fields: Fields, prompts: Prompts
) -> Generator[list[ModelCall], object, list[PartAnswer]]:
  replied = yield [
    prompts["part"].ask(**fields | {"part": part}) for part in parts
  ]
  return [
    PartAnswer(part, _majority(one if isinstance(one, list) else [one]))
    for part, one in zip(parts, replied, strict=True)
  ]


def _majority(completions: Sequence[Completion]) -> str:
  """The first reply that says what most say."""
  texts = [" ".join(completion.text.split()) for completion in completions]
  return texts[replies.most_frequent(texts)]


# The number or bullet of a list's item, or a label.
_ITEM = re.compile(
  r"^\W*(?:\(?\d{1,2}[.):]+|question(?:[^\S\n]+\d{1,2})?:)?\W*", re.IGNORECASE
)


def questions(text: str) -> list[str]:
  """Up to four different questions: lines that end with a question mark."""
  lines = (line.strip(" \t*_") for line in text.splitlines())
  asked = (_ITEM.sub("", line) for line in lines if line.endswith("?"))
  return list(dict.fromkeys(filter(None, asked)))[:_MOST_PARTS]
