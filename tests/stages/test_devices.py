"""A run on any number of devices, also where nothing divides over all."""

from __future__ import annotations

import shutil

import pytest

from s2d_jax import records
from tests import processes

_PROGRAM = """
from s2d_jax.reporting import plots
from s2d_jax.stages import pipeline
plots.render = lambda *unused: b"a plot"  # those of every report
pipeline.main()
"""
_ROWS = 3  # as the quickstart has; with 2 key-value heads


@pytest.mark.parametrize(
  "devices, used",
  [
    (2, 2),
    (3, 3),
    # The fine-tune of three devices, and one that is idle as two of eight are.
    pytest.param(4, 3, marks=pytest.mark.slow),
    (8, 6),
  ],
)
def test_a_run_ends_on_any_number_of_devices(
  devices, used, finished, config_file, cache, tmp_path
):
  """The fine-tune of a run, and all that comes after it.

  What comes before is the same engine. That of one device is `finished` itself.
  """
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  (workdir / "config.json").unlink()
  for path in ("checkpoints", "metrics", "report"):
    shutil.rmtree(workdir / path)
  again = ("finetune", "evaluate_distilled", "retention_distilled", "report")
  for name in again:
    (workdir / "done" / f"{name}.json").unlink()
  for path in (workdir / "eval").glob("*distilled.jsonl"):
    path.unlink()
  ended = processes.run(
    _PROGRAM,
    [
      f"--config={config_file}",
      f"--workdir={workdir}",
      f"--config.finetune.batch_rows={_ROWS}",
      "--config.finetune.warmup_steps=0",
      # Chosen for as many devices as there are.
      "--config.finetune.accumulate=0",
      "--config.sampling.batch_rows=0",
    ],
    JAX_NUM_CPU_DEVICES=str(devices),
  )
  assert ended.status == 0, ended.err
  idle = f"finetune: on {used} of {devices} devices, since"
  assert (idle in ended.out) is (used < devices)
  assert "finetune.accumulate: 1, each of 3 rows" in ended.out
  assert "sampling.batch_rows: " in ended.out
  first, *updates = records.read(workdir / "metrics" / "finetune.jsonl")
  assert updates[-1]["valid_loss"] < first["valid_loss"]
  assert (workdir / "report" / "index.html").exists()
