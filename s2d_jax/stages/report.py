"""Shows: report/index.html, results.md, results.json and pictures."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Builds the report from the files of the run and prints its table."""
  page = report.build(workdir)
  terminal.print_results(workdir)
  print(f"report: {page}", flush=True)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
