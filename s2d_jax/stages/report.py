"""Shows: report/index.html, results.md, results.json and pictures."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program, setup


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Builds the report from the files of the run and prints its table."""
  task = setup.task_of(config)
  page = report.build(workdir, task.plain, task.biased)
  terminal.print_results(workdir, task.biased)
  print(f"report: {page}", flush=True)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
