"""Shows: report/index.html, results.md, results.json and pictures."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program, setup


@program.stage("report")
def build(config: ConfigDict, workdir: epath.Path) -> str:
  """Builds the report from the files of the run."""
  task = setup.task_of(config)
  return str(report.build(workdir, task.plain, task.biased))


def show(config: ConfigDict, workdir: epath.Path) -> None:
  """Prints the table of results."""
  terminal.print_results(workdir, setup.task_of(config).biased)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Builds the report, anew if it is there already, and prints its table."""
  program.forget(workdir, "report")
  build(config, workdir)
  show(config, workdir)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
