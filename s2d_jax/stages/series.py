"""Runs that follow from each other, each in a workdir in the workdir of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.stages import nested, pipeline, program, setup


class Run(NamedTuple):
  """One of several: its settings, and its own workdir."""

  config: ConfigDict
  workdir: epath.Path


@dataclasses.dataclass(frozen=True)
class Series:
  """Runs that follow from each other, in the workdir of all.

  Attributes:
    name: what they are, as "rounds".
    setting: how many a config is of.
    single: its value for a single run.
    is_wanted: whether a config is of all of them, and not of one.
    workdirs: of each, in their order.
    run_of: one by its place in that order; those before it are finished.
    checks: of the first, which is a whole run.
    take_over: copies what a later one has in common with those before it.
    report: writes the page of the finished ones in the workdir of all; whether
      no other one is to be made.
  """

  name: str
  setting: str
  single: int
  is_wanted: Callable[[ConfigDict], bool]
  workdirs: Callable[[ConfigDict, epath.Path], Sequence[epath.Path]]
  run_of: Callable[[ConfigDict, epath.Path, int], Run]
  checks: pipeline.Checks
  take_over: program.Stage
  report: Callable[[epath.Path, Sequence[Run]], bool]

  def count(self, config: ConfigDict) -> int:
    """The setting's value."""
    section, name = self.setting.split(".")
    return config[section][name]


def make(series: Series, config: ConfigDict, workdir: epath.Path) -> None:
  """Makes what is missing; all have the date of the first."""
  if (workdir / "config.json").exists():
    raise UserError(
      f"{workdir} holds a single run; {series.name} are runs in a workdir of"
      " their own, so use another --workdir, or set"
      f" {series.setting}={series.single}"
    )
  workdirs = series.workdirs(config, workdir)
  for place in range(len(workdirs)):
    one = series.run_of(config, workdir, place)
    print(f"{series.name}: {place + 1} of at most {len(workdirs)}", flush=True)
    make_one = functools.partial(_make_one, series, is_first=place == 0)
    program.run_claimed(make_one, *one)
    config.model.date = one.config.model.date
    setup.release()
    is_over = hosts.is_lead() and _is_over(series, config, workdir, place)
    if hosts.lead_value(series.name, is_over):
      return


def _make_one(
  series: Series, config: ConfigDict, workdir: epath.Path, is_first: bool
) -> None:
  if not is_first:
    nested.learn_from(config, workdir, series.take_over)
  elif not nested.is_finished(config, workdir):
    pipeline.run_checked(config, workdir, series.checks)


def _is_over(
  series: Series, config: ConfigDict, workdir: epath.Path, place: int
) -> bool:
  """Whether none is to follow this one; writes the page."""
  following = series.workdirs(config, workdir)[place + 1 : place + 2]
  if any(program.is_done(one, "report") for one in following):
    return False  # it was made
  done = list(_finished(series, config, workdir))
  return series.report(workdir, done) or place >= len(done)


def report(series: Series, config: ConfigDict, workdir: epath.Path) -> None:
  """Writes the page again, of those that are finished."""
  done = list(_finished(series, config, workdir))
  if not done:
    raise UserError(
      f"no run in {workdir} is finished; let s2d pipeline make the first"
    )
  for one in done:
    program.claim_workdir(*one)
  if hosts.is_lead():
    series.report(workdir, done)


def _finished(
  series: Series, config: ConfigDict, workdir: epath.Path
) -> Iterator[Run]:
  """Those with a report, up to the first without."""
  for place, one in enumerate(series.workdirs(config, workdir)):
    if not program.is_done(one, "report"):
      return
    yield series.run_of(config, workdir, place)


def check_valid(
  series: Series, config: ConfigDict, workdir: epath.Path, use: str
) -> None:
  """Raises UserError without validation examples; `use` says what for."""
  path = setup.examples_path(workdir, "valid")
  if not any(records.read(path)):
    raise UserError(
      f"{path} has no examples, and {series.name} need a validation split:"
      f" {use}; give the task {config.task.name} some, or set"
      f" {series.setting}={series.single}"
    )
