"""The results as a table on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from etils import epath
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.reporting import (
  comparison,
  study as studies,
  table as tables,
)
from s2d_jax.reporting.comparison import FinishedRun
from s2d_jax.reporting.study import Study


def print_results(
  workdir: epath.PathLike,
  biased: str = "suggests_wrong",
  console: Console | None = None,
) -> None:
  """Prints the table of report/results.json and the conclusions.

  Args:
    workdir: of the run.
    biased: the split whose repeated suggestions are shown.
    console: standard output if None.
  """
  path = epath.Path(workdir) / "report" / "results.json"
  if not path.exists():
    raise UserError(f"{path} does not exist; run the report stage first")
  again = "run the report stage again"
  found = tables.make(records.read_json(path, again, list), biased)
  head, *body = found.lines(is_narrow=True)
  console = console or Console()
  if body:
    rows = enumerate(found.rows)
    distilled = [index for index, row in rows if row.kind.who == "distilled"]
    shown = _table(head, body, distilled)
    shown.columns[0].no_wrap = True  # and so the heads of others are folded
    console.print(shown)
  if found.has_forms:
    forms = "; ".join(
      f"{row.label}: {row.forms}" for row in found.main if row.forms
    )
    console.print(
      Text(f"Answers, % strict / loose / none. {forms}."), end="\n\n"
    )
  verdict = path.parent / "verdict.json"
  if verdict.exists():
    sentences = records.read_json(verdict, again)
    told = [sentences.get(name) for name in ("answer", "harm", "pays", "kept")]
    told.append((sentences.get("gate") or {}).get("sentence"))
    _print_sentences(console, told)


def print_comparison(
  runs: Sequence[FinishedRun], console: Console | None = None
) -> None:
  """Prints runs side by side, and the settings in which they differ.

  Args:
    runs: finished ones.
    console: standard output if None.
  """
  console = console or Console()
  head, *body = comparison.lines(runs)
  console.print(_table(head, body))
  changed = comparison.differences(runs)
  if changed:
    head = ["setting", *(run.name for run in runs)]
    body = [[name, *values] for name, values in changed.items()]
    console.print(_table(head, body))
  else:
    console.print(Text("All settings are the same."), end="\n\n")
  console.print(Text(comparison.sentence(runs)), end="\n\n")


def print_study(found: Study, console: Console | None = None) -> None:
  """Prints the rows of a study, and what its controls show.

  Args:
    found: the study.
    console: standard output if None.
  """
  console = console or Console()
  head, *body = studies.narrow_lines(found)
  own = [index for index, row in enumerate(found.rows) if row is found.run]
  shown = _table(head, body, own)
  for column in shown.columns[:-1]:
    column.no_wrap = True
  console.print(shown)
  _print_sentences(console, [found.answer, found.pays])
  if found.pairs:
    head, *body = studies.narrow_pair_lines(found)
    console.print(_table(head, body))
  notes = [f"{row.label}: {row.note}." for row in found.rows if row.note]
  _print_sentences(console, [*notes, *(row.shows for row in found.rows)])


def print_series(answer: str, *tables: Iterable[Sequence[str]]) -> None:
  """Prints runs that follow from each other, and which of them to use.

  Args:
    answer: that says it.
    *tables: lines of text, the head first.
  """
  console = Console()
  for head, *body in tables:
    console.print(_table(head, body))
  _print_sentences(console, [answer])


def _print_sentences(console: Console, sentences: Sequence[str | None]) -> None:
  """Those that are not empty, each a paragraph."""
  for sentence in filter(None, sentences):
    console.print(Text(sentence), end="\n\n")


def _table(
  head: Sequence[str],
  body: Sequence[Sequence[str]],
  bold: Collection[int] = (),
) -> Table:
  """Of rows of text; `bold` has the numbers of bold ones."""
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
  for index, name in enumerate(head):
    table.add_column(
      Text(name), justify="right" if index else "left", overflow="fold"
    )
  for index, cells in enumerate(body):
    # As Text, so that square brackets are not read as markup.
    table.add_row(*map(Text, cells), style="bold" if index in bold else None)
  return table
