"""The table of results: models and methods by splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from s2d_jax.evaluation.results import ALL
from s2d_jax.records import Record

KINDS = {
  "system1": "System 1",
  "system1_vote": "System 1, vote",
  "single": "System 2, one sample",
  "nested": "System 2, majority of a thought’s answers",
  "vote": "System 2, vote",
  "distilled": "Distilled",
}


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
    loose: read out of a sentence.
    none: none could be read with certainty.
  """

  strict: float
  loose: float
  none: float

  def __str__(self) -> str:
    shares = (self.strict, self.loose, self.none)
    return " / ".join(f"{100 * share:.0f}" for share in shares)


@dataclasses.dataclass(frozen=True)
class Row:
  """One model and method.

  Attributes:
    kind: "system1", "system1_vote", "single", "nested", "vote" or "distilled".
    label: the head of the row.
    accuracy: split → cell; without labels, the share that has an answer.
    repeats: how often the suggestion of the biased split is repeated.
    inconsistent: how often a judge's verdict depends on the order, of the pairs
      with a verdict in both.
    not_compared: how often there is no verdict in one order or both.
    forms: of the answers, over all splits; None for a vote, which has none.
    tokens: mean an answer, over all splits.
  """

  kind: str
  label: str
  accuracy: Mapping[str, Cell]
  repeats: Cell | None
  inconsistent: Cell | None
  not_compared: Cell | None
  forms: Forms | None
  tokens: float


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows from System 1 to the distilled model; splits in their own order."""

  splits: tuple[str, ...]
  biased: str
  rows: tuple[Row, ...]
  is_labelled: bool

  @property
  def has_repeats(self) -> bool:
    return any(row.repeats for row in self.rows)

  @property
  def has_inconsistent(self) -> bool:
    return any(row.inconsistent or row.not_compared for row in self.rows)

  @property
  def has_forms(self) -> bool:
    return any(row.forms for row in self.rows)

  def cell(self, kinds: Sequence[str], split: str) -> Cell | None:
    """Of the first of these kinds that the table has."""
    rows = {row.kind: row for row in self.rows}
    found = (rows[kind].accuracy.get(split) for kind in kinds if kind in rows)
    return next(filter(None, found), None)

  def lines(self, is_narrow: bool = False) -> Iterator[list[str]]:
    """The table as text, the head first, for a page without typography.

    Args:
      is_narrow: leaves out the forms of answers.
    """
    has_forms = self.has_forms and not is_narrow
    repeats = [f"repeats {readable(self.biased)}"] * self.has_repeats
    order = ["inconsistent", "not compared"] * self.has_inconsistent
    share = "% right" if self.is_labelled else "% answered"
    forms = ["strict / loose / none"] * has_forms
    head = [share, *map(readable, self.splits), *repeats, *order, *forms]
    yield [*head, "tokens"]
    for row in self.rows:
      cells = [row.accuracy.get(split) for split in self.splits]
      cells += [row.repeats] * self.has_repeats
      cells += [row.inconsistent, row.not_compared] * self.has_inconsistent
      shares = [f"{c.percent} [{c.interval}]" if c else "" for c in cells]
      shares += [str(row.forms or "")] * has_forms
      yield [row.label, *shares, f"{row.tokens:.1f}"]


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
      kind=_kind(*name),
      label=KINDS[_kind(*name)],
      accuracy={row["split"]: _cell(row) for row in group},
      repeats=repeats.get(name),
      inconsistent=inconsistent.get(name),
      not_compared=not_compared.get(name),
      forms=_forms(results, *name),
      tokens=sum(row["tokens_per_example"] * row["n"] for row in group)
      / sum(row["n"] for row in group),
    )
    for name, group in groups.items()
  ]
  rows.sort(key=lambda row: list(KINDS).index(row.kind))
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
  return KINDS[_kind(model, method)]


def readable(name: str) -> str:
  """The name of a split with spaces for underscores."""
  return name.replace("_", " ")


def _kind(model: str, method: str) -> str:
  if model == "distilled":
    return "distilled"
  if method in KINDS:
    return method
  for kind in ("vote", "nested"):
    if method.endswith(f"_{kind}"):
      return kind
  return "single"


def _cell(row: Record) -> Cell:
  return Cell(
    row["value"], row["ci_low"], row["ci_high"], row["tokens_per_example"]
  )
