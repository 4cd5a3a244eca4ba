"""What somebody asks a run, as examples of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from typing import Any, NamedTuple

from s2d_jax.curation.curate import InputId
from s2d_jax.errors import UserError
from s2d_jax.tasks.task import (
  Example,
  Task,
  inputs_of,
  without_perturbations,
)


class Input(NamedTuple):
  """An example, and the variant in which it is asked."""

  example: Example
  variant: str

  @property
  def id(self) -> InputId:
    """What its samples belong to."""
    return self.example.id, self.variant


class Inputs:
  """Makes examples of texts and of the inputs of a task.

  An input is named by what is asked: the same question has the same samples,
  whatever else is asked with it. One that the run was evaluated on has the
  name, and so the samples, that it had there.

  Args:
    task: of the run.
    evaluated: its test examples.
  """

  def __init__(self, task: Task, evaluated: Sequence[Example]):
    self._task = task
    self._ids = {_name(one.inputs): one.id for one in evaluated}
    self._by_text = {}
    for example in evaluated:
      for variant in without_perturbations(task, example):
        text = task.fields(example, variant)["text"]
        self._by_text.setdefault(text, Input(example, variant))
    self._needed = [
      field
      for field in evaluated[0].inputs
      if all(field in one.inputs for one in evaluated)
    ]

  def read(self, asked: str | Mapping[str, Any], place: str) -> Input:
    """What is asked, as an example.

    Args:
      asked: a text; or a mapping with "text", or with "inputs" as the examples
        of the run have them, and the "variant" unless it is the plain one.
      place: where it stands, for errors.

    Raises:
      UserError: the task cannot be asked so.
    """
    if isinstance(asked, str):
      return self._of_text(asked, place)
    if isinstance(asked, Mapping) and "inputs" in asked:
      return self._of_inputs(asked, place)
    if isinstance(asked, Mapping) and "text" in asked:
      return self._of_text(asked["text"], place)
    raise UserError(
      f"{place} has neither 'text', the question, nor 'inputs', those of an"
      " example"
    )

  def _of_text(self, text: Any, place: str) -> Input:
    if not isinstance(text, str) or not text.strip():
      raise UserError(f"{place} asks nothing: its text is {text!r}")
    known = self._by_text.get(text)
    if known is not None:
      return known
    inputs = inputs_of(self._task, text)
    if inputs is None:
      raise UserError(
        f"{place}: the task {self._task.name} does not know such a question;"
        f" ask as in {next(iter(self._by_text))!r}, or give 'inputs' with"
        f" {', '.join(self._needed)}"
      )
    example = Example(text, self._task.name, inputs)
    return Input(example, self._task.plain)

  def _of_inputs(self, asked: Mapping[str, Any], place: str) -> Input:
    task, inputs = self._task, asked["inputs"]
    wanted = f"those of {task.name} have {', '.join(self._needed)}"
    if not isinstance(inputs, Mapping):
      raise UserError(f"{place}: 'inputs' are no mapping of fields; {wanted}")
    missing = [field for field in self._needed if field not in inputs]
    if missing:
      raise UserError(f"{place}: 'inputs' have no {missing[0]!r}; {wanted}")
    variant = asked.get("variant", task.plain)
    if variant not in task.variants:
      raise UserError(
        f"{place}: {task.name} has no variant {variant!r}; there are"
        f" {', '.join(task.variants)}"
      )
    name = _name(inputs)
    example = Example(self._ids.get(name, name), task.name, inputs)
    try:
      task.fields(example, variant)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
      raise UserError(
        f"{place}: {task.name} cannot be asked with these 'inputs'"
        f" ({type(error).__name__}: {error}); write them as in the examples of"
        " the run"
      ) from None
    return Input(example, variant)


def _name(inputs: Mapping[str, Any]) -> str:
  return json.dumps(inputs, ensure_ascii=False, sort_keys=True)
