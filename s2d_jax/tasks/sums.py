"""Sums of whole numbers: "347 + 285" → "632".

The worked examples of a chain of thought add column by column, as on paper:
each step is a sum of two digits and what is carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import random

from s2d_jax.answers.number import Number
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks.exact_match import ExactMatch, split_sizes
from s2d_jax.tasks.task import Example

_MOST_DIGITS = 18
_SHOTS = 4  # worked examples; they are never asked about
_FORMAT = "a number"


class Sums(ExactMatch):
  """Asks for the sum of two numbers of so many digits.

  No two numbers are added twice, in either order.

  Args:
    digits: of each number.
    train: examples to learn from.
    valid: examples held out to choose the checkpoint.
    test: examples held out for the report.
    seed: of the numbers.
  """

  name = "sums"
  variants = ("plain",)
  perturbations = ()
  plain = biased = "plain"
  parser = Number()

  def __init__(
    self,
    digits: int = 3,
    train: int = 1000,
    valid: int = 200,
    test: int = 200,
    seed: int = 0,
  ):
    if not 1 <= digits <= _MOST_DIGITS:
      raise UserError(f"task.digits={digits} must be from 1 to {_MOST_DIGITS}")
    self._sizes = split_sizes(train, valid, test)
    numbers = len(_numbers(digits))
    # Half of all pairs, so that one that is new is soon drawn.
    most = (numbers * (numbers + 1) // 2 - _SHOTS) // 2
    if train + valid + test > most:
      raise UserError(
        f"task.train={train}, task.valid={valid} and task.test={test} are more"
        f" than the {most} examples there are with task.digits={digits}; ask"
        " for fewer, or for more digits"
      )
    self._digits = digits
    self._seed = seed

  @property
  def prompts(self) -> Mapping[str, Template]:
    return _prompts(self._digits)

  def examples(self) -> dict[str, list[Example]]:
    drawn = _pairs(self._digits, f"{self._seed}/sums", _shots(self._digits))
    return {
      split: [self._example(*next(drawn)) for _ in range(size)]
      for split, size in self._sizes.items()
    }

  def fields(self, example: Example, variant: str) -> Fields:
    return {"text": _text(*example.inputs["numbers"]), "format": _FORMAT}

  def _example(self, one: int, other: int) -> Example:
    return Example(
      id=f"{one}+{other}",
      task=self.name,
      inputs={"numbers": [one, other]},
      label=str(one + other),
    )


def _numbers(digits: int) -> range:
  """Those of so many digits, none of which leads with a zero."""
  return range(10 ** (digits - 1), 10**digits)


def _pairs(
  digits: int, seed: str, taken: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[int, int]]:
  """Two numbers at a time, never the same two."""
  rng = random.Random(seed)
  seen = {frozenset(pair) for pair in taken}
  while True:
    pair = rng.choice(_numbers(digits)), rng.choice(_numbers(digits))
    if frozenset(pair) not in seen:
      seen.add(frozenset(pair))
      yield pair


@functools.cache
def _shots(digits: int) -> tuple[tuple[int, int], ...]:
  drawn = _pairs(digits, "worked examples")
  return tuple(next(drawn) for _ in range(_SHOTS))


def _text(one: int, other: int) -> str:
  return f"What is {one} + {other}?"


def _by_columns(one: int, other: int) -> str:
  """From the right ("7 + 5 = 12, write 2, carry 1."), then the answer."""
  steps, carried = [], 0
  for a, b in zip(str(one)[::-1], str(other)[::-1], strict=True):
    added = f"{a} + {b} + {carried}" if carried else f"{a} + {b}"
    carried, written = divmod(int(a) + int(b) + carried, 10)
    carry = f", carry {carried}" if carried else ""
    steps.append(f"{added} = {10 * carried + written}, write {written}{carry}.")
  return f"{' '.join(steps)}\nAnswer: {one + other}"


_SYSTEM1 = "{text}\nAnswer with {format} only."
_STEPS = (
  "{text}\nAdd column by column, from the right, then end with a line that"
  ' starts with "Answer:" and has only {format}.'
)


@functools.cache
def _prompts(digits: int) -> dict[str, Template]:
  shots = _shots(digits)

  def worked(
    user: str, reply: Callable[[int, int], str]
  ) -> tuple[tuple[str, str], ...]:
    return tuple(
      (user.format(text=_text(*pair), format=_FORMAT), reply(*pair))
      for pair in shots
    )

  direct = Template(_SYSTEM1, max_new_tokens=digits + 16, stop=("\n",))
  return {
    "system1": direct,
    "system1_shots": dataclasses.replace(
      direct, shots=worked(_SYSTEM1, lambda one, other: str(one + other))
    ),
    "cot_few_shot": Template(
      _STEPS,
      shots=worked(_STEPS, _by_columns),
      max_new_tokens=32 * digits + 32,
      stop=("\n\n",),
    ),
  }
