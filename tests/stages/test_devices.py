"""A run on any number of devices, also where nothing divides over all."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from s2d_jax import records

_ROOT = pathlib.Path(__file__).parents[2]
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
  ended = subprocess.run(
    [
      *(sys.executable, "-m", "s2d_jax.cli", "pipeline"),
      f"--config={config_file}",
      f"--workdir={workdir}",
      f"--config.finetune.batch_rows={_ROWS}",
      "--config.finetune.warmup_steps=0",
    ],
    cwd=_ROOT,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  idle = f"finetune: on {used} of {devices} devices, since"
  assert (idle in ended.stdout) is (used < devices)
  first, *updates = records.read(workdir / "metrics" / "finetune.jsonl")
  assert updates[-1]["valid_loss"] < first["valid_loss"]
  assert (workdir / "report" / "index.html").exists()
