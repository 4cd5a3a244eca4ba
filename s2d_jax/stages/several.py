"""What a config asks for: a single run, or several in one workdir."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.errors import UserError
from s2d_jax.stages import internalise, pipeline, program, rounds, series
from s2d_jax.stages.series import Series

_SERIES = (rounds.SERIES, internalise.SERIES)


def series_of(config: ConfigDict) -> Series | None:
  """None for a single run, and for one of several."""
  return next((one for one in _SERIES if one.is_wanted(config)), None)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Runs what is missing."""
  if several := series_of(config):
    series.make(several, config, workdir)
  else:
    program.run_claimed(pipeline.run, config, workdir)


def report(
  config: ConfigDict, workdir: epath.Path, report_run: program.Stage
) -> None:
  """Writes the page again, of the finished runs or of a single one."""
  if several := series_of(config):
    series.report(several, config, workdir)
    return
  if not workdir.exists():
    raise UserError(
      f"{workdir} is not there, so there is nothing to report; is it the"
      " --workdir of a run?"
    )
  program.run_claimed(report_run, config, workdir)
