"""Compares runs: their results, and where their settings differ.

Made from what the report of each run has left in its report/ folder, so that
the figures are those of its page, and large runs are not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from typing import Any

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.records import Record
from s2d_jax.reporting import page, plots, settings, table as tables
from s2d_jax.reporting.retention import points
from s2d_jax.reporting.sentences import inputs_of, percent
from s2d_jax.reporting.table import DIRECT, STUDENT, TEACHER, Cell, Kind, Table

_KINDS: Mapping[str, tuple[Kind, ...]] = {
  "system1": DIRECT,
  "system2": TEACHER,
  "distilled": STUDENT,
}
# Of outcomes and conclusions, those that say something for certain.
_CERTAIN = (
  "better",
  "worse",
  "not the thinking",
  "not distillable",
  "not kept",
)
_BAND = 0.62  # inches of a run in the plot


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A finished run.

  Attributes:
    name: short, and no other run's.
    config: config.json.
    model: model.json; empty if the run is of before there was such a file.
    verdict: report/verdict.json.
    table: of report/results.json.
    finetune: lines of metrics/finetune.jsonl.
  """

  name: str
  config: Mapping[str, Any]
  model: Mapping[str, Any]
  verdict: Mapping[str, Any]
  table: Table
  finetune: Sequence[Record]

  def cell(self, kind: str) -> Cell | None:
    """Right answers on the split that the report is about, if it is known.

    Args:
      kind: "system1" or "distilled" (greedily), or "system2" (its vote, or what
        there is of it).
    """
    if not self.table.is_labelled:
      return None
    return self.table.cell(_KINDS[kind], self.verdict["split"])

  @property
  def student(self) -> tables.Row:
    """Of its table, the distilled model's."""
    found = self.table.row(STUDENT)
    assert found is not None  # or the run would not be finished
    return found

  @property
  def plain_cell(self) -> Cell | None:
    """Right answers of the distilled model on the neutral split."""
    found = self.table if self.table.is_labelled else None
    return found and found.cell(_KINDS["distilled"], self.verdict["plain"])

  @property
  def gain(self) -> Mapping[str, float] | None:
    """Distilled less System 1, in shares: "value", "low", "high"."""
    found = self.verdict["comparisons"].get("distilled")
    return found and found["gain"]

  @property
  def outcome(self) -> str:
    """In a word or two."""
    found = self.verdict["comparisons"].get("distilled")
    if found is None:
      return "no labels"
    words = found["outcome"], self.verdict["conclusion"]
    certain = [word for word in words if word in _CERTAIN]
    return ", ".join(certain) or "no clear difference"

  @property
  def kept(self) -> str:
    """Of the inputs of the train and the valid split."""
    kept, inputs = self.verdict["accepted"], self.verdict["inputs"]
    return f"{percent(kept / inputs)} of {inputs:,}" if inputs else "–"

  @property
  def tokens(self) -> tuple[float, float | None]:
    """Mean an answer: of the distilled model, and of System 2's vote."""
    found = {row.kind: row.tokens for row in self.table.rows}
    own, other = (
      next((found[kind] for kind in _KINDS[name] if kind in found), None)
      for name in ("distilled", "system2")
    )
    assert own is not None  # or the run would not be finished
    return own, other


def load(workdirs: Sequence[str]) -> list[FinishedRun]:
  """Reads the reports of runs; UserError names the one that has none."""
  if len(workdirs) < 2:
    raise UserError(
      "give two runs or more, as s2d report --compare runs/a runs/b"
    )
  paths = [epath.Path(workdir) for workdir in workdirs]
  twice = next((p for i, p in enumerate(paths) if p in paths[:i]), None)
  if twice is not None:
    raise UserError(f"{twice} is given twice; give every run once")
  names = _names(paths)
  return [load_run(path, name) for path, name in zip(paths, names, strict=True)]


def load_run(workdir: epath.Path, name: str) -> FinishedRun:
  """Reads the report of a run, which is to be called `name`."""
  if not workdir.exists():
    raise UserError(f"{workdir} does not exist; give the --workdir of a run")
  if not (workdir / "config.json").exists():
    raise UserError(
      f"{workdir} holds no run (no config.json); give the --workdir of one"
    )
  folder = workdir / "report"
  if not (folder / "verdict.json").exists():
    raise UserError(
      f"{workdir} has no report yet; let its s2d pipeline run to the end, or"
      " leave it out"
    )
  verdict = _read_json(folder / "verdict.json")
  if "plain" not in verdict or "accepted" not in verdict:
    raise UserError(
      f"the report of {workdir} is of an older version; make it again with s2d"
      " report --config=FILE --workdir=FOLDER"
    )
  table = tables.make(_read_json(folder / "results.json"), verdict["split"])
  if not any(row.kind in STUDENT for row in table.rows):
    raise UserError(
      f"{workdir} is not finished: its distilled model has not been evaluated;"
      " let its s2d pipeline run to the end, or leave it out"
    )
  path = workdir / "metrics" / "finetune.jsonl"
  lines = list(records.read(path, growing=True)) if path.exists() else []
  config = _read_json(workdir / "config.json")
  path = workdir / "model.json"
  model = _read_json(path) if path.exists() else {}
  return FinishedRun(name, config, model, verdict, table, lines)


def _read_json(path: epath.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    raise UserError(
      f"{path} cannot be read as JSON; make the report of its run again"
    ) from None


def _names(paths: Sequence[epath.Path]) -> list[str]:
  """The ends of the paths, as short as keeps them different."""
  longest = max(len(path.parts) for path in paths)
  for length in range(1, longest + 1):
    names = ["/".join(path.parts[-length:]) or "." for path in paths]
    if len(set(names)) == len(names):
      return names
  return [str(path) for path in paths]


def differences(runs: Sequence[FinishedRun]) -> dict[str, list[str]]:
  """The settings that are not the same in all runs; "–" where there is none.

  And what differs of the files that the name of the model stood for.
  """
  found = settings.differences([run.config for run in runs])
  for part in ("weights", "tokenizer", "chat_template", "end_tokens"):
    values = [run.model.get(part) for run in runs]
    told = [str(value) for value in values if value is not None]
    if len(set(told)) > 1:
      found[f"model.json: {part}"] = values
  return {
    name: ["–" if value is None else str(value) for value in values]
    for name, values in found.items()
  }


def sentence(runs: Sequence[FinishedRun]) -> str:
  """The result in a sentence, without claiming what it cannot show."""
  start = f"{len(runs)} runs side by side"
  inputs = {
    (r.config.get("task", {}).get("name"), r.verdict["split"]) for r in runs
  }
  cells = [(run.cell("system1"), run.cell("distilled")) for run in runs]
  if len(inputs) > 1:
    return f"{start}: their inputs differ, so read each by itself."
  if any(None in pair for pair in cells):
    return f"{start}; not all have labels to say how many answers are right."
  on = inputs_of(runs[0].verdict["split"])
  before = [old.value for old, _ in cells if old]
  after = [new.value for _, new in cells if new]
  differing = differences(runs).keys()
  if "seed" in differing and differing <= {"seed", "model.date"}:
    day = " and their day" if "model.date" in differing else ""
    return (
      f"{len(runs)} runs that differ in their seed{day} alone: accuracy on {on}"
      f" went from {_range(before)} to {_range(after)}."
    )
  best = max(range(len(runs)), key=after.__getitem__)
  rest = [share for index, share in enumerate(after) if index != best]
  highs = [new.high for i, (_, new) in enumerate(cells) if new and i != best]
  found = cells[best][1]
  overlaps = found is not None and found.low <= max(highs)
  caution = " (the 95 % intervals overlap)" if overlaps else ""
  return (
    f"{start}: on {on} {runs[best].name} is right most often after"
    f" distillation, {percent(after[best])} against"
    f" {_span(rest)}{caution}; before it was {percent(before[best])}."
  )


def _range(shares: Sequence[float]) -> str:
  mean = sum(shares) / len(shares)
  return f"{percent(mean)} ({_span(shares)})"


def _span(shares: Sequence[float]) -> str:
  low, high = percent(min(shares)), percent(max(shares))
  return low if low == high else f"{low} to {high}"


def lines(runs: Sequence[FinishedRun]) -> list[list[str]]:
  """The table as text, the head first."""
  found = [
    ["run", "System 1", "System 2", "distilled", "points", "tokens", "kept",
     "outcome"]
  ]  # fmt: skip
  for run in runs:
    cells = [run.cell(kind) for kind in _KINDS]
    gain, (own, other) = run.gain, run.tokens
    found.append(
      [
        run.name,
        *(f"{c.percent} [{c.interval}]" if c else "–" for c in cells),
        points(gain["value"]) if gain else "–",
        f"{own:.1f}" + (f" / {other:.1f}" if other else ""),
        run.kept,
        run.outcome,
      ]
    )
  return found


def write(runs: Sequence[FinishedRun], path: epath.PathLike) -> None:
  """Writes the page."""
  text = page.render(
    "compare.html",
    runs=runs,
    answer=sentence(runs),
    differences=differences(runs),
    plots=_plots(runs),
    splits=list(dict.fromkeys(run.verdict["split"] for run in runs)),
  )
  records.write_text(path, text)


def _plots(runs: Sequence[FinishedRun]) -> list[page.Plot]:
  names = [run.name for run in runs]
  cells = {kind: [run.cell(kind) for run in runs] for kind in _KINDS}
  curves = {run.name: run.finetune for run in runs if run.finetune}
  wanted: list[tuple[str, str, str, Callable, float]] = []
  if any(cell for found in cells.values() for cell in found):
    height = max(plots.HEIGHT, 0.9 + _BAND * len(runs))
    draw = plots.accuracy_by_run(names, cells)
    wanted.append(
      ("accuracy", "Right answers by run", "Test inputs.", draw, height)
    )
  kl = [run for run, lines in curves.items() if plots.is_on_policy(lines)]
  caption = "Loss on the target alone."
  if kl:
    caption += f" Training loss is {plots.KL} for {', '.join(kl)}."
  for name, called in (("valid_loss", "Validation"), ("loss", "Training")):
    if any(line.get(name) is not None for c in curves.values() for line in c):
      draw = plots.curves_by_run(curves, name, "loss, nats a target token")
      wanted.append(
        (
          name,
          f"{called} loss",
          caption,
          draw,
          plots.HEIGHT,
        )
      )
  return [
    page.make_plot(name, title, caption, draw, height)
    for name, title, caption, draw, height in wanted
  ]
