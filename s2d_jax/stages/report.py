"""Writes the report: report/index.html, results.md, two .json files, plots.

s2d report --config=FILE --workdir=FOLDER     the report of a run, made again
s2d report --compare runs/a runs/b …          finished runs side by side
                                              (--out=FILE: compare/index.html)
"""

from __future__ import annotations

import sys

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program, setup
from s2d_jax.tasks.task import Task, read_examples


@program.stage("report")
def build(config: ConfigDict, workdir: epath.Path) -> str:
  """Builds the report from the files of the run."""
  task = setup.task_of(config)
  test_prompts = _test_prompts(config, workdir, task)
  why_no_shots = setup.why_no_shots(config, task)
  path = report.build(
    workdir, task.plain, task.biased, test_prompts, why_no_shots
  )
  return str(path)


def _test_prompts(
  config: ConfigDict, workdir: epath.Path, task: Task
) -> list[str]:
  """The direct prompts of the test split, as texts."""
  path = setup.examples_path(workdir, "test")
  if not path.exists():
    return []
  prompt = setup.prompts_of(config, task, "system1")["system1"]
  return [
    "\n".join(message["content"] for message in messages)
    for example in read_examples(path)
    for variant in task.variants
    if (messages := prompt.messages(**task.fields(example, variant)))
  ]


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
    program.main(run, __doc__)
    return
  from s2d_jax.stages import compare  # whose flags are others

  sys.argv = compare.join_workdirs(sys.argv)
  compare.main()


if __name__ == "__main__":
  main()
