"""The table of results: who is asked and how a reply is drawn, by splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Literal, NamedTuple

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way
from s2d_jax.evaluation.results import ALL
from s2d_jax.records import Record

# Who is asked, and how a reply is drawn.
WHO = {
  SYSTEM1: "System 1",
  SHOTS: "System 1 few-shot",
  "system2": "System 2",
  "distilled": "Distilled",
  "gated": "Gated",
}
# What a gate lets stand: a direct answer, or System 2's vote.
Gated = Literal["gate"]
DRAWN: dict[Drawn | Gated, str] = {
  "greedy": "greedy",
  "sample": "one sample",
  "nested": "majority of a thought’s answers",
  "vote": "vote",
  "gate": "direct or vote",
}
# The same where there is little space.
_SHORT_WHO = WHO | {SHOTS: "Few-shot"}
_SHORT_DRAWN = DRAWN | {
  "sample": "sample",
  "nested": "nested",
  "gate": "mixed",
}


class Kind(NamedTuple):
  """Of a row: who is asked, and how a reply is drawn."""

  who: str
  drawn: Drawn | Gated


# What stands for each in a comparison of three: the first kind there is.
DIRECT = (Kind(SYSTEM1, "greedy"), Kind(SYSTEM1, "sample"))
TEACHER = (
  Kind("system2", "vote"),
  Kind("system2", "sample"),
  Kind(SYSTEM1, "vote"),
)
STUDENT = (Kind("distilled", "greedy"), Kind("distilled", "sample"))


@dataclasses.dataclass(frozen=True)
class Cell:
  """A share with its 95 % interval; tokens are a mean an answer."""

  value: float
  low: float
  high: float
  tokens: float

  @property
  def percent(self) -> str:
    return f"{100 * self.value:.1f}"

  @property
  def interval(self) -> str:
    return f"{100 * self.low:.0f}–{100 * self.high:.0f}"


@dataclasses.dataclass(frozen=True)
class Forms:
  """How answers stood in the replies; shares of all replies.

  Attributes:
    strict: the answer alone, or marked as the prompt asked.
    loose: read out of a sentence, surely enough to vote or not.
    none: none could be read.
  """

  strict: float
  loose: float
  none: float

  def __str__(self) -> str:
    shares = (self.strict, self.loose, self.none)
    return " / ".join(f"{100 * share:.0f}" for share in shares)


@dataclasses.dataclass(frozen=True)
class Row:
  """One model, how it is asked, and how a reply is drawn.

  Attributes:
    kind: who is asked, and how.
    accuracy: split → cell; without labels, the share that has an answer.
    repeats: how often the suggestion of the biased split is repeated.
    inconsistent: how often a judge's verdict depends on the order, of the pairs
      with a verdict in both.
    not_compared: how often there is no verdict in one order or both.
    forms: of the answers, over all splits; None for a vote, which has none.
    tokens: generated, mean an answer, over all splits.
    prompt_tokens: read in prompts, likewise; None where it is not known.
  """

  kind: Kind
  accuracy: Mapping[str, Cell]
  repeats: Cell | None
  inconsistent: Cell | None
  not_compared: Cell | None
  forms: Forms | None
  tokens: float
  prompt_tokens: float | None

  @property
  def label(self) -> str:
    """The head of the row."""
    return f"{WHO[self.kind.who]}, {DRAWN[self.kind.drawn]}"

  @property
  def short_label(self) -> str:
    return f"{_SHORT_WHO[self.kind.who]}, {_SHORT_DRAWN[self.kind.drawn]}"

  def figures(self, splits: Sequence[str]) -> list[str]:
    """Its shares of these splits with their intervals, and tokens, as text."""
    cells = [self.accuracy.get(split) for split in splits]
    shares = [f"{c.percent} [{c.interval}]" if c else "–" for c in cells]
    return [*shares, f"{self.tokens:.1f}"]

  @property
  def with_prompts(self) -> float | None:
    """Tokens of an answer and of all prompts that it takes."""
    read = self.prompt_tokens
    return None if read is None else self.tokens + read


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows from System 1 to the gated model; splits in their own order."""

  splits: tuple[str, ...]
  biased: str
  rows: tuple[Row, ...]
  is_labelled: bool

  @property
  def main(self) -> tuple[Row, ...]:
    """For a picture of few rows: a greedy answer of each, System 2's vote.

    What a gate lets stand is one more. A single sample stands for the greedy
    one where there is none.
    """
    kinds = {row.kind for row in self.rows}
    return tuple(
      row
      for row in self.rows
      if row.kind.drawn in ("greedy", "gate")
      or row.kind == ("system2", "vote")
      or (row.kind.drawn == "sample" and (row.kind.who, "greedy") not in kinds)
    )

  @property
  def has_shots(self) -> bool:
    return any(row.kind.who == SHOTS for row in self.rows)

  @property
  def has_prompt_tokens(self) -> bool:
    return any(row.prompt_tokens is not None for row in self.rows)

  @property
  def has_repeats(self) -> bool:
    return any(row.repeats for row in self.rows)

  @property
  def has_inconsistent(self) -> bool:
    return any(row.inconsistent or row.not_compared for row in self.rows)

  @property
  def has_forms(self) -> bool:
    return any(row.forms for row in self.rows)

  def cell(self, kinds: Sequence[Kind], split: str) -> Cell | None:
    """Of the first of these kinds that the table has."""
    rows = {row.kind: row for row in self.rows}
    found = (rows[kind].accuracy.get(split) for kind in kinds if kind in rows)
    return next(filter(None, found), None)

  def row(self, kinds: Sequence[Kind]) -> Row | None:
    """The first of these kinds that the table has."""
    rows = {row.kind: row for row in self.rows}
    return next((rows[kind] for kind in kinds if kind in rows), None)

  @property
  def biased_first(self) -> list[str]:
    """The splits, the one that the report is about before the others."""
    return sorted(self.splits, key=lambda split: split != self.biased)

  @property
  def of_base(self) -> list[Row]:
    """What stands for System 1 and System 2 in a comparison of three."""
    return list(filter(None, map(self.row, (DIRECT, TEACHER))))

  def head(self, splits: Sequence[str]) -> list[str]:
    """Of `Row.figures`, and what the shares are of."""
    share = "% right" if self.is_labelled else "% answered"
    return [share, *map(readable, splits), "tokens"]

  def lines(self, is_narrow: bool = False) -> Iterator[list[str]]:
    """The table as text, the head first, for a page without typography.

    Args:
      is_narrow: leaves out the forms of answers and the tokens of prompts.
    """
    has_prompts = self.has_prompt_tokens and not is_narrow
    has_forms = self.has_forms and not is_narrow
    repeats = [f"repeats {readable(self.biased)}"] * self.has_repeats
    order = ["inconsistent", "not compared"] * self.has_inconsistent
    forms = ["strict / loose / none"] * has_forms
    *shares, tokens = self.head(self.splits)
    yield [*shares, *repeats, *order, *forms, tokens,
           *["with prompts"] * has_prompts]  # fmt: skip
    for row in self.rows:
      cells = [row.accuracy.get(split) for split in self.splits]
      cells += [row.repeats] * self.has_repeats
      cells += [row.inconsistent, row.not_compared] * self.has_inconsistent
      shares = [f"{c.percent} [{c.interval}]" if c else "" for c in cells]
      shares += [str(row.forms or "")] * has_forms
      read = "" if row.with_prompts is None else f"{row.with_prompts:,.0f}"
      label = row.short_label if is_narrow else row.label
      yield [label, *shares, f"{row.tokens:.1f}", *[read] * has_prompts]


def make(results: Sequence[Record], biased: str) -> Table:
  """The table of the rows of results.json.

  Args:
    results: rows of results.json.
    biased: the split whose repeated suggestions are shown.
  """
  is_labelled = any(row["metric"] == "accuracy" for row in results)
  shares = [
    row
    for row in results
    if row["metric"] == ("accuracy" if is_labelled else "answered")
  ]
  repeats = _by_method(results, "repeats_suggestion", biased)
  judged = [row for row in results if row["task"] == "judge"]
  inconsistent = _by_method(judged, "inconsistent", ALL)
  not_compared = _by_method(judged, "not_compared", ALL)
  groups: dict[tuple[str, str], list[Record]] = {}
  for row in shares:
    groups.setdefault((row["model"], row["method"]), []).append(row)
  rows = [
    Row(
      kind=kind_of(*name),
      accuracy={row["split"]: _cell(row) for row in group},
      repeats=repeats.get(name),
      inconsistent=inconsistent.get(name),
      not_compared=not_compared.get(name),
      forms=_forms(results, *name),
      tokens=_mean(group, "tokens_per_example"),
      prompt_tokens=_mean(group, "prompt_tokens_per_example"),
    )
    for name, group in groups.items()
  ]
  who, drawn = list(WHO), list(DRAWN)
  rows.sort(
    key=lambda row: (who.index(row.kind.who), drawn.index(row.kind.drawn))
  )
  splits = tuple(dict.fromkeys(row["split"] for row in shares))
  return Table(splits, biased, tuple(rows), is_labelled)


def _forms(results: Sequence[Record], model: str, method: str) -> Forms | None:
  """Shares over all splits, as each has its number of replies."""
  of_metric: dict[str, list[Record]] = {"strict": [], "answered": []}
  for row in results:
    if (row["model"], row["method"]) == (model, method):
      of_metric.get(row["metric"], []).append(row)
  if not of_metric["strict"]:
    return None
  strict, answered = (
    sum(row["value"] * row["n"] for row in rows) / sum(row["n"] for row in rows)
    for rows in of_metric.values()
  )
  return Forms(strict, answered - strict, 1 - answered)


def _mean(group: Sequence[Record], name: str) -> float | None:
  """Over the answers of all splits; None where it is not known."""
  if any(row.get(name) is None for row in group):
    return None
  total = sum(row["n"] for row in group)
  return sum(row[name] * row["n"] for row in group) / total


def _by_method(
  results: Sequence[Record], metric: str, split: str
) -> dict[tuple[str, str], Cell]:
  return {
    (row["model"], row["method"]): _cell(row)
    for row in results
    if (row["metric"], row["split"]) == (metric, split)
  }


def label(model: str, method: str) -> str:
  """The head of the row of a model and method."""
  who, drawn = kind_of(model, method)
  return f"{WHO[who]}, {DRAWN[drawn]}"


def readable(name: str) -> str:
  """The name of a split with spaces for underscores."""
  return name.replace("_", " ")


def kind_of(model: str, name: str) -> Kind:
  """Of the rows of a model and a method in results.json."""
  if model == "gated":
    return Kind("gated", "gate")
  method, drawn = Way.of(name)
  if model == "distilled":
    return Kind("distilled", drawn)
  return Kind(method if method in WHO else "system2", drawn)


def _cell(row: Record) -> Cell:
  return Cell(
    row["value"], row["ci_low"], row["ci_high"], row["tokens_per_example"]
  )
