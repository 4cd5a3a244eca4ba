"""The whole run: from prepare over sampling and fine-tuning to the report.

A stage that is done is skipped, and one that was killed goes on where it was:
just run the same command again. With config.rounds.count=2 or more it is run
again with what it has made (docs/rounds.md).
"""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.parallel import hosts
from s2d_jax.stages import (
  curate,
  evaluate,
  finetune,
  gate,
  prepare,
  program,
  report,
  retention,
  sample,
  select,
  setup,
)

# Up to what is taught, and from there on.
CURATION = (prepare.run, sample.run, select.run, curate.run)
LEARNING = (
  evaluate.run_valid,
  evaluate.run_base,
  retention.run_base,
  finetune.run,
  evaluate.run_distilled,
  gate.run,  # while the distilled model is loaded
  retention.run_distilled,
  report.build,
  report.show,
)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Runs the stages in one process; they share the model while they can."""
  run_checked(config, workdir, lambda *unused: None)


def run_checked(
  config: ConfigDict, workdir: epath.Path, check_examples: program.Stage
) -> None:
  """The same; the examples are checked on the first host once they are there.

  Args:
    config: of the run.
    workdir: its folder.
    check_examples: raises UserError if the run cannot have such examples.
  """
  if not program.is_done(workdir, "finetune"):
    setup.check_devices(config)  # before hours of sampling, not behind them
  for stage in CURATION + LEARNING:
    stage(config, workdir)
    if stage is prepare.run and hosts.is_lead():
      check_examples(config, workdir)


def main() -> None:
  from s2d_jax.stages import rounds  # each of which is a run of these stages

  program.main(rounds.run, __doc__, is_one_run=False)


if __name__ == "__main__":
  main()
