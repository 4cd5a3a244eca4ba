"""The whole run: from prepare over sampling and fine-tuning to the report.

A stage that is done is skipped, and one that was killed goes on where it was:
just run the same command again. With config.rounds.count=2 or more it is run
again with what it has made (docs/rounds.md), with config.internalise.stages=1
or more to teach ever less of a thought (docs/internalise.md).
"""

from __future__ import annotations

from collections.abc import Mapping

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

# What is looked at once a stage is through: UserError if the run cannot go on.
Checks = Mapping[program.Stage, program.Stage]


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Runs the stages in one process; they share the model while they can."""
  run_checked(config, workdir, {})


def run_checked(
  config: ConfigDict, workdir: epath.Path, checks: Checks
) -> None:
  """The same; what some stages have made is checked on the first host.

  Args:
    config: of the run.
    workdir: its folder.
    checks: by stage.
  """
  if not program.is_done(workdir, "finetune"):
    setup.check_devices(config)  # before hours of sampling, not behind them
  for stage in CURATION + LEARNING:
    stage(config, workdir)
    if stage in checks and hosts.is_lead():
      checks[stage](config, workdir)


def main() -> None:
  from s2d_jax.stages import several  # runs of these stages

  program.main(several.run, __doc__, is_one_run=False)


if __name__ == "__main__":
  main()
