from __future__ import annotations

from collections.abc import Iterator
import os
import signal
import socket
import time

import pytest

from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from tests import processes
from tests.processes import Process, Processes

_SLURM = {
  "SLURM_JOB_ID": "7",
  "SLURM_STEP_NODELIST": "node[1-2]",
  "SLURM_NTASKS": "2",
  "SLURM_PROCID": "0",
  "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
  "environ",
  [
    _SLURM,
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"},
    {"PMI_SIZE": "2", "PMI_RANK": "0"},
    {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"},
    # GKE, a slice of two hosts; and two slices of one host.
    {"TPU_WORKER_HOSTNAMES": "tpu-0.tpu,tpu-1.tpu", "TPU_WORKER_ID": "1"},
    {"TPU_PROCESS_ADDRESSES": "10.0.0.1:8471,10.0.0.2:8471"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"},
  ],
)
def test_an_environment_that_tells_of_several_processes(environ):
  assert hosts.is_multiprocess({"HOME": "/root"} | environ)


@pytest.mark.parametrize(
  "environ",
  [
    {},
    _SLURM | {"SLURM_NTASKS": "1"},
    # The script of a job of four tasks, before any is started.
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},
    {"OMPI_COMM_WORLD_SIZE": "1"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    {"TPU_WORKER_HOSTNAMES": "", "MEGASCALE_NUM_SLICES": "1"},
    # What libtpu leaves behind on a machine without a TPU.
    {"TPU_WORKER_HOSTNAMES": "WARNING: not found, please set it manually"},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
  ],
)
def test_an_environment_of_one_process(environ):
  assert not hosts.is_multiprocess(environ)


@pytest.mark.parametrize(
  "given, sentence",
  [
    (("localhost:1", 2, None), "belong together"),
    ((None, 2, 1), "belong together"),
    (("localhost", 2, 1), "--coordinator=localhost must be HOST:PORT"),
    (("localhost:1", 2, 2), "--process_id=2 must be of 0 to 1"),
  ],
)
def test_flags_that_do_not_go_together(given, sentence):
  with pytest.raises(UserError, match=sentence):
    hosts.initialize(*given)


_ALONE = """
import time
import jax
from s2d_jax.parallel import hosts
hosts.initialize({})
assert hosts.is_lead() and hosts.share("abc") == "abc"
hosts.barrier("nobody else")
hosts.fail("nobody hears this", 1)
assert not jax.distributed.is_initialized()
# The devices can still be chosen: nothing has touched them.
jax.config.update("jax_num_cpu_devices", 3)
assert jax.device_count() == 3
hosts.check_joined()
"""


@pytest.mark.parametrize("given", ["", "'localhost:1', 1, 0"])
def test_one_process_needs_none_of_it(given, monkeypatch):
  several = ("SLURM", "OMPI", "PMI", "TPU", "MEGASCALE", "JAX_COORDINATOR")
  for name in os.environ:
    if name.startswith(several):
      monkeypatch.delenv(name)
  ended = processes.run(_ALONE.format(given), JAX_PLATFORMS="cpu")
  assert ended == (0, "", "")


def test_processes_that_jax_cannot_join():
  """Started by an MPI that tells too little."""
  program = """
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
try:
  hosts.initialize()
except UserError as error:
  print(error)
"""
  ended = processes.run(program, PMI_SIZE="2")
  assert "give --coordinator=HOST:PORT --num_processes=N" in ended.out


# What each process runs: `act` with its index; then all wait for each other.
_TOGETHER = """
import logging, os, sys, time
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.stages import program
hosts._HEARTBEAT_SECONDS = 6
hosts._QUIET_SECONDS = 1
{act}
def start(argv):
  hosts.initialize(program._COORDINATOR.value, program._NUM_PROCESSES.value,
                   program._PROCESS_ID.value,
                   timeout=program._COORDINATOR_TIMEOUT.value)
  act(hosts.index())
  hosts.barrier("end")
program.run_program(start, "", program.HOSTS)
"""


def _together(count: int, act: str, *flags: str) -> Processes:
  return Processes(count, _TOGETHER.format(act=act), flags)


def test_processes_share_the_work_and_wait_for_each_other(tmp_path):
  act = f"""
def act(index):
  print(hosts.log_prefix(), hosts.count(), hosts.share([*"abcdefg"]))
  logging.getLogger("jax").error("half of %s", "all")
  if index == 2:
    time.sleep(2)
    open({str(tmp_path / "late")!r}, "w").close()
  hosts.barrier("again")
  hosts.barrier("again")
  assert hosts.least("memory", 7 + abs(index - 1)) == 7  # that of process 1
  assert hosts.least("memory", 9 - index) == 7
  assert os.path.exists({str(tmp_path / "late")!r})
"""
  ended = _together(3, act).wait()
  assert [one.status for one in ended] == [0, 0, 0], ended
  assert [one.out.strip() for one in ended] == [
    "3 ['a', 'd', 'g']",
    "[process 1]  3 ['b', 'e']",
    "[process 2]  3 ['c', 'f']",
  ]
  assert "waiting for the other processes: again" in ended[0].err
  assert "waiting" not in ended[1].err
  for index, one in enumerate(ended):
    assert f"[process {index}] half of all" in one.err


def test_processes_count_together_and_know_each_others_flags():
  act = """
import random
import numpy as np
from s2d_jax.parallel.dealing import Deal
hosts._PIECE = 100
def act(index):
  counter, other = hosts.Counter("one"), hosts.Counter("other")
  for step in range(20):
    counter.add(index)
  other.add(1)
  hosts.barrier("counted")
  assert (counter.add(0), other.add(0)) == (20 * 3, 3)
  rng = random.Random(0)
  for size in 0, 1, 2, 3, 20_000:
    flags = [rng.random() < 0.5 for _ in range(size)]
    found = hosts.flags_of_all("flags", hosts.share(flags))
    assert found.tolist() == flags
    few = min(size, 50)
    rows = [(i, number) for i in range(3) for number in range(i * few)]
    own = np.array(rows, np.int64).reshape(-1, 2)
    found = hosts.rows_of_all("rows", own[own[:, 0] == index])
    assert list(map(tuple, found.tolist())) == rows
  assert not hosts._client().key_value_dir_get_bytes("s2d/3")
  print(*Deal("items", range(500)))
"""
  ended = _together(3, act).wait()
  assert [one.status for one in ended] == [0, 0, 0], ended
  dealt = [int(item) for one in ended for item in one.out.split()]
  assert sorted(dealt) == list(range(500))


@pytest.mark.parametrize("index", [0, 1])
def test_a_mistake_on_one_ends_all_with_its_sentence(index):
  act = f"""
def act(index):
  if index == {index}:
    time.sleep(1)
    raise UserError("there is no such file")
  while index == 2:  # busy
    sum(range(10**5))
"""
  ended = _together(3, act).wait()
  assert [one.status for one in ended] == [1, 1, 1], ended
  for own, one in enumerate(ended):
    sign = "" if own == index == 0 else f"[process {index}] "
    assert f"error: {sign}there is no such file\n" in one.err
    assert "Traceback" not in one.err


def test_an_error_of_the_program_ends_all():
  act = """
def act(index):
  if index == 1:
    [][0]
"""
  first, second = _together(2, act).wait()
  assert (first.status, second.status) == (1, 1)
  assert "error: [process 1] IndexError: list index out of range" in first.err
  assert "Traceback" in second.err


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_is_killed_takes_the_others_along(index):
  act = f"""
def act(index):
  if index == {index}:
    os.kill(os.getpid(), 9)
"""
  ended = _together(2, act).wait(100)
  assert ended[index].status == -9
  assert ended[1 - index].status != 0


@pytest.fixture
def silent() -> Iterator[str]:
  """Takes every connection and never says a word."""
  with socket.create_server(("localhost", 0), backlog=16) as server:
    yield f"localhost:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return f"localhost:{free.getsockname()[1]}"


def _alone(address: str, index: int, *flags: str) -> Process:
  """One of two processes; the other is never started."""
  # A shell's background job ignores Ctrl-C, and so do its children.
  hears = "import signal; signal.signal(2, signal.default_int_handler)"
  return Process(
    _TOGETHER.format(act=f"{hears}; act = print"),
    [
      *(f"--coordinator={address}", "--num_processes=2"),
      *(f"--process_id={index}", *flags),
    ],
    JAX_PLATFORMS="cpu",
  )


@pytest.mark.parametrize(
  "where, index, sentence",
  [
    ("nobody", 1, "nobody answers at {} (Connection refused), where process 0"),
    ("silent", 1, "not all processes of this run have come to {} after 2 s"),
    ("nobody", 0, "not all processes of this run have come to {} after 2 s"),
  ],
)
def test_others_that_do_not_come_are_one_sentence(
  request, where, index, sentence
):
  """Not SIGABRT with a stack trace, which is how XLA gives up."""
  address = request.getfixturevalue(where)
  ended = _alone(address, index, "--coordinator_timeout=2").wait(100)
  joining, told = ended.err.splitlines()
  assert joining == "joining the other processes of this run"
  assert told.startswith("error: " + sentence.format(address))
  assert told.endswith("give more --coordinator_timeout")
  assert (ended.status, ended.out) == (75, "")


def test_all_that_came_are_told_who_did_not():
  processes = Processes(
    2, _TOGETHER.format(act="act = print"), ["--coordinator_timeout=4"],
    {index: ["--num_processes=3"] for index in range(2)},
  )  # fmt: skip
  for one in processes.wait(100):
    assert one.status == 75, one
    assert "error: not all processes of this run have come to" in one.err or (
      "error: nobody answers at" in one.err  # process 0 has just left
    )
    assert "Check failure" not in one.err


def test_ctrl_c_is_heard_while_others_are_waited_for(nobody):
  process = _alone(nobody, 0)
  until = time.monotonic() + 100
  while not process.said("err"):
    assert process.is_running and time.monotonic() < until
    time.sleep(0.02)
  assert "joining" in process.said("err")
  process.kill(signal.SIGINT)
  ended = process.wait(100)
  assert ended.status == 130 and "Traceback" not in ended.err


def test_signals_are_heard_while_others_are_waited_for():
  """At a barrier; and a notice of preemption is one only if it is asked for."""
  act = """
import signal, threading
from jax.experimental import multihost_utils

def soon(number):
  threading.Timer(0.5, os.kill, (os.getpid(), number)).start()

def act(index):
  signal.signal(signal.SIGINT, signal.default_int_handler)
  with hosts.preemption_notice():
    assert not multihost_utils.reached_preemption_sync_point(0)
  with hosts.preemption_notice():  # as another fine-tune would
    if index == 1:
      os.kill(os.getpid(), signal.SIGTERM)
    step = 0
    while not multihost_utils.reached_preemption_sync_point(step):
      step += 1
      time.sleep(0.1)
  print("told at step", step, flush=True)
  if index == 0:
    time.sleep(1000)
  for wait in hosts.barrier, lambda name: hosts.lead_value(name, True):
    soon(signal.SIGINT)
    try:
      wait("never")
    except KeyboardInterrupt:
      print("heard", flush=True)
  soon(signal.SIGTERM)
  hosts.barrier("never")
"""
  processes = _together(2, act)
  processes.wait_for(1, 100)
  processes.kill(0)
  first, second = processes.wait()
  assert (first.status, second.status) == (-9, -signal.SIGTERM), second
  assert second.out == first.out + "heard\n" * 2
  assert first.out.startswith("told at step")
