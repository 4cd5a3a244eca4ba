"""Runs a config with its controls, over several seeds, and compares them.

s2d study --config=configs/quickstart.py:many --workdir=studies/quickstart

For each seed this is the config's own run (WORKDIR/seed0/run), and the same run
with one thing changed for each control (WORKDIR/seed0/unfiltered, …). Each is a
workdir like any other, with a report of its own; what a control has in common
with the run is copied from it, and no sample is drawn twice. The comparison is
WORKDIR/study/index.html, with study.md and study.json beside it.

Nothing is lost by a kill: the same command goes on where it was. More seeds and
more controls may be asked for at any time. --config.seed is of no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import statistics
import time
from typing import NamedTuple

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records, trained_controls
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.progress import format_duration
from s2d_jax.reporting import study as studies, terminal
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.reporting.study import RUN
from s2d_jax.stages import (
  nested,
  pipeline,
  prepare,
  program,
  setup,
  several,
)
from s2d_jax.stages.nested import Part
from s2d_jax.tasks.task import read_examples
from s2d_jax.trained_controls import CONTROLS

_CONTROLS = flags.DEFINE_list(
  "controls",
  ["all"],
  "What the run is compared with: "
  + "; ".join(f"{name}, {one.taught}" for name, one in CONTROLS.items())
  + ". all: every one of them.",
)
_SEEDS = flags.DEFINE_list(
  "seeds", ["0", "1", "2"], "A run and its controls for each, as 0,1,2."
)


class _Workdir(NamedTuple):
  """One of the runs of a study: the config's own, or a control of it."""

  seed: int
  name: str

  def inside(self, study: epath.Path) -> epath.Path:
    return studies.workdir_of(study, self.seed, self.name)

  def __str__(self) -> str:
    return f"seed {self.seed}, {self.name}"


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Runs what is missing, and writes the page after each seed."""
  if series := several.series_of(config):
    raise UserError(
      f"{series.setting}={series.count(config)}, but a study is of single runs;"
      f" set {series.setting}={series.single}"
    )
  seeds, names = _seeds(_SEEDS.value), _names(_CONTROLS.value)
  own = _as_in_a_study(config)
  same = [name for name in names if _is_same(own, name)]
  others = [name for name in names if name not in same]
  for name in others:
    setup.check(trained_controls.apply(own, name))  # before hours of work
  left = _TimeLeft(
    [_Workdir(s, name) for s in seeds for name in [RUN, *others]]
  )
  for done, seed in enumerate(seeds, start=1):
    config = _seeded(own, seed)
    for name in [RUN, *others]:
      one = _Workdir(seed, name)
      print(f"study: {left.begin(one)}", flush=True)
      is_new = not program.is_done(one.inside(workdir), "report")
      if name == RUN:
        _run_itself(config, one.inside(workdir), "labels" in names)
      else:
        _run_control(config, name, workdir, seed)
      if is_new:
        left.end(one)
    setup.release()
    if hosts.is_lead():
      task = setup.task_of(config)
      found = studies.load(
        workdir,
        seeds[:done],
        names,
        same,
        task.biased,
        setup.has_shots(config, task),
      )
      path = studies.write(found, workdir)
      terminal.print_study(found)
      print(f"wrote {path}", flush=True)
    hosts.barrier("study")


def _seeds(given: Sequence[str]) -> list[int]:
  seeds = [int(seed) for seed in given if seed.isdecimal()]
  if not seeds or len(set(seeds)) < len(given):
    raise UserError(
      f"--seeds={','.join(given)} must be whole numbers, each once, as 0,1,2"
    )
  return seeds


def _names(given: Sequence[str]) -> list[str]:
  """Of controls, in the order of the table."""
  unknown = set(given) - CONTROLS.keys() - {"all"}
  if unknown or not given:
    raise UserError(
      f"--controls={','.join(given)} must be all, or some of"
      f" {', '.join(CONTROLS)}"
    )
  return [name for name in CONTROLS if {name, "all"} & set(given)]


def _as_in_a_study(config: ConfigDict) -> ConfigDict:
  """The config, with samples of all that a control may keep.

  What the run itself keeps is the same without giving up.
  """
  found = config.copy_and_resolve_references()
  found.sampling.give_up = False
  return found


def _is_same(config: ConfigDict, name: str) -> bool:
  """Whether a control changes nothing of this config."""
  return trained_controls.apply(config, name).to_json() == config.to_json()


def _seeded(config: ConfigDict, seed: int) -> ConfigDict:
  found = config.copy_and_resolve_references()
  found.seed = seed
  return found


class _TimeLeft:
  """How far the study is; time by what runs and controls took in this start."""

  def __init__(self, plan: Sequence[_Workdir]):
    self._plan = plan
    self._took: dict[bool, list[float]] = {True: [], False: []}
    self._began = 0.0

  def begin(self, one: _Workdir) -> str:
    self._began = time.monotonic()
    number = self._plan.index(one)
    rest = [other.name == RUN for other in self._plan[number:]]
    found = f"{number + 1} of {len(self._plan)}: {one}"
    if all(self._took[kind] for kind in rest):
      seconds = sum(statistics.mean(self._took[kind]) for kind in rest)
      found += f", {format_duration(seconds)} left"
    return found

  def end(self, one: _Workdir) -> None:
    seconds = time.monotonic() - self._began
    self._took[one.name == RUN].append(seconds)


def _run_itself(
  config: ConfigDict, workdir: epath.Path, needs_labels: bool
) -> None:
  """The config's own run; `config` gets the date of its workdir."""

  def check_examples(config: ConfigDict, workdir: epath.Path) -> None:
    _check_labels(workdir, config.task.name, needs_labels)

  def whole(config: ConfigDict, workdir: epath.Path) -> None:
    if not nested.is_finished(config, workdir):
      pipeline.run_checked(config, workdir, {prepare.run: check_examples})

  program.run_claimed(whole, config, workdir)


def _check_labels(workdir: epath.Path, task: str, needs_texts: bool) -> None:
  """Right answers are what a study compares."""
  labels = {
    split: [e.label for e in read_examples(setup.examples_path(workdir, split))]
    for split in ("train", "test")
  }
  if all(label is None for label in labels["test"]):
    raise UserError(
      f"a study compares right answers, but the test examples of {task} have no"
      " label; give the data labels, or use s2d pipeline"
    )
  if needs_texts and not any(isinstance(x, str) for x in labels["train"]):
    raise UserError(
      f"--controls has labels in it, but the training examples of {task} have"
      " none that is a text; name the other controls"
    )


def _run_control(
  config: ConfigDict, name: str, study: epath.Path, seed: int
) -> None:
  """A control of a run that is finished."""
  changed = trained_controls.apply(config, name)
  changed.retention.n = 0  # the run's own says what becomes of other tasks
  changed.evaluation.controls = False  # of the base model, and in the run

  def take_over(changed: ConfigDict, workdir: epath.Path) -> None:
    _share(config, studies.workdir_of(study, seed, RUN), changed, workdir)

  def learnt(changed: ConfigDict, workdir: epath.Path) -> None:
    nested.learn_from(changed, workdir, take_over)

  program.run_claimed(learnt, changed, studies.workdir_of(study, seed, name))


def _share(
  own: ConfigDict, run: epath.Path, changed: ConfigDict, control: epath.Path
) -> None:
  """Copies what a control has in common with its run, marks last."""
  nested.take_over(run, control, _in_common(own, changed))
  if not program.is_done(control, "evaluate base"):
    path = "eval/base.jsonl"
    rows = records.read(run / path)
    if changed.method != own.method:
      rows = (row for row in rows if row["method"] != own.method)
    records.write(control / path, rows)
    nested.copy(mark_of(run, "evaluate base"), control / "done")


def _in_common(own: ConfigDict, changed: ConfigDict) -> Iterator[Part]:
  """The stages whose files are the same for both."""
  yield nested.EXAMPLES
  # A run of labels has drawn no samples.
  if changed.method == own.method and own.curation.select != "label":
    yield from nested.samples(own.method)
    if changed.curation.select == own.curation.select:
      yield nested.selections(own.method)


def main() -> None:
  program.main(run, __doc__, ("controls", "seeds"), is_one_run=False)


if __name__ == "__main__":
  main()
