"""A whole run of two hosts, killed, in a bucket that fails now and then.

What it leaves is what one host leaves on a disk, and whatever reads a run can
read it there.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import subprocess
import sys
import time

import pytest

from s2d_jax import records
from s2d_jax.checkpoints import pretrained, train_state
from tests.faulty_proxy import Fault
from tests.processes import Processes

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).parents[2]
_KILLS = 3
_PIPELINE = """
import jax
from s2d_jax.reporting import plots
from s2d_jax.stages import pipeline
jax.clear_caches = lambda: None
plots.render = lambda *unused: b"a plot"
pipeline.main()
"""


def _every(count: int):
  """Each so many requests another fault."""
  numbers = itertools.count(1)
  kinds = itertools.cycle(
    [
      Fault(status=503),
      Fault(drops=True),
      Fault(seconds=1.0),
      Fault(cuts=True),
      Fault(status=429),
    ]
  )
  return lambda *_: next(kinds) if next(numbers) % count == 0 else None


@pytest.fixture(scope="module")
def run(bucket_server, config_file, finished, cache):
  """The bucket with the run."""
  with pytest.MonkeyPatch.context() as patch:
    for name, value in bucket_server.environ.items():
      patch.setenv(name, value)
    made = bucket_server.make()
    bucket_server.faults = _every(100)
    flags = [f"--config={config_file}", f"--workdir={made.path}"]
    moments = random.Random(0)
    for _ in range(_KILLS):
      hosts = Processes(2, _PIPELINE, flags)
      time.sleep(moments.uniform(5, 25))
      for index in range(2):
        hosts.kill(index)
    ended = Processes(2, _PIPELINE, flags).wait(500)
    assert [one.status for one in ended] == [0, 0], ended
    bucket_server.faults = None
    yield made


def _records(content: bytes) -> list[dict]:
  return [json.loads(line) for line in content.splitlines()]


def test_nothing_is_lost_and_nothing_doubled(run, finished):
  there = run.files()
  names = {
    path.relative_to(finished).as_posix()
    for folder in ("examples", "distill", "eval")
    for path in (finished / folder).iterdir()
  }
  kept = ("examples/", "distill/", "eval/")
  assert {name for name in there if name.startswith(kept)} == names
  # Two hosts sum gradients in another order than one.
  for name in [name for name in names if "distilled" not in name]:
    assert there[name] == (finished / name).read_bytes(), name
  parts = [name for name in there if name.startswith("samples/s2a/part-")]
  assert parts == [
    f"samples/s2a/part-0000{index}-of-00002.jsonl" for index in range(2)
  ]
  made = [record for name in parts for record in _records(there[name])]
  samples = finished / "samples" / "s2a" / "part-00000-of-00001.jsonl"
  key = lambda r: (r["example_id"], r["variant"], r["sample"])
  same = [r["reply"] for r in sorted(records.read(samples), key=key)]
  assert [r["reply"] for r in sorted(made, key=key)] == same
  assert not [name for name in there if name.endswith(".tmp")]


def test_it_learns_what_it_learns_on_a_disk(run, finished):
  losses = _records(run.files()["metrics/finetune.jsonl"])
  same = list(records.read(finished / "metrics" / "finetune.jsonl"))
  assert [row["step"] for row in losses] == [row["step"] for row in same]
  for name in ("loss", "valid_loss"):
    wanted = [row[name] for row in same if name in row]
    found = [row[name] for row in losses if name in row]
    assert found == pytest.approx(wanted, 1e-5)


def test_its_parameters_have_a_fingerprint(run):
  paths = train_state.params_files(run.path / "checkpoints")
  assert paths and all(path.exists() for path in paths)
  assert pretrained.identity(run.path)["weights"]


def _s2d(command: str, *flags: str, typed: str = "") -> str:
  """What a command prints, as users start it."""
  ended = subprocess.run(
    [sys.executable, "-m", "s2d_jax.cli", command, *flags],
    cwd=_ROOT,
    input=typed,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.returncode == 0, ended.stderr
  return ended.stdout


def test_one_chats_with_it(run):
  said = _s2d("chat", f"--model={run.path}", typed="What is it?\n")
  for who in ("base, System 1", "base, System 2 (s2a)", "distilled, System 1"):
    assert who in said


def test_it_is_converted_as_from_a_disk(run, tmp_path):
  for name, content in run.files().items():
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  for model, out in ((run.path, "there"), (tmp_path / "run", "here")):
    said = _s2d("convert", f"--model={model}", f"--out={tmp_path / out}")
    assert "43,936 parameters" in said
  there = sorted((tmp_path / "there").iterdir())
  assert "model.safetensors" in [path.name for path in there]
  for path in there:
    assert path.read_bytes() == (tmp_path / "here" / path.name).read_bytes()


def test_its_status_and_report_are_shown(run, config_file, finished):
  said = _s2d("status", f"--workdir={run.path}")
  assert f"Everything is done: {run.path}/report/index.html" in said
  before = run.files(run.path / "report")
  same = (finished / "report" / "results.json").read_bytes()
  assert json.loads(before["results.json"]) == json.loads(same)
  said = _s2d("report", f"--config={config_file}", f"--workdir={run.path}")
  assert "System 2, vote" in said
  assert run.files(run.path / "report")["results.md"] == before["results.md"]
