"""Shows how far a run is, from its files alone.

    s2d status --workdir=runs/quickstart

Needs no model, no device and no config file, and does not disturb the run: call
it on any machine that sees the workdir, while the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import math
import time
from typing import Any, Literal

from absl import flags
from etils import epath
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.progress import format_duration
from s2d_jax.records import Record
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import program
from s2d_jax.training.internalise import DIRECT

# No stage leaves its files alone for longer, unless it was stopped.
_QUIET_SECONDS = 600.0
_LINES = 30  # of a curve, from which a rate is taken


@dataclasses.dataclass(frozen=True)
class StageProgress:
  """How far a stage is that has begun.

  Attributes:
    summary: in words.
    done, total: what is counted; None where it cannot be known.
    left: seconds, at the recent rate; None where there is none.
  """

  summary: str = ""
  done: int | None = None
  total: int | None = None
  left: float | None = None


@dataclasses.dataclass(frozen=True)
class Stage:
  """What the files say of a stage.

  Attributes:
    name: as in "evaluate base".
    state: "quiet" if it has begun, but has not written for ten minutes.
    summary: that of a stage that is done, else how far it is.
    seconds: that it took, in its last start.
    changed: seconds since it last wrote, while it is not done.
    done, total, left: as in `StageProgress`.
  """

  name: str
  state: Literal["done", "running", "quiet", "not begun"]
  summary: str = ""
  seconds: float | None = None
  changed: float | None = None
  done: int | None = None
  total: int | None = None
  left: float | None = None


class LiveRun:
  """The files of a workdir, some of which are being written.

  Raises:
    UserError: there is no such folder, or it holds no run.
  """

  def __init__(self, workdir: epath.PathLike):
    self.workdir = epath.Path(workdir)
    path = self.workdir / "config.json"
    if not self.workdir.exists():
      raise UserError(
        f"{workdir} does not exist; give the --workdir of a run that has begun"
      )
    if not path.exists():
      raise UserError(
        f"{workdir} holds no run: it has no config.json; give the --workdir of"
        " the other stages"
      )
    try:
      self.config = json.loads(path.read_text())
      self.method = self.config["method"]
    except (ValueError, KeyError, TypeError):
      raise UserError(
        f"{path} does not hold the settings of a run; give the --workdir of"
        " the other stages"
      ) from None

  def files(self, pattern: str) -> list[epath.Path]:
    folder, _, name = pattern.rpartition("/")
    folder = self.workdir / folder
    return sorted(folder.glob(name)) if folder.exists() else []

  def lines(self, pattern: str) -> int:
    """Complete lines of some files."""
    return sum(map(records.count_lines, self.files(pattern)))

  def records(self, pattern: str) -> Iterator[Record]:
    """What can be read of some files: a line may be half written."""
    for path in self.files(pattern):
      with path.open("rb") as lines:
        for line in lines:
          try:
            record = json.loads(line)
          except ValueError:
            continue
          if isinstance(record, dict):
            yield record

  def mark(self, stage: str) -> Mapping[str, Any] | None:
    """The summary and the seconds of a stage that is done."""
    path = mark_of(self.workdir, stage)
    try:
      return records.read_json(path, "") if path.exists() else None
    except UserError:
      return {}

  def setting(self, section: str, name: str, default: Any) -> Any:
    return self.config.get(section, {}).get(name, default)


ReadProgress = Callable[[LiveRun, Sequence[epath.Path]], StageProgress]


def inspect_run(workdir: epath.PathLike) -> list[Stage]:
  """The stages of a run in their order; UserError if there is no run."""
  run = LiveRun(workdir)
  return [
    _stage(run, "prepare", "examples/*.jsonl", _prepare),
    _stage(run, "sample", f"samples/{run.method}/part-*.jsonl", _sample),
    _stage(run, "select", f"selections/{run.method}/part-*.jsonl", _select),
    _stage(run, "curate", "distill/*.jsonl", _curate),
    _evaluate(run, "valid"),
    _evaluate(run, "base"),
    _retention(run, "base"),
    _stage(run, "finetune", "metrics/finetune.jsonl", _finetune),
    _evaluate(run, "distilled"),
    _gate(run),
    _retention(run, "distilled"),
    _stage(run, "report", "report/*", _report),
  ]


def _stage(
  run: LiveRun, name: str, pattern: str, read_progress: ReadProgress
) -> Stage:
  done = run.mark(name)
  if done is not None:
    return Stage(name, "done", done.get("summary", ""), done.get("seconds"))
  files = [path for path in run.files(pattern) if path.stat().length]
  if not files:
    return Stage(name, "not begun")
  changed = max(0.0, time.time() - max(path.stat().mtime for path in files))
  found = read_progress(run, files)
  if changed > _QUIET_SECONDS:
    found = dataclasses.replace(found, left=None)
  state = "quiet" if changed > _QUIET_SECONDS else "running"
  return Stage(name, state, changed=changed, **dataclasses.asdict(found))


def _prepare(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  return StageProgress(f"{run.lines('examples/*.jsonl'):,} examples so far")


def _sample(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  samples = sum(map(records.count_lines, files))
  summary = f"{samples:,} samples"
  curve = [line for line in run.records("metrics/sample.jsonl") if "of" in line]
  if not curve:
    return StageProgress(summary)
  last = curve[-1]
  done, total = last["examples"], last["of"]
  left = _left(curve[-_LINES:], "examples", total)
  summary += f" in {len(files)} shards" if len(files) > 1 else ""
  summary += f", {done:,} of {total:,} examples decided"
  if last["kept"] is not None:
    summary += f", kept {last['kept']:.0%}"
  return StageProgress(summary, done, total, left)


def _left(curve: Sequence[Record], name: str, total: int) -> float | None:
  """Seconds that are left at the rate of these lines."""
  seconds = sum(line["seconds"] for line in curve[1:])
  made = curve[-1][name] - curve[0][name]
  return (total - curve[-1][name]) * seconds / made if made > 0 else None


def _select(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  count = sum(map(records.count_lines, files))
  return StageProgress(f"{count:,} inputs", count)


def _curate(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  return StageProgress("deciding")


def _finetune(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  curve = [
    line for line in run.records("metrics/finetune.jsonl") if "step" in line
  ]
  if not curve:
    return StageProgress("starting")
  step = curve[-1]["step"]
  total = curve[0].get("total_steps")
  summary = f"step {step:,}" + (f" of {total:,}" if total else "")
  for name, words in (("loss", "loss"), ("valid_loss", "validation loss")):
    values = [line[name] for line in curve if name in line]
    if values:
      summary += f", {words} {values[-1]:.4f}"
  saved = [
    int(path.name) for path in run.files("checkpoints/*") if path.name.isdigit()
  ]
  if saved:
    summary += f", saved at {max(saved):,}"
  left = _left(curve[-_LINES:], "step", total) if total else None
  return StageProgress(summary, step, total, left)


def _evaluate(run: LiveRun, name: str) -> Stage:
  """Rows of an evaluation: an input and method each."""
  # System 1 behind worked examples comes behind these, and not in every run:
  # then there are more rows than this.
  methods = 1 if name == "distilled" or run.method == "system1" else 2
  split = "valid" if name == "valid" else "test"

  def read_progress(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
    return _rows(files, _inputs(run, split) * methods)

  return _stage(
    run, f"evaluate {name}", f"eval/{name}/part-*.jsonl", read_progress
  )


def _inputs(run: LiveRun, split: str) -> int:
  """In every variant that is evaluated.

  By then curation has seen those, unless it leaves some out.
  """
  variants = set()
  if not run.setting("curation", "variants", ()):
    variants = {row.get("variant") for row in run.records("distill/*.jsonl")}
  return sum(
    len(variants.intersection(example.get("variants") or variants))
    for example in run.records(f"examples/{split}.jsonl")
  )


def _gate(run: LiveRun) -> Stage:
  """What is drawn for it: direct answers to the validation split."""

  def read_progress(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
    return _rows(files, _inputs(run, "valid"))

  pattern = "eval/distilled-valid/part-*.jsonl"
  return _stage(run, "gate", pattern, read_progress)


def _retention(run: LiveRun, name: str) -> Stage:
  """How many rows there are to be depends on tasks and texts."""

  def read_progress(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
    count = sum(map(records.count_lines, files))
    return StageProgress(f"{count:,} rows", count)

  return _stage(
    run,
    f"retention {name}",
    f"eval/retention-{name}/part-*.jsonl",
    read_progress,
  )


def _rows(files: Sequence[epath.Path], total: int) -> StageProgress:
  count = sum(map(records.count_lines, files))
  if count > total:  # the total is not in the files
    return StageProgress(f"{count:,} rows", count)
  return StageProgress(f"{count:,} of {total:,} rows", count, total)


def _report(run: LiveRun, files: Sequence[epath.Path]) -> StageProgress:
  return StageProgress("writing")


def next_stage(stages: Sequence[Stage]) -> str | None:
  """The first stage that is not done."""
  return next((s.name for s in stages if s.state != "done"), None)


def show(
  workdir: epath.PathLike, stages: Sequence[Stage], console: Console
) -> None:
  """Prints a table, and what to do next."""
  run = LiveRun(workdir)
  console.print(
    Text.assemble(
      (f"{run.workdir}", "bold"),
      f"  {run.setting('task', 'name', '?')}, {run.method},"
      f" {run.setting('model', 'name', '?')}",
    )
  )
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
  table.add_column("stage", no_wrap=True)
  table.add_column("", no_wrap=True)
  table.add_column("time", justify="right", no_wrap=True)
  table.add_column("how far", overflow="fold")
  for stage in stages:
    sign, style = _SIGNS[stage.state]
    table.add_row(
      Text(stage.name, style="dim" if stage.state == "not begun" else ""),
      Text(f"{sign} {stage.state}", style=style),
      "" if stage.seconds is None else format_duration(stage.seconds),
      Text(_details(stage)),
    )
  console.print(table)
  # As Text, so that square brackets are not read as markup.
  console.print(Text(_advice(run, stages)), soft_wrap=True)


_SIGNS = {
  "done": ("✓", "green"),
  "running": ("▶", "bold cyan"),
  "quiet": ("‖", "yellow"),
  "not begun": ("·", "dim"),
}


def _details(stage: Stage) -> str:
  details = [stage.summary] if stage.summary else []
  if stage.left is not None:
    details.append(f"about {format_duration(stage.left)} left")
  if stage.changed is not None:
    details.append(f"last written {format_duration(stage.changed)} ago")
  return "; ".join(details)


def _advice(run: LiveRun, stages: Sequence[Stage]) -> str:
  name = next_stage(stages)
  if name is None:
    return f"Everything is done: {run.workdir / 'report' / 'index.html'}"
  if one := _one_of_several(run):  # only the pipeline knows what follows it
    return (
      f"Next: {name} of {one}. `s2d pipeline --config=…"
      f" --workdir={run.workdir.parent.parent}`, with the config of before,"
      " goes on with it and what follows."
    )
  program_name = name.partition(" ")[0]
  return (
    f"Next: {name}. `s2d pipeline --config=… --workdir={run.workdir}`, with the"
    " config of before, goes on with it and what follows;"
    f" `s2d {program_name} --config=… --workdir={run.workdir}` does it alone."
  )


def _one_of_several(run: LiveRun) -> str:
  """Which one it is; empty for a single run."""
  if number := run.setting("rounds", "number", 0):
    return f"round {number}"
  stage = run.setting("internalise", "stage", "")
  if stage == DIRECT:
    return "the direct control"
  return stage and f"stage {stage}"


def _newest(workdir: str) -> str:
  """The workdir of the newest run, if it is one of several runs."""
  whole = epath.Path(workdir)
  for name in ("rounds", "stages"):
    folder = whole / name
    # Of a bucket that cannot be read the whole workdir is what is named.
    found = folder.iterdir() if whole.exists() and folder.exists() else ()
    places = {_place(path.name): path.name for path in found}
    if (last := max(places, default=-1)) >= 0:
      return f"{workdir}/{name}/{places[last]}"
  return workdir


def _place(name: str) -> float:
  """Of a run among several, by its name; below 0 for another file."""
  if name.isdecimal():
    return int(name)
  return math.inf if name == DIRECT else -1


def status(argv) -> None:
  del argv
  workdir = flags.FLAGS.workdir
  if not workdir:
    raise UserError("give --workdir=FOLDER, for instance runs/quickstart")
  workdir = _newest(workdir)
  stages = inspect_run(workdir)
  if flags.FLAGS.json:
    found = {
      "workdir": workdir,
      "next": next_stage(stages),
      "stages": [dataclasses.asdict(stage) for stage in stages],
    }
    print(json.dumps(found, ensure_ascii=False, indent=2))
    return
  show(workdir, stages, Console())


def main() -> None:
  # Here, since `s2d plan` has a flag of this name that takes a file.
  flags.DEFINE_boolean(
    "json",
    False,
    "Prints the same as JSON, for scripts; times are in seconds.",
    allow_override=True,
  )
  program.run_program(status, __doc__, ("workdir", "json"))


if __name__ == "__main__":
  main()
