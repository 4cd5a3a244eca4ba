"""Writes the report: report/index.html, results.md, two .json files, plots.

s2d report --config=FILE --workdir=FOLDER     the report of a run, made again;
                                              of several, all side by side
s2d report --compare runs/a runs/b …          finished runs side by side
                                              (--out=FILE: compare/index.html)
"""

from __future__ import annotations

import functools
import sys

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program, seen, setup


@program.stage("report")
def build(config: ConfigDict, workdir: epath.Path) -> str:
  """Builds the report from the files of the run."""
  task = setup.task_of(config)
  path = report.build(
    workdir,
    task.plain,
    task.biased,
    seen.of_run(config, workdir, task),
    setup.why_no_shots(config, task),
    setup.has_shots(config, task),
  )
  return str(path)


def show(config: ConfigDict, workdir: epath.Path) -> None:
  """Prints the table of results."""
  terminal.print_results(workdir, setup.task_of(config).biased)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Builds the report, again if it is there already, and prints its table."""
  program.unmark(workdir, "report")
  build(config, workdir)
  show(config, workdir)


def main() -> None:
  """One run, or several where the line has --compare."""
  names = {argument.lstrip("-").partition("=")[0] for argument in sys.argv[1:]}
  if "compare" not in names:
    from s2d_jax.stages import several  # runs that end with this stage

    start = functools.partial(several.report, report_run=run)
    program.main(start, __doc__, is_one_run=False)
    return
  from s2d_jax.stages import compare  # whose flags are others

  sys.argv = compare.join_workdirs(sys.argv)
  compare.main()


if __name__ == "__main__":
  main()
