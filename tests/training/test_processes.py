"""A fine-tune over several processes is the fine-tune of one.

Sums over devices come in another order, so losses agree to a few units in the
last place of float32 and drift apart no faster than the updates grow them: to
1e-5 over the ten updates here.
"""

from __future__ import annotations

import shutil
import signal

import numpy as np
import pytest

from tests.processes import Processes
from tests.training import test_trainer as trainer_tests

_PROGRAM = """
import os, signal, sys, time
import jax
from s2d_jax.errors import Preempted
from s2d_jax.parallel import hosts
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.training import step as steps
from tests.training import test_trainer

options = dict(part.lstrip("-").split("=") for part in sys.argv[1:])
hosts._HEARTBEAT_SECONDS = 6
hosts.initialize(
  options["coordinator"],
  int(options["num_processes"]),
  int(options["process_id"]),
)
put_rows, made = steps.put_rows, []  # validation puts two batches as well

def put_and_perhaps_die(rows, *rest):
  made.append(len(rows.tokens) == test_trainer.CONFIG.batch_rows)
  time.sleep(float(options.get("pause", 0)))
  if sum(made) == int(options.get("at", 0)):
    os.kill(os.getpid(), getattr(signal, options["signal"]))
  return put_rows(rows, *rest)

steps.put_rows = put_and_perhaps_die
try:
  mesh = make_mesh(fsdp=jax.device_count())
  summary = test_trainer.run(
    options["workdir"], mesh, async_save=True, epochs=int(options["epochs"])
  )
  print(summary.step, summary.valid_loss)
except Preempted as notice:
  print(notice)
  hosts.fail(str(notice), 143)
"""


def start(workdir, count: int, more=None, epochs=2, pause=0) -> Processes:
  flags = [f"--workdir={workdir}", f"--epochs={epochs}", f"--pause={pause}"]
  return Processes(count, _PROGRAM, flags, more)


def assert_same_curve(workdir, whole) -> None:
  _, summary, curve = whole
  found = trainer_tests.lines(workdir)
  assert [line["step"] for line in found] == [line["step"] for line in curve]
  for one, several in zip(curve, found, strict=True):
    assert one.keys() == several.keys()
    for name, value in one.items():
      np.testing.assert_allclose(
        value, several[name], atol=1e-5, err_msg=f"{one['step']} {name}"
      )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The run of one process on one device."""
  workdir = tmp_path_factory.mktemp("one")
  return workdir, trainer_tests.run(workdir), trainer_tests.lines(workdir)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
  """Two processes; the second was killed in the middle, the first ended."""
  workdir = tmp_path_factory.mktemp("killed")
  die = {1: ["--signal=SIGKILL", "--at=8"]}
  ended = start(workdir, 2, die).wait(100)
  assert ended[1].status == -signal.SIGKILL and ended[0].status != 0
  stopped = trainer_tests.lines(workdir)[-1]["step"]
  assert 2 <= stopped < 10
  return workdir


def test_two_processes_follow_the_curve_of_one(whole, tmp_path):
  ended = start(tmp_path, 2).wait()
  assert [one.status for one in ended] == [0, 0], ended
  assert_same_curve(tmp_path, whole)
  # Every process ends with the same summary.
  last = [one.out.splitlines()[-1] for one in ended]
  assert last[0] == last[1]
  assert last[0].split()[0] == str(whole[1].step)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_killed_it_goes_on_with_any_number_of_processes(
  whole, killed, tmp_path, count
):
  """They also agree on which checkpoint is whole, and say it once."""
  workdir = shutil.copytree(killed, tmp_path / "rest")
  (workdir / "checkpoints" / "99").mkdir()
  ended = start(workdir, count).wait()
  assert {one.status for one in ended} == {0}, ended
  said = [one.out.count("the fine-tune goes on from step") for one in ended]
  assert said == [1] + [0] * (count - 1)
  assert (workdir / "checkpoints" / "broken-99").is_dir()
  assert_same_curve(workdir, whole)


def test_notice_to_one_process_stops_all_at_one_step(tmp_path):
  """It takes a moment to reach them all, so updates are slow here."""
  told = {1: ["--signal=SIGTERM", "--at=7"]}
  ended = start(tmp_path, 2, told, epochs=6, pause=0.1).wait()
  assert {one.status for one in ended} <= {1, 143}, ended
  stopped = trainer_tests.lines(tmp_path)[-1]["step"]
  assert 3 <= stopped < 25
  kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert str(stopped) in kept
  total = trainer_tests.run(tmp_path, epochs=6).total_steps
  steps = [line["step"] for line in trainer_tests.lines(tmp_path)]
  assert steps == list(range(total + 1))
