from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

from etils import epath
import pytest
from rich.console import Console

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.stages import status
from tests.reporting.fake_run import FakeRun

_ROOT = pathlib.Path(__file__).parents[2]


def _stages(workdir) -> dict[str, status.Stage]:
  return {stage.name: stage for stage in status.inspect_run(workdir)}


def _printed(workdir) -> str:
  console = Console(width=120)
  with console.capture() as captured:
    status.show(workdir, status.inspect_run(workdir), console)
  return captured.get()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
  return FakeRun().write(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def sampling(made, tmp_path) -> pathlib.Path:
  """A run of two hosts that is sampling, an hour and 70 samples in."""
  workdir = tmp_path / "run"
  for name in ("config.json", "examples", "samples"):
    copy = shutil.copytree if (made / name).is_dir() else shutil.copy
    workdir.mkdir(exist_ok=True)
    copy(made / name, workdir / name)
  folder = workdir / "samples" / "s2a"
  (whole,) = folder.iterdir()
  lines = whole.read_bytes().splitlines(keepends=True)
  whole.unlink()
  for index, (start, end) in enumerate([(0, 40), (40, 70)]):
    path = folder / f"part-0000{index}-of-00002.jsonl"
    half = '{"example_id":"Perú'.encode()[:-1]  # in the middle of a letter
    path.write_bytes(b"".join(lines[start:end]) + half)
  # Before it stood still it decided 2 examples of its 40 in 1800 seconds.
  curve = [
    {"step": 10, "examples": 1, "of": 40, "kept": 1.0, "seconds": 9000},
    {"step": 20, "examples": 2, "of": 40, "kept": 0.75, "seconds": 900},
    {"step": 40, "examples": 3, "of": 40, "kept": 0.625, "seconds": 900},
  ]
  records.write(workdir / "metrics" / "sample.jsonl", curve)
  with (workdir / "metrics" / "sample.jsonl").open("a") as file:
    file.write('{"step": 41, "ex')
  mark = json.dumps({"summary": "made [them]", "seconds": 3725.4})
  records.write_text(workdir / "done" / "prepare.json", mark)
  return workdir


def test_a_run_that_samples(sampling):
  stages = _stages(sampling)
  assert stages["prepare"].state == "done"
  assert stages["prepare"].seconds == 3725.4
  sample = stages["sample"]
  assert sample.state == "running" and 0 <= sample.changed < 600
  assert sample.summary == (
    "70 samples in 2 shards, 3 of 40 examples decided, kept 62%"
  )
  assert (sample.done, sample.total) == (3, 40)
  assert sample.left == pytest.approx(37 * 900)
  later = [s for s in stages if s not in ("prepare", "sample")]
  assert {stages[name].state for name in later} == {"not begun"}
  assert status.next_stage(list(stages.values())) == "sample"
  told = _printed(sampling)
  for part in ("made [them]", "1:02:05", "9:15:00", "s2d sample"):
    assert part in told


def test_a_run_that_was_stopped_has_no_time_left(sampling):
  for path in sampling.rglob("*"):
    os.utime(path, (1.7e9, 1.7e9))
  sample = _stages(sampling)["sample"]
  assert sample.state == "quiet" and sample.left is None
  assert "days" not in sample.summary and " d " in _printed(sampling)


def test_a_run_in_a_bucket(sampling, bucket):
  bucket.fill(sampling)
  here, there = _stages(sampling), _stages(bucket.path)
  assert there["sample"].summary == here["sample"].summary
  assert [s.state for s in there.values()] == [s.state for s in here.values()]


def test_a_fine_tune_and_an_evaluation_under_way(made, tmp_path):
  workdir = shutil.copytree(made, tmp_path / "run")
  path = workdir / "metrics" / "finetune.jsonl"
  first, *rest = records.read(path)
  records.write(path, [first | {"total_steps": 60}, *rest])
  (workdir / "checkpoints" / "32").mkdir(parents=True)
  base = list(records.read(workdir / "eval" / "base.jsonl"))
  (workdir / "eval" / "base.jsonl").unlink()
  (workdir / "done" / "evaluate_base.json").unlink()
  for index in range(2):
    part = workdir / "eval" / "base" / f"part-0000{index}-of-00002.jsonl"
    records.write(part, base[index * 20 : index * 20 + 20])
  stages = _stages(workdir)
  tuning = stages["finetune"]
  losses = [line["valid_loss"] for line in rest if "valid_loss" in line]
  assert tuning.summary == (
    f"step 40 of 60, loss {rest[-1]['loss']:.4f}, validation loss"
    f" {losses[-1]:.4f}, saved at 32"
  )
  assert tuning.left == pytest.approx(20 * 0.9)
  # 48 examples in 4 variants by 2 methods.
  assert stages["evaluate base"].summary == f"40 of {48 * 4 * 2} rows"


def test_a_run_of_an_older_version(made):
  """Its metrics do not say how many steps there will be."""
  tuning = _stages(made)["finetune"]
  assert tuning.summary.startswith("step 40, loss") and tuning.left is None


def test_a_whole_run(finished, tmp_path):
  stages = _stages(finished)
  assert {stage.state for stage in stages.values()} == {"done"}
  assert len(stages) == len(list((finished / "done").iterdir()))
  for name, stage in stages.items():
    mark = finished / "done" / f"{name.replace(' ', '_')}.json"
    assert json.loads(mark.read_text())["summary"] == stage.summary
  assert f"{finished}/report/index.html" in _printed(finished)

  part = epath.Path(
    shutil.copytree(finished, tmp_path / "part", copy_function=shutil.copy)
  )  # written just now, however long the tests have taken
  for name in ("finetune", "evaluate_distilled", "report"):
    (part / "done" / f"{name}.json").unlink()
  for name in ("report", "eval/distilled.jsonl"):
    found = part / name
    found.rmtree() if found.is_dir() else found.unlink()
  stages = _stages(part)
  states = {n: s.state for n, s in stages.items() if s.state != "done"}
  assert states == {
    "finetune": "running",
    "evaluate distilled": "not begun",
    "report": "not begun",
  }
  steps = list(records.read(part / "metrics" / "finetune.jsonl"))[-1]["step"]
  assert stages["finetune"].summary.startswith(f"step {steps} of {steps}, loss")
  assert status.next_stage(list(stages.values())) == "finetune"


def test_the_program_touches_no_device(made):
  """There is none of the kind that JAX is told to use."""
  shown = subprocess.run(
    [sys.executable, "-m", "s2d_jax.cli", "status", f"--workdir={made}"]
    + ["--json"],
    env=os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "abacus"},
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert shown.returncode == 0, shown.stderr
  told = json.loads(shown.stdout)
  assert told["next"] == "select" and told["workdir"] == str(made)
  states = {stage["name"]: stage["state"] for stage in told["stages"]}
  assert states["curate"] == "done" and states["report"] == "not begun"


@pytest.mark.parametrize(
  "content, named",
  [(None, "no config.json"), ("{", "settings"), ("[]", "settings")],
)
def test_a_folder_that_is_no_run(tmp_path, content, named):
  if content is not None:
    (tmp_path / "config.json").write_text(content)
  with pytest.raises(UserError, match=named):
    status.inspect_run(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match="none does not exist"):
    status.inspect_run(tmp_path / "none")
