"""Distils again and again, each time with the model of the round before.

Each round is a run of all stages in a workdir of its own, WORKDIR/rounds/1 and
so on. After each its signs are read, which need no label; one that turns bad
ends the rounds. The page is WORKDIR/report/index.html.
"""

from __future__ import annotations

from collections.abc import Iterator
import itertools

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.reporting import rounds as pages, terminal
from s2d_jax.reporting.rounds import Rounds
from s2d_jax.stages import nested, pipeline, program, setup, signs
from s2d_jax.stages.nested import Part


def are_wanted(config: ConfigDict) -> bool:
  """Whether a config is of several rounds, and not of one of them."""
  return config.rounds.count > 1 and not config.rounds.number


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Runs what is missing until a sign is bad; a single run without rounds."""
  if not are_wanted(config):
    program.run_claimed(pipeline.run, config, workdir)
    return
  if (workdir / "config.json").exists():
    raise UserError(
      f"{workdir} holds a single run; rounds are runs in a workdir of their"
      " own, so use another --workdir, or set rounds.count=1"
    )
  for one, folder in _rounds(config, workdir):
    number, most = one.rounds.number, config.rounds.count
    print(f"rounds: {number} of at most {most}", flush=True)
    program.run_claimed(_run_round, one, folder)
    config.model.date = one.model.date
    setup.release()
    is_over = hosts.is_lead() and _is_over(config, workdir, number)
    if hosts.lead_value("rounds", is_over):
      return


def _is_over(config: ConfigDict, workdir: epath.Path, number: int) -> bool:
  """Whether a round that has ended is the last; writes the page."""
  following = pages.folder_of(workdir, number + 1)
  if number < config.rounds.count and program.is_done(following, "report"):
    return False  # it was not
  found = _report(config, workdir)
  return bool(found.stopped) or number > len(found.rows)


def report(
  config: ConfigDict, workdir: epath.Path, report_run: program.Stage
) -> None:
  """Writes the page again, of the finished rounds or of a single run."""
  if not are_wanted(config):
    program.run_claimed(report_run, config, workdir)
    return
  for one, folder in _finished(config, workdir):
    program.claim_workdir(one, folder)
  if hosts.is_lead():
    _report(config, workdir)


def _report(config: ConfigDict, workdir: epath.Path) -> Rounds:
  """Writes the signs and the page, and prints the tables."""
  done = list(_finished(config, workdir))
  if not done:
    raise UserError(
      f"no round of {workdir} is finished; let s2d pipeline make the first"
    )
  configs, folders = zip(*done, strict=True)
  following = pages.folder_of(workdir, len(done) + 1)
  found = pages.load(
    folders,
    signs.of_rounds(configs, folders),
    is_unfinished=program.is_done(following, "select"),
  )
  path = pages.write(found, workdir)
  terminal.print_rounds(found)
  print(f"wrote {path}", flush=True)
  return found


def _finished(
  config: ConfigDict, workdir: epath.Path
) -> Iterator[tuple[ConfigDict, epath.Path]]:
  """Those with a report, up to the first without."""
  return itertools.takewhile(
    lambda found: program.is_done(found[1], "report"), _rounds(config, workdir)
  )


def _rounds(
  config: ConfigDict, workdir: epath.Path
) -> Iterator[tuple[ConfigDict, epath.Path]]:
  """The config and the workdir of each; they share the date of the first."""
  for number in range(1, config.rounds.count + 1):
    one = config.copy_and_resolve_references()
    one.rounds.number = number
    yield one, pages.folder_of(workdir, number)


def _run_round(config: ConfigDict, workdir: epath.Path) -> None:
  if nested.is_finished(config, workdir):
    return
  before = setup.round_before(config, workdir)
  if before is None:
    pipeline.run_checked(config, workdir, _check_valid)
    return
  if hosts.is_lead():
    _take_over(config, before, workdir)
  hosts.barrier("shared")
  nested.learn(config, workdir)


def _check_valid(config: ConfigDict, workdir: epath.Path) -> None:
  path = setup.examples_path(workdir, "valid")
  if not any(records.read(path)):
    raise UserError(
      f"{path} has no examples, and rounds need a validation split: it is what"
      f" their beliefs are held against; give the task {config.task.name} some,"
      " or set rounds.count=1"
    )


def _take_over(
  config: ConfigDict, before: epath.Path, workdir: epath.Path
) -> None:
  """What is the same in every round: the examples, and the base model's."""
  parts = [
    Part("prepare", "examples", "*.jsonl"),
    Part("evaluate base", "eval", "base.jsonl"),
    Part("retention base", "eval", "retention-base.jsonl"),
  ]
  nested.take_over(before, workdir, parts)
  if config.rounds.thinker == "base" and not program.is_done(workdir, "sample"):
    # The same model draws the same samples, and then those that are missing.
    folder = f"samples/{config.method}"
    for path in sorted((before / folder).glob("part-*.jsonl")):
      if not (workdir / folder / path.name).exists():
        nested.copy(path, workdir / folder)
