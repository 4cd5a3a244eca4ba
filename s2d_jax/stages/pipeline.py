"""The whole run: from prepare over sampling and fine-tuning to the report.

A stage that is done is skipped, and one that was killed goes on where it was:
just run the same command again.
"""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

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
  if not program.is_done(workdir, "finetune"):
    setup.check_devices(config)  # before hours of sampling, not behind them
  for stage in CURATION + LEARNING:
    stage(config, workdir)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
