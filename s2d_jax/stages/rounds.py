"""Distils again and again, each time with the model of the round before.

Each round is a run of all stages in a workdir of its own, WORKDIR/rounds/1 and
so on. After each its signs are read, which need no label; one that turns bad
ends the rounds. The page is WORKDIR/report/index.html.
"""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import rounds as pages, terminal
from s2d_jax.stages import nested, prepare, program, series, setup, signs
from s2d_jax.stages.series import Run, Series


def _are_wanted(config: ConfigDict) -> bool:
  """Whether a config is of several rounds, and not of one of them."""
  return config.rounds.count > 1 and not config.rounds.number


def _workdirs(config: ConfigDict, workdir: epath.Path) -> list[epath.Path]:
  numbers = range(1, config.rounds.count + 1)
  return [pages.folder_of(workdir, number) for number in numbers]


def _run_of(config: ConfigDict, workdir: epath.Path, place: int) -> Run:
  one = config.copy_and_resolve_references()
  one.rounds.number = place + 1
  return Run(one, pages.folder_of(workdir, place + 1))


def _report(workdir: epath.Path, done: Sequence[Run]) -> bool:
  """Writes the signs and the page, and prints the tables."""
  configs, folders = zip(*done, strict=True)
  following = pages.folder_of(workdir, len(done) + 1)
  found = pages.load(
    folders,
    signs.of_rounds(configs, folders),
    is_unfinished=program.is_done(following, "select"),
  )
  path = pages.write(found, workdir)
  tables = pages.lines(found), pages.sign_lines(found)
  terminal.print_series(found.answer, *tables)
  print(f"wrote {path}", flush=True)
  return bool(found.stopped)


def _check_valid(config: ConfigDict, workdir: epath.Path) -> None:
  use = "it is what their beliefs are held against"
  series.check_valid(SERIES, config, workdir, use)


def _take_over(config: ConfigDict, workdir: epath.Path) -> None:
  """The examples, and what was measured of the base model."""
  before = setup.round_before(config, workdir)
  assert before is not None  # the first has nobody to take over from
  parts = (
    nested.EXAMPLES,
    nested.EVALUATION_OF_BASE,
    nested.RETENTION_OF_BASE,
  )
  nested.take_over(before, workdir, parts)
  if config.rounds.thinker == "base" and not program.is_done(workdir, "sample"):
    # The same model draws the same samples, and then those that are missing.
    folder = f"samples/{config.method}"
    for path in sorted((before / folder).glob("part-*.jsonl")):
      if not (workdir / folder / path.name).exists():
        nested.copy(path, workdir / folder)


SERIES = Series(
  "rounds",
  setting="rounds.count",
  single=1,
  is_wanted=_are_wanted,
  workdirs=_workdirs,
  run_of=_run_of,
  checks={prepare.run: _check_valid},
  take_over=_take_over,
  report=_report,
)
