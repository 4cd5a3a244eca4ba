"""Tasks whose examples are the rows of a data set."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import random
import re
import string
from typing import Any

from s2d_jax.answers.answer import Answer, AnswerParser
from s2d_jax.answers.scorers import Scorer, exact
from s2d_jax.answers.text import Text
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks import cells, item_splits
from s2d_jax.tasks.cells import Row
from s2d_jax.tasks.item_splits import Item
from s2d_jax.tasks.task import Example

# A row changed in a way that must not change its answer.
Perturb = Callable[[Row, random.Random], Row]

_SPLITS = ("train", "valid", "test")
_INPUTS = ("question", "texts", "parts")


class Questions:
  """A task whose examples are rows, and whose text is a template over them.

  Args:
    name: of the task.
    sources: by split, its source; None is taken from train.
    sizes: by split, how many; None takes all that are left.
    templates: by variant, a template over the columns; "plain" is the first.
    answer: finds the answer in a reply.
    format: how to answer, as the end of the sentence "Answer with …".
    prompts: templates; "system1" at least.
    label: (row) → its right answers; None where it has no label.
    scorer: of an answer, by the labels.
    columns: field → column, where they have different names.
    optional: column that may be blank → the text, with the column in braces,
      that stands for it in a template unless it is.
    perturbations: by variant, a function that changes the row; its text is
      that of "plain".
    parts: templates over the columns: simpler questions, whose answers together
      have the answer. Questions with a part in common are a cluster.
    rule: what makes an answer of theirs; see `decompose.rule`.
    identify: the id of a row; None numbers them.
    streaming: read no more of a source than is needed.
    seed: of the order of rows and of the perturbations.
  """

  plain = biased = "plain"
  perturbations = ()

  def __init__(
    self,
    *,
    name: str,
    sources: Mapping[str, str | None],
    sizes: Mapping[str, int | None],
    templates: Mapping[str, str],
    answer: AnswerParser,
    format: str,
    prompts: Mapping[str, Template],
    label: Callable[[Row], Sequence[str] | None],
    scorer: Scorer = exact,
    columns: Mapping[str, str] | None = None,
    optional: Mapping[str, str] | None = None,
    perturbations: Mapping[str, Perturb] | None = None,
    parts: Sequence[str] = (),
    rule: str = "",
    identify: Callable[[Row], str] | None = None,
    streaming: bool = False,
    seed: int = 0,
  ):
    item_splits.check(sources, sizes)
    self.name = name
    self.variants = (*templates, *(perturbations or {}))
    self.prompts = prompts
    self._sources, self._sizes = sources, sizes
    self._templates = templates
    self.parser = answer
    self._format = format
    self._label = label
    self._scorer = scorer
    self._columns = columns or {}
    self._optional = optional or {}
    self._perturbations = perturbations or {}
    self._parts, self._rule = parts, rule
    self._identify = identify
    self._streaming = streaming
    self._seed = seed

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; no question is in two of them."""
    splits = item_splits.read_items(
      dict.fromkeys(_SPLITS, self._items),
      self._sources,
      self._sizes,
      self._seed,
      self._streaming,
    )
    _check_ids(splits)
    return {
      split: [
        Example(
          id=f"{split}/{item['id']}",
          task=self.name,
          inputs={name: item[name] for name in _INPUTS if name in item},
          label=item["label"],
        )
        for item in items
      ]
      for split, items in splits.items()
    }

  def inputs_of(self, text: str) -> Mapping[str, Any] | None:
    """All that the user says: a template over columns is filled already.

    Where questions have parts, it must be worded as the task words it.
    """
    inputs = {"question": text, "texts": {self.plain: text}}
    if not self._parts:
      return inputs
    # Where a column may be blank it is not known what of a text is whose.
    row = {} if self._optional else _columns(self._templates[self.plain], text)
    names = {name for part in self._parts for name in placeholders(part)}
    if not row.keys() >= names:
      return None
    parts = [_filled(part, row.__getitem__) for part in self._parts]
    return inputs | {"parts": {self.plain: parts}}

  def source_place(self, example: Example) -> int | None:
    """The row's number; not known where rows have names instead."""
    if self._identify is not None:
      return None
    return int(example.id.rpartition("/")[2])

  def fields(self, example: Example, variant: str) -> Fields:
    fields = {"text": example.inputs["texts"][variant], "format": self._format}
    if parts := example.inputs.get("parts"):
      fields["parts"] = "\n".join(parts.get(variant, parts[self.plain]))
      fields["rule"] = self._rule
    return fields

  def cluster(self, example: Example) -> tuple[str, ...] | None:
    """Its parts: whoever errs about one errs in all questions that have it."""
    parts = example.inputs.get("parts")
    return parts and tuple(parts[self.plain])

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    return self.parser(reply, example.inputs["texts"][variant])

  def target(self, example: Example, variant: str, answer: str) -> str | None:
    """The answer itself; free text is said in the model's own words."""
    return None if isinstance(self.parser, Text) else answer

  def score(
    self, example: Example, variant: str, answer: str | None
  ) -> dict[str, float]:
    if example.label is None:
      return {}
    labels = example.label
    labels = [labels] if isinstance(labels, str) else labels
    right = 0.0 if answer is None else self._scorer(answer, labels)
    return {"accuracy": right}

  def _items(self, source: str, rows: Iterable[Row]) -> Iterator[Item]:
    renamed = (self._renamed(source, row) for row in rows)
    columns = dict.fromkeys(
      name
      for template in (*self._templates.values(), *self._parts)
      for name in placeholders(template)
      if name not in self._optional
    )
    for number, row in enumerate(cells.filled(source, renamed, columns)):
      texts = {
        variant: self._fill(source, template, row)
        for variant, template in self._templates.items()
      }
      parts = {self.plain: self._parts_of(source, row)}
      for variant, perturb in self._perturbations.items():
        draw = random.Random(f"{self._seed}/{number}/{variant}")
        changed = _changed(perturb(dict(row), draw), row.place)
        plain = self._templates["plain"]
        texts[variant] = self._fill(source, plain, changed)
        parts[variant] = self._parts_of(source, changed)
      labels = self._label(row)
      if labels is not None and len(labels) == 1:
        labels = labels[0]
      yield {
        "id": number if self._identify is None else self._identify(row),
        "question": texts["plain"],
        "texts": texts,
        **({"parts": parts} if self._parts else {}),
        "label": labels,
      }

  def _parts_of(self, source: str, row: Row) -> list[str]:
    """Each on one line."""
    filled = (self._fill(source, part, row) for part in self._parts)
    return [" ".join(part.split()) for part in filled]

  def _fill(self, source: str, template: str, row: Row) -> str:
    cells.need_columns(source, row, placeholders(template))
    cell = functools.partial(cells.text, row)

    def said(name: str) -> str:
      if name not in self._optional:
        return cell(name)
      is_blank = cells.is_blank(row[name])
      return "" if is_blank else _filled(self._optional[name], cell)

    return _filled(template, said)

  def _renamed(self, source: str, row: Row) -> Row:
    cells.need_columns(source, row, self._columns.values())
    new = {field: row[column] for field, column in self._columns.items()}
    return Row(row | new, row.place)


def _check_ids(splits: Mapping[str, Sequence[Item]]) -> None:
  for split, items in splits.items():
    ids = collections.Counter(str(item["id"]) for item in items)
    name, times = ids.most_common(1)[0]
    if times > 1:
      raise UserError(
        f"task.id: {times} rows of the {split} split are called {name!r}; name"
        " a column without repetitions, or none to number the rows"
      )


def placeholders(template: str) -> list[str]:
  """Names in braces."""
  parsed = string.Formatter().parse(template)
  return [name for _, name, _, _ in parsed if name is not None]


def _changed(row: Any, place: str) -> Row:
  if not isinstance(row, Mapping):
    raise UserError(
      f"a perturbation gave {type(row).__name__}, not a row; it is called with"
      " (row, random) and returns the changed row"
    )
  return Row(row, f"the perturbation of {place}")


def _columns(template: str, text: str) -> dict[str, str]:
  """The columns that make this text of the template; none if none do."""
  names, pattern = [], ""
  for literal, name, _, _ in string.Formatter().parse(template):
    pattern += re.escape(literal)
    if name in names:
      pattern += rf"\{names.index(name) + 1}"
    elif name is not None:
      names.append(name)
      pattern += "(.+?)"
  found = re.fullmatch(pattern, text.strip(), re.DOTALL)
  return dict(zip(names, found.groups(), strict=True)) if found else {}


def _filled(template: str, said: Callable[[str], str]) -> str:
  # A name is taken as it stands: "q.text" and "0" are columns, no attributes.
  return "".join(
    literal + ("" if name is None else said(name))
    for literal, name, _, _ in string.Formatter().parse(template)
  )
