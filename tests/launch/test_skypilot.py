"""The task file of SkyPilot."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def task() -> dict:
  return yaml.safe_load((_ROOT / "launch" / "skypilot.yaml").read_text())


def test_skypilot_accepts_it(task):
  schemas = pytest.importorskip("sky.utils.schemas")
  jsonschema = pytest.importorskip("jsonschema")
  jsonschema.validate(task, schemas.get_task_schema())
  jsonschema.validate(task["resources"], schemas.get_resources_schema())


def test_the_software_is_that_of_the_launcher(task):
  accelerator = task["resources"]["accelerators"].removeprefix("tpu-")
  command = ["bash", _ROOT / "launch" / "tpu_vm.sh", f"--type={accelerator}"]
  command += ["--name=a", "--zone=z", "--project=p", "--dry-run", "--", "true"]
  printed = subprocess.run(command, capture_output=True, text=True, check=True)
  runtime = task["resources"]["accelerator_args"]["runtime_version"]
  assert f"--runtime-version={runtime} " in printed.stdout


def test_a_mistake_is_not_tried_again_and_a_lost_host_is(task):
  recovery = task["resources"]["job_recovery"]
  assert recovery["max_restarts_on_errors"] == 0
  assert 1 not in recovery["recover_on_exit_codes"]
  assert {134, 143} <= set(recovery["recover_on_exit_codes"])


def test_the_stage_is_told_of_the_other_hosts(task):
  """By the same command line as on a TPU VM."""
  assert "s2d pipeline --config=" in task["run"]
  assert task["run"].strip().endswith("--multihost")
  given = set(task["envs"]) | set(task["secrets"])
  assert {"CONFIG", "WORKDIR", "HF_TOKEN"} == given


@pytest.mark.parametrize("part", ["setup", "run"])
def test_its_scripts_are_clean(task, part):
  shellcheck = shutil.which("shellcheck") or shutil.which(
    "shellcheck", path=str(pathlib.Path(sys.executable).parent)
  )
  if shellcheck is None:
    pytest.skip("shellcheck is not installed")
  done = subprocess.run(
    [shellcheck, "--shell=bash", "-"],
    input=task[part],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout
