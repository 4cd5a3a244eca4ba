from __future__ import annotations

import json
import sys
import types

from etils import epath
import pytest

from s2d_jax import records, tracking
from s2d_jax.errors import UserError
from s2d_jax.metrics import Curve
from tests import events


def _draw(workdir, start, end, quiet=False):
  """Steps after `start`, as a stage writes them that goes on from there."""
  with Curve(workdir, "finetune", start, quiet) as curve:
    for step in range(start + 1, end + 1):
      line = {"step": step, "loss": 1 / step, "tokens": 50, "kept": None}
      curve.append(line)


def _killed_after(workdir, step):
  """A run that had come to step 7 when it was killed, saved at `step`."""
  _draw(workdir, 0, 7)
  path = workdir / "metrics" / "finetune.jsonl"
  path.write_text(path.read_text() + '{"step":8,"lo')
  _draw(workdir, step, 9)
  return list(records.read(path))


def _check(workdir, folder, lines):
  assert [line["step"] for line in lines] == list(range(1, 10))
  curves = events.read(folder)
  assert curves.pop("loss") == pytest.approx(
    {line["step"]: line["loss"] for line in lines}
  )
  # A step may take less than a millisecond, and then has no rate.
  rates = curves.pop("tokens_per_second", {})
  assert rates == pytest.approx(
    {r["step"]: 50 / r["seconds"] for r in lines if r["seconds"]}, rel=1e-5
  )
  assert not curves
  assert not list(epath.Path(folder).glob("*.tmp"))


def test_a_curve_that_goes_on_has_each_step_once(tmp_path):
  workdir = epath.Path(tmp_path)
  lines = _killed_after(workdir, 5)
  _check(workdir, tmp_path / "tensorboard" / "finetune", lines)


def test_a_curve_in_a_bucket(tmp_path, bucket):
  workdir = bucket.path / "run"
  lines = _killed_after(workdir, 5)
  for name, content in bucket.files(workdir / "tensorboard").items():
    path = epath.Path(tmp_path / name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
  _check(workdir, tmp_path / "finetune", lines)


def test_a_curve_that_begins_anew_has_nothing_of_the_old_one(tmp_path):
  workdir = epath.Path(tmp_path)
  _draw(workdir, 0, 7)
  _draw(workdir, 0, 2)
  found = events.read(tmp_path / "tensorboard" / "finetune")
  assert list(found["loss"]) == [1, 2]


def test_other_hosts_write_nothing(tmp_path):
  _draw(epath.Path(tmp_path), 0, 3, quiet=True)
  assert not list(tmp_path.iterdir())


def test_torch_is_not_loaded(tmp_path, monkeypatch):
  """Though there is one, and the library would like it."""
  for name in [n for n in sys.modules if n.partition(".")[0] == "tensorboardX"]:
    monkeypatch.delitem(sys.modules, name)
  (tmp_path / "torch.py").write_text("raise AssertionError('torch was loaded')")
  monkeypatch.syspath_prepend(str(tmp_path))
  _draw(epath.Path(tmp_path), 0, 1)
  assert "torch" not in sys.modules


# Weights & Biases.


class FakeRun:
  """A run as W&B keeps it: it may be opened again by its id."""

  def __init__(self):
    self.summary, self.rows, self.axes, self.codes = {}, [], {}, []

  def define_metric(self, name, step_metric):
    self.axes[name] = step_metric

  def log(self, row):
    self.rows.append(row)
    self.summary |= row

  def finish(self, exit_code):
    self.codes.append(exit_code)


@pytest.fixture
def wandb(monkeypatch):
  runs, calls = {}, []

  def init(**options):
    calls.append(options)
    return runs.setdefault(options["id"], FakeRun())

  module = types.SimpleNamespace(
    init=init,
    Settings=dict,
    errors=types.SimpleNamespace(Error=RuntimeError),
    runs=runs,
    calls=calls,
  )
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


def test_a_killed_run_stays_one_run_of_wandb(tmp_path, wandb):
  workdir = epath.Path(tmp_path / "letters")
  config = {"method": "rar2", "finetune": {"epochs": 2}}
  _draw(workdir, 0, 2)  # before anybody asked for W&B
  with tracking.wandb_run(workdir, config):
    _draw(workdir, 2, 4)
  with pytest.raises(KeyboardInterrupt), tracking.wandb_run(workdir, config):
    _draw(workdir, 4, 6)
    raise KeyboardInterrupt
  with tracking.wandb_run(workdir, config):
    _draw(workdir, 6, 8)
  _draw(workdir, 8, 9)
  (run,) = wandb.runs.values()
  assert [row["finetune/step"] for row in run.rows] == list(range(1, 9))
  assert [row["finetune/loss"] for row in run.rows] == [
    1 / step for step in range(1, 9)
  ]
  assert run.axes == {"finetune/*": "finetune/step"}
  assert run.codes == [0, 1, 0]
  assert {call["name"] for call in wandb.calls} == {"letters"}
  assert all(call["config"] == config for call in wandb.calls)
  assert all(call["resume"] == "allow" for call in wandb.calls)
  kept = json.loads((workdir / "metrics" / "wandb.json").read_text())
  assert list(wandb.runs) == [kept["id"]]


def test_two_workdirs_are_two_runs(tmp_path, wandb):
  for name in ("a", "b"):
    with tracking.wandb_run(epath.Path(tmp_path / name / "quickstart"), {}):
      pass
  assert len(wandb.runs) == 2


def test_wandb_that_is_not_installed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with (
    pytest.raises(UserError, match=r"pip install 's2d_jax\[wandb\]'"),
    tracking.wandb_run(epath.Path(tmp_path), {}),
  ):
    pass
  assert not list(tmp_path.iterdir())


def test_wandb_that_does_not_start(tmp_path, wandb, monkeypatch):
  def refuse(**options):
    raise RuntimeError("No API key configured.\n Use wandb login")

  monkeypatch.setattr(wandb, "init", refuse)
  with (
    pytest.raises(UserError, match="No API key configured. Use wandb login"),
    tracking.wandb_run(epath.Path(tmp_path), {}),
  ):
    pass


def test_wandb_itself_takes_a_run_offline(tmp_path, monkeypatch):
  wandb = pytest.importorskip("wandb")
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  workdir = epath.Path(tmp_path / "run")
  ids = []
  for start in (0, 3):
    with tracking.wandb_run(workdir, {"seed": 0}):
      _draw(workdir, start, start + 3)
    ids.append(json.loads((workdir / "metrics/wandb.json").read_text())["id"])
  wandb.teardown()  # ends the process that writes the files
  files = sorted(tmp_path.rglob("*.wandb"))
  assert len(set(ids)) == 1 and files
  assert {path.name for path in files} == {f"run-{ids[0]}.wandb"}
  assert all(path.stat().st_size > 500 for path in files)
