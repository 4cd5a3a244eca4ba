"""The page of an internalisation: how short a thought may become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json

from etils import epath

from s2d_jax import records
from s2d_jax.evaluation.internalisation import Choice, agreement, choose
from s2d_jax.evaluation.paired import Comparison, compare
from s2d_jax.reporting import comparison, page, plots, run_files
from s2d_jax.reporting.comparison import FinishedRun
from s2d_jax.reporting.sentences import few, uncertainty
from s2d_jax.reporting.study import difference, markdown_table
from s2d_jax.reporting.ways import Point, direct_scores, ways_of
from s2d_jax.training.internalise import DIRECT


def folder_of(workdir: epath.Path, name: str) -> epath.Path:
  """The workdir of a stage, or of the control."""
  return workdir / "stages" / name


@dataclasses.dataclass(frozen=True)
class Row:
  """A stage that is finished, or the control.

  Attributes:
    run: what its own report says; its name is that of its folder.
    thought: tokens of a thought that it is taught, at most.
    point: of the picture; None without labels.
    over_direct: against the control on test inputs of all forms; None for the
      control, before it is finished, and without labels.
  """

  run: FinishedRun
  thought: int
  point: Point | None
  over_direct: Comparison | None

  @property
  def taught(self) -> str:
    """How much of a thought, in a word or two."""
    if self.run.name == "0":
      return "all"
    return str(self.thought) if self.thought else "none"


@dataclasses.dataclass(frozen=True)
class Internalisation:
  """The stages of a run, from whole thoughts on.

  Attributes:
    stages: how many there are to be after the first.
    rows: those that are finished.
    direct: the control; None before it is finished.
    choice: which to use; None where System 2's vote has no answers.
    ways: of the base model, for the picture.
  """

  stages: int
  rows: Sequence[Row]
  direct: Row | None
  choice: Choice | None
  ways: Sequence[Point]

  @property
  def use(self) -> str | None:
    """The folder of the run to use."""
    if self.choice is None:
      return None
    use = self.rows[self.choice.use]
    return DIRECT if self.choice.buys_nothing else use.run.name

  @property
  def answer(self) -> str:
    """How much is internalised and what to use, in sentences."""
    told = [_lacking(self), _internalised(self)]
    if self.choice and self.direct:
      told.append(_control(self.choice))
    if self.use:
      told.append(f"Use stages/{self.use}.")
    return " ".join(filter(None, told))


def _lacking(found: Internalisation) -> str:
  """What is missing."""
  if len(found.rows) <= found.stages:
    return (
      f"Stage {len(found.rows)} is not finished, or had too little to learn"
      " from."
    )
  return "" if found.direct else "The direct control is not finished."


def _internalised(found: Internalisation) -> str:
  choice, rows = found.choice, found.rows
  if choice is None:
    return (
      "Which stage to use is not known, as System 2’s vote has no answer to any"
      " validation input."
    )
  use, best = rows[choice.use], rows[choice.best]
  doubt = few(choice.over_best)
  if use is not best and not choice.over_best.is_level:
    doubt = doubt or ", not for certain"
  gives = (
    f"agrees with System 2’s vote on {choice.over_best.n:,} validation inputs"
    f" with κ = {choice.kappas[choice.use]:.2f}"
  )
  than = (
    ""
    if use is best
    else f", where stage {best.run.name}, the best, has"
    f" {choice.kappas[choice.best]:.2f}{uncertainty(choice.over_best)}"
  )
  if use.thought == 0:
    return (
      f"Internalised in whole{doubt}: taught no token of a thought any more,"
      f" stage {use.run.name} {gives}{than}."
    )
  if choice.use:
    return (
      f"Internalised to {use.thought} tokens{doubt}: taught the last"
      f" {use.thought} of a thought, stage {use.run.name} {gives}{than}."
    )
  told = f"taught whole thoughts, stage 0 {gives}"
  if len(rows) == 1:
    return f"Nothing is internalised yet: {told}."
  kappas = dict(enumerate(choice.kappas[1:], start=1))
  rival = max(kappas, key=kappas.__getitem__)
  return (
    f"Nothing can be internalised, the whole thought is needed{doubt}: {told},"
    f" and of the others stage {rival} comes nearest with"
    f" {kappas[rival]:.2f}."
  )


def _control(choice: Choice) -> str:
  over = choice.over_direct
  assert over is not None  # it is finished
  named = "The direct control, taught answers alone for as many epochs,"
  if choice.buys_nothing:
    return (
      f"{named} does as well with {over.second:.2f}, so the stages buy nothing."
    )
  if choice.is_direct_as_good:
    return (
      f"{named} may do as well with {over.second:.2f}: more validation"
      f" inputs would tell{uncertainty(over)}."
    )
  return f"{named} has {over.second:.2f}{uncertainty(over)}."


def load(
  stages: int,
  finished: Mapping[str, epath.Path],
  thoughts: Mapping[str, int],
) -> Internalisation:
  """Reads finished runs.

  Args:
    stages: how many there are to be after the first.
    finished: workdirs of the first stages, and of the control if it is, by
      their names.
    thoughts: tokens of a thought that each is taught, at most.
  """
  first = finished["0"]
  runs = {
    name: comparison.load_run(folder, name) for name, folder in finished.items()
  }
  distilled = {
    name: run_files.rows_of(folder, "distilled")
    for name, folder in finished.items()
  }
  thought = run_files.rows_of(first, "valid")
  agreements = {
    name: agreement(
      run_files.rows_of(folder, "distilled-valid"),
      thought,
      runs["0"].config["method"],
    )
    for name, folder in finished.items()
  }
  scores = {name: direct_scores(read) for name, read in distilled.items()}
  control = scores.get(DIRECT, {})
  rows = {
    name: Row(
      run,
      thoughts[name],
      next(iter(ways_of("distilled", distilled[name])), None),
      None if name == DIRECT else compare(scores[name], control),
    )
    for name, run in runs.items()
  }
  direct = rows.pop(DIRECT, None)
  agrees = agreements.pop(DIRECT, None)
  return Internalisation(
    stages,
    [*rows.values()],
    direct,
    choose([*agreements.values()], agrees),
    ways_of("base", run_files.rows_of(first, "base")),
  )


def lines(found: Internalisation) -> Iterator[list[str]]:
  """The table as text, the head first: base model, stages, the control."""
  table = found.rows[0].run.table
  splits = table.biased_first
  yield [*table.head(splits), "taught", "κ with the vote", "over direct"]
  for base in table.of_base:
    yield [base.label, *base.figures(splits), "", "", ""]
  for row in [*found.rows, *filter(None, [found.direct])]:
    kappa = _kappa(found, row)
    yield [
      "direct" if row is found.direct else f"stage {row.run.name}",
      *row.run.student.figures(splits),
      f"{row.taught} (≤ {row.thought})" if row.taught == "all" else row.taught,
      "–" if kappa is None else f"{kappa:.2f}",
      "" if row is found.direct else difference(row.over_direct),
    ]


def _kappa(found: Internalisation, row: Row) -> float | None:
  """Of its answers and those of System 2's vote to the validation inputs."""
  choice = found.choice
  if choice is None:
    return None
  if row is found.direct:
    return choice.over_direct and choice.over_direct.second
  return choice.kappas[int(row.run.name)]


def write(found: Internalisation, workdir: epath.Path) -> epath.Path:
  """Writes report/ of the workdir; returns the page."""
  folder = workdir / "report"
  records.write_text(folder / "internalise.json", _as_json(found))
  records.write_text(
    folder / "internalise.md",
    f"{found.answer}\n\n{markdown_table(lines(found))}\n",
  )
  path = folder / "index.html"
  text = page.render(
    "internalise.html",
    found=found,
    lines=list(lines(found)),
    picture=_picture(found),
  )
  records.write_text(path, text)
  return path


def _picture(found: Internalisation) -> page.Plot | None:
  """None without labels."""
  points = {row.taught: row.point for row in found.rows if row.point}
  if not points:
    return None
  direct = found.direct and found.direct.point
  draw = plots.internalisation(
    [(name, point.tokens, point.accuracy) for name, point in points.items()],
    direct and (direct.tokens, direct.accuracy),
    found.ways,
  )
  return page.make_plot(
    "internalise",
    "What a shorter thought costs",
    "Test inputs of all forms. Along the line ever less of a thought is taught,"
    " whose tokens stand beside the dots; the cross is taught answers alone for"
    " as many epochs.",
    draw,
  )


def _as_json(found: Internalisation) -> str:
  choice = found.choice
  values = {
    "answer": found.answer,
    "use": found.use,
    "stage": choice and choice.use,
    "best": choice and choice.best,
    "is_direct_as_good": choice and choice.is_direct_as_good,
    "buys_nothing": choice and choice.buys_nothing,
    "over_best": _comparison(choice and choice.over_best),
    "over_direct": _comparison(choice and choice.over_direct),
    "stages": [_row(found, row) for row in found.rows],
    "direct": found.direct and _row(found, found.direct),
  }
  return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _row(found: Internalisation, row: Row) -> records.Record:
  student = row.run.student
  return {
    "thought": row.thought,
    "tokens": student.tokens,
    "accuracy": {
      split: dataclasses.asdict(cell)
      for split, cell in student.accuracy.items()
    },
    "kappa": _kappa(found, row),
    "over_direct": _comparison(row.over_direct),
  }


def _comparison(found: Comparison | None) -> records.Record | None:
  return found and dataclasses.asdict(found) | {"outcome": found.outcome}
