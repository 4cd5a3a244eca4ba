"""The table of how far judges agree with people, and people with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from s2d_jax.evaluation.judges import (
  ANSWERED,
  BOTH_ORDERS,
  MAJORITY,
  NO_TIES,
  PEOPLE,
  VOTES,
)
from s2d_jax.evaluation.results import ALL
from s2d_jax.records import Record
from s2d_jax.reporting import table as tables

# Metric → the head of its column.
_COLUMNS = {
  VOTES: "votes",
  VOTES + NO_TIES: "votes, no ties",
  MAJORITY: "majority",
  MAJORITY + NO_TIES: "majority, no ties",
  ANSWERED: "answered",
}
_ORDERS = {ALL: "pooled", BOTH_ORDERS: "in both"}


@dataclasses.dataclass(frozen=True)
class Line:
  """What agrees for one order, or both.

  Attributes:
    label: of the model and method; people are one, too.
    order: of the two answers.
    cells: by metric, where there is one.
  """

  label: str
  order: str
  cells: Mapping[str, tables.Cell]


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Lines by model, method and order; empty but for judges with labels."""

  found: tuple[Line, ...]

  @property
  def columns(self) -> dict[str, str]:
    """Metric → its head, of those that some line has."""
    there = {metric for line in self.found for metric in line.cells}
    return {m: head for m, head in _COLUMNS.items() if m in there}

  def lines(self) -> list[list[str]]:
    """The table as text, the head first."""
    if not self.found:
      return []
    lines = [["% that agree with people", "order", *self.columns.values()]]
    for line in self.found:
      cells = [line.cells.get(metric) for metric in self.columns]
      shares = [f"{c.percent} [{c.interval}]" if c else "" for c in cells]
      lines.append([line.label, line.order, *shares])
    return lines


def agreement(results: Sequence[Record]) -> Agreement:
  """The table of the rows of results.json that say how far judges agree."""
  groups: dict[tuple[str, str, str], dict[str, tables.Cell]] = {}
  for row in results:
    if row["metric"] in _COLUMNS:
      name = row["model"], row["method"], row["split"]
      groups.setdefault(name, {})[row["metric"]] = tables.Cell(
        row["value"], row["ci_low"], row["ci_high"], row["tokens_per_example"]
      )
  return Agreement(
    tuple(
      Line(
        "People" if model == PEOPLE else tables.label(model, method),
        "" if model == PEOPLE else _ORDERS.get(split, tables.readable(split)),
        cells,
      )
      for (model, method, split), cells in groups.items()
      if cells.keys() & {VOTES, MAJORITY}
    )
  )
