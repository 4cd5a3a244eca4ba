"""The interface of a task, and its examples."""

from __future__ import annotations

import array
from collections.abc import Collection, Iterator, Mapping
import dataclasses
from typing import Any, Protocol

import numpy as np

from s2d_jax import records
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.choice import Choice
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template

_NEEDED = {"id", "task", "inputs"}  # fields of an example


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
  """One input. `label` is for evaluation: curation never sees it.

  `variants` are those in which it is asked; None: all of its task.
  """

  id: str
  task: str
  inputs: Mapping[str, Any]
  label: Any = None
  variants: tuple[str, ...] | None = None

  def to_record(self) -> records.Record:
    names = (field.name for field in dataclasses.fields(self))
    record = {name: getattr(self, name) for name in names}
    if self.variants is None:
      del record["variants"]
    return record


_KNOWN = {field.name for field in dataclasses.fields(Example)}


class Task(Protocol):
  """A kind of input: its prompts, how answers are parsed, how they score.

  An example may have several variants, which must not change its answer.
  Nothing but `score` and `examples` may read a label.

  Attributes:
    name: of the task.
    variants: in which an example may be asked (see `asked`); results are
      reported for each that is no perturbation.
    perturbations: variants that only test whether an answer stands: they are
      sampled beside the others of a training example, and neither taught nor
      evaluated.
    plain: the neutral variant.
    biased: the one meant to lead astray, for the headline of the report; the
      plain one where there is none.
    prompts: the template "system1", and the task's own versions of templates of
      methods. Where System 2 has worked examples, "system1_shots" is System 1's
      behind the same questions, with direct answers.
  """

  name: str
  variants: tuple[str, ...]
  perturbations: tuple[str, ...]
  plain: str
  biased: str
  prompts: Mapping[str, Template]

  def examples(self) -> dict[str, list[Example]]:
    """The examples of the splits train, valid and test."""

  def fields(self, example: Example, variant: str) -> Fields:
    """Values of the placeholders of prompts: "text", the question, and parts.

    "format" says how to answer, as the end of the sentence "Answer with …".
    """

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    """The answer in a reply, None where none can be read.

    The same for every variant: "the first of the two as shown" is mapped to an
    answer that does not depend on the order in which they were shown.
    """

  def target(self, example: Example, variant: str, answer: str) -> str | None:
    """The answer as it is written; None where there is no one way to write it.

    It is what is taught, unless the config wants the model's own words.
    """

  def score(
    self, example: Example, variant: str, answer: str | None
  ) -> dict[str, float]:
    """Metrics of one answer, each 0 to 1; empty where there is no label.

    `answer` is the text of an `Answer`.
    """


def cluster_of(task: Task, example: Example) -> str | tuple[str, ...] | None:
  """What the example has in common with others, such as its country.

  Of the task's own `cluster(example)`, where it has that: examples of a cluster
  are right or wrong together, so intervals are those of whole clusters. Several
  names, where it shares something with others through each: both countries of a
  pair. None: the example stands alone.
  """
  cluster = getattr(task, "cluster", None)
  return cluster and cluster(example)


def sentence_of(task: Task, example: Example, answer: str) -> str | None:
  """A short sentence with an answer, as a model would write it.

  Of the task's own `sentence(example, answer)`, where it has that: taught where
  there is no one way to write an answer, and no reply of the model has it.
  """
  sentence = getattr(task, "sentence", None)
  return sentence and sentence(example, answer)


def inputs_of(task: Task, text: str) -> Mapping[str, Any] | None:
  """The inputs of a question of one's own, for the plain variant.

  Of the task's own `inputs_of(text)`, where it has that. None: an answer to
  this text could not be read, or asking needs more than a text.
  """
  own = getattr(task, "inputs_of", None)
  return own and own(text)


def chance_of(task: Task) -> float | None:
  """How often a guess is right, where answers are one of a few options.

  Of the task's own `parser`, where it has that and it is a choice.
  """
  parser = getattr(task, "parser", None)
  return 1 / len(parser.options) if isinstance(parser, Choice) else None


def source_place(task: Task, example: Example) -> int | None:
  """Its row in the data set that it is from; None where that is not known.

  Of the task's own `source_place(example)`, where it has that. A model that has
  read a public data set has read its rows in this order.
  """
  place = getattr(task, "source_place", None)
  return place and place(example)


def asked(task: Task, example: Example) -> tuple[str, ...]:
  """The variants in which an example is asked, its perturbations included."""
  if example.variants is None:
    return task.variants
  unknown = sorted(set(example.variants) - set(task.variants))
  if unknown:
    raise UserError(
      f"the example {example.id!r} is to be asked in the variant"
      f" {unknown[0]!r}, but {task.name} has {', '.join(task.variants)}; use"
      " another --workdir to have the examples made"
    )
  return example.variants


def without_perturbations(task: Task, example: Example) -> tuple[str, ...]:
  """The variants in which an example is taught and evaluated."""
  return tuple(v for v in asked(task, example) if v not in task.perturbations)


def in_variants(counts: Collection[int]) -> str:
  """For instance " in 4 variants each", to stand behind other words."""
  fewest, most = min(counts), max(counts)
  if most == 1:
    return ""
  span = f"{most}" if fewest == most else f"{fewest} to {most}"
  return f" in {span} variants each"


def read_examples(path) -> list[Example]:
  """Reads a file of examples; names the line that is not one."""
  return list(iterate_examples(path))


def iterate_examples(path) -> Iterator[Example]:
  """Yields the examples of a file; names the line that is not one.

  Behind the last one it raises where two have the same id.
  """
  hashes = array.array("q")  # of ids: a set of these would be ten times more
  for _, example in located_examples(path):
    hashes.append(hash(example.id))
    yield example
  if len(np.unique(np.frombuffer(hashes, np.int64))) < len(hashes):
    _check_ids(path)


def located_examples(path) -> Iterator[tuple[int, Example]]:
  """Yields them with the bytes at which they begin, whatever their ids are."""
  number = 0
  for number, (start, record) in enumerate(records.located(path), start=1):
    yield start, example_of(record, path, number)
  if not number:
    raise UserError(
      f"{path} has no examples; use another --workdir to have them made"
    )


def example_of(record: records.Record, path, number: int) -> Example:
  """The example that the record of such a number in a file is."""
  if not record.keys() >= _NEEDED:
    raise UserError(
      f"{path}, record {number} has no {min(_NEEDED - record.keys())!r}; an"
      " example needs id, task and inputs"
    )
  if not record.keys() <= _KNOWN:
    record = {k: v for k, v in record.items() if k in _KNOWN}
  example = Example(**record)
  if example.variants is None:
    return example
  variants = _names(example.variants, f"{path}, record {number}")
  return dataclasses.replace(example, variants=variants)


def _check_ids(path) -> None:
  """Raises UserError for the first two examples of one id."""
  first: dict[str, int] = {}
  for number, (_, example) in enumerate(located_examples(path), start=1):
    before = first.setdefault(example.id, number)
    if before != number:
      raise UserError(
        f"{path}, records {before} and {number} have the same id"
        f" {example.id!r}; ids must be unique"
      )


def _names(variants: Any, place: str) -> tuple[str, ...]:
  is_list = isinstance(variants, list) and variants
  if not is_list or not all(isinstance(name, str) for name in variants):
    raise UserError(
      f"{place} has 'variants' that are no list of names; leave them out to"
      " have the example asked in every variant"
    )
  return tuple(variants)
