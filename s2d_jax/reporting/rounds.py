"""The page of the rounds of a run: side by side, and which of them to use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
from typing import Any

from etils import epath

from s2d_jax import records
from s2d_jax.evaluation.paired import Comparison, compare
from s2d_jax.evaluation.signs import Sign, Signs, stopping_sign
from s2d_jax.reporting import comparison, page, run_files
from s2d_jax.reporting.comparison import FinishedRun
from s2d_jax.reporting.sentences import percent
from s2d_jax.reporting.study import difference, kept_and_right, markdown_table
from s2d_jax.reporting.ways import direct_scores

_NONE = "–"


def folder_of(workdir: epath.Path, number: int) -> epath.Path:
  """The workdir of a round."""
  return workdir / "rounds" / str(number)


@dataclasses.dataclass(frozen=True)
class Row:
  """A finished round.

  Attributes:
    run: what its own report says.
    signs: of it.
    right: share of what is taught that is right, where labels are texts.
    over_first: right answers of its model to test inputs, in all forms, against
      those of the first round's, in pairs; None for the first, or without
      labels.
  """

  run: FinishedRun
  signs: Signs
  right: float | None
  over_first: Comparison | None = None


@dataclasses.dataclass(frozen=True)
class Rounds:
  """The rounds of a run, from the first on.

  Attributes:
    rows: those that are finished.
    is_unfinished: whether the next one has begun and has not ended, or had too
      little to learn from.
  """

  rows: Sequence[Row]
  is_unfinished: bool

  @property
  def stopped(self) -> tuple[int, Sign] | None:
    """The first round with a bad sign, and the sign."""
    return stopping_sign([row.signs for row in self.rows])

  @property
  def good(self) -> int:
    """The last round before a sign was bad."""
    return self.stopped[0] - 1 if self.stopped else len(self.rows)

  @property
  def use(self) -> int:
    """The last of the good ones that is clearly better than the first.

    Signs say what is bad; that a round is good they cannot say.
    """
    better = [
      row.signs.number
      for row in self.rows[: self.good]
      if row.over_first is not None and row.over_first.outcome == "better"
    ]
    return max(better, default=1)

  @property
  def answer(self) -> str:
    """Which round to use, and why, in sentences."""
    count, use = len(self.rows), f"Use round {self.use}{self._why_use}."
    if self.stopped:
      number, sign = self.stopped
      rows = self.rows[number - 1], self.rows[0]
      why = _WHY[sign](*(row.signs for row in rows))
      return f"Round {number} stops the rounds: {why}. {use}"
    rounds = f"{count} rounds" if count > 1 else "one round"
    said = f"No sign is bad in {rounds}. {use}"
    if self.is_unfinished:
      more = f"Round {count + 1} is not finished, or kept too little"
      said = f"{more} to learn from. {said}"
    return said

  @property
  def _why_use(self) -> str:
    if self.use == self.good:
      return ""
    later = self.rows[self.use : self.good]
    if all(row.over_first is None for row in later):
      return ": without labels nothing tells whether a later one is better"
    return ": no later one is clearly better on the test inputs"


def _fall(change: Comparison | None) -> str:
  assert change is not None  # or it could not have fallen
  return f"{percent(change.second)} to {percent(change.first)}"


# What a sentence says of a round with a bad sign, and of the first one.
_WHY: Mapping[Sign, Callable[[Signs, Signs], str]] = {
  "kept": lambda found, _: (
    "of the same inputs the share that its samples decide fell from"
    f" {_fall(found.fewer_kept)}"
  ),
  "taught": lambda found, _: (
    "the share of the inputs that is taught fell from"
    f" {_fall(found.fewer_taught)}"
  ),
  "agreement": lambda found, _: (
    "the share of the forms of an input that have its answer fell from"
    f" {_fall(found.less_agreement)}"
  ),
  "changed": lambda found, _: (
    f"{percent(found.changed.value)} of the inputs that it and the round"
    " before decide have another answer, so one of the two is often wrong"
  ),
  "entropy": lambda found, first: (
    f"its answers are more and more the same, with {found.entropy:.2f} nats of"
    f" entropy, where it was {first.entropy:.2f} in the first round"
  ),
  "thought": lambda found, first: (
    f"a thought takes {found.thought:.0f} tokens, where it took"
    f" {first.thought:.0f} in the first round"
  ),
  "movement": lambda found, first: (
    f"its model moved by {found.movement:.3f} nats a token on a text that is"
    f" unrelated to the task, where it was {first.movement:.3f} in the first"
    " round"
  ),
}


def load(
  workdirs: Sequence[epath.Path], signs: Sequence[Signs], is_unfinished: bool
) -> Rounds:
  """Reads finished rounds.

  Args:
    workdirs: of the rounds, from the first on.
    signs: of each.
    is_unfinished: whether another one has begun.
  """
  rows, first = [], direct_scores(run_files.rows_of(workdirs[0], "distilled"))
  for workdir, found in zip(workdirs, signs, strict=True):
    run = comparison.load_run(workdir, f"round {found.number}")
    _, right = kept_and_right(run_files.load(workdir))
    scores = direct_scores(run_files.rows_of(workdir, "distilled"))
    over = compare(scores, first) if rows else None
    rows.append(Row(run, found, right, over))
  return Rounds(rows, is_unfinished)


def lines(found: Rounds) -> Iterator[list[str]]:
  """Right answers as text, the head first: the base model, then the rounds."""
  table = found.rows[0].run.table
  splits = table.biased_first
  yield [*table.head(splits), "over round 1", "taught", "right of it"]
  for base in table.of_base:
    yield [base.label, *base.figures(splits), "", "", ""]
  for row in found.rows:
    right = _NONE if row.right is None else f"{100 * row.right:.1f}"
    taught = f"{100 * row.signs.taught:.1f}"
    over = difference(row.over_first)
    yield [row.run.name, *row.run.student.figures(splits), over, taught, right]


def sign_lines(found: Rounds) -> Iterator[list[str]]:
  """The signs as text, the head first."""
  yield ["signs", "% decided", "points", "taught: points", "% agree", "points",
         "% changed", "entropy", "thought", "movement"]  # fmt: skip
  for row in found.rows:
    one = row.signs
    yield [
      row.run.name,
      f"{100 * one.kept:.1f}",
      difference(one.fewer_kept),
      difference(one.fewer_taught),
      f"{100 * one.agreement:.1f}",
      difference(one.less_agreement),
      _NONE if one.changed is None else f"{100 * one.changed.value:.1f}",
      f"{one.entropy:.2f}",
      f"{one.thought:.1f}",
      _NONE if one.movement is None else f"{one.movement:.3f}",
    ]


def write(found: Rounds, workdir: epath.Path) -> epath.Path:
  """Writes report/ of the workdir and rounds/signs.json; returns the page."""
  folder = workdir / "report"
  records.write_text(workdir / "rounds" / "signs.json", _signs_json(found))
  records.write_text(folder / "rounds.json", _as_json(found))
  shown = [markdown_table(part(found)) for part in (lines, sign_lines)]
  records.write_text(
    folder / "rounds.md", "\n\n".join([found.answer, *shown]) + "\n"
  )
  path = folder / "index.html"
  text = page.render(
    "rounds.html",
    found=found,
    lines=list(lines(found)),
    sign_lines=list(sign_lines(found)),
  )
  records.write_text(path, text)
  return path


def _signs_json(found: Rounds) -> str:
  """The signs, and what follows from them."""
  values = _conclusion(found)
  values["rounds"] = [dataclasses.asdict(row.signs) for row in found.rows]
  return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _as_json(found: Rounds) -> str:
  """The table."""
  values = _conclusion(found)
  values["rounds"] = [
    {
      "round": row.signs.number,
      "accuracy": {
        split: dataclasses.asdict(cell)
        for split, cell in row.run.student.accuracy.items()
      },
      "tokens": row.run.student.tokens,
      "taught": row.signs.taught,
      "right": row.right,
      "over_first": row.over_first and dataclasses.asdict(row.over_first),
    }
    for row in found.rows
  ]
  return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _conclusion(found: Rounds) -> dict[str, Any]:
  number, sign = found.stopped or (None, None)
  return {
    "answer": found.answer,
    "use": found.use,
    "stopped": {"round": number, "sign": sign} if found.stopped else None,
  }
