"""Several processes, one a host: how they start, wait for each other and end.

A laptop or a TPU of one host is one process, and all of this does nothing. If
there are several, each runs the same program on the same folder. The one with
index 0 is the lead: it alone writes shared files and prints.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import itertools
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn, TypeVar

import jax
from jax._src import distributed  # whose client has no public name
import numpy as np

from s2d_jax.errors import Unanswered, UserError

T = TypeVar("T")

# A process that is silent for longer is dead, and all others end.
_HEARTBEAT_SECONDS = 100
# A process that finishes first waits for the others, which may take days.
_BARRIER_SECONDS = 30 * 24 * 3600
_QUIET_SECONDS = 10  # of waiting, before it is printed
_POLL_SECONDS = 1.0  # between polls for signals and for failures of others
_EXIT_SECONDS = 10  # for all processes to notice it
_XLA_SECONDS = 3600  # after which XLA itself would end a process that joins
_PROBE_SECONDS = 2
_PIECE = 1 << 20  # bytes of a message; the coordination service takes 4 MB
_FAILURE = "s2d/failure"

_meetings = itertools.count()  # which all processes number alike
_ended = threading.Event()
_exiting = threading.Lock()
_joining = threading.Event()  # set while a thread waits for the others


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  multihost: bool | None = None,
  timeout: float = 120,
) -> None:
  """Joins the processes of a run, if there are several.

  To be called before anything touches a device.

  Args:
    coordinator: host:port of process 0.
    num_processes: of the run.
    process_id: of this process.
    multihost: True lets JAX detect the three, from Slurm, Open MPI, GKE or a
      TPU's metadata; False never does; None does so if the environment says
      that there are several processes.
    timeout: seconds in which all must have joined.

  Raises:
    UserError: the three are inconsistent, or cannot be detected.
    Unanswered: the coordinator or other processes did not come in time. This
      process can then only end, by `fail`.
  """
  given = (coordinator, num_processes, process_id)
  by_hand = any(value is not None for value in given)
  if by_hand:
    _check(coordinator, num_processes, process_id)
  if num_processes == 1 or not (
    by_hand or (is_multiprocess(os.environ) if multihost is None else multihost)
  ):
    return
  write_line("joining the other processes of this run")
  try:
    _join(
      timeout,
      coordinator_address=coordinator,
      num_processes=num_processes,
      process_id=process_id,
      cluster_detection_method="deactivate" if by_hand else None,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      initialization_timeout=int(timeout) + _XLA_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    raise UserError(
      f"the processes of this run do not find each other ({error}); give"
      " --coordinator=HOST:PORT --num_processes=N --process_id=I, or"
      " --nomultihost for a process of its own"
    ) from None
  # Brings up the devices of all hosts, while they are together: a host that is
  # minutes late finds the others gone.
  if jax.process_count() > 1:
    _prefix_logs()
    _watch()


def _join(timeout: float, **settings: Any) -> None:
  """Has JAX join the others; by itself XLA gives up with a stack trace."""
  _joining.set()
  try:
    _interruptibly(lambda: jax.distributed.initialize(**settings), timeout)
  except TimeoutError:
    raise _unanswered(timeout) from None
  except Exception:
    _joining.clear()
    raise
  _joining.clear()
  _stop_notices()  # which JAX takes from the beginning


def _interruptibly(call: Callable[[], T], seconds: float = math.inf) -> T:
  """What a call returns that waits inside XLA, where Python hears no signal.

  It runs in a thread, which a Ctrl-C leaves behind.

  Raises:
    TimeoutError: there is no result after so many seconds.
  """
  called: futures.Future[T] = futures.Future()

  def run() -> None:
    try:
      called.set_result(call())
    except Exception as error:
      called.set_exception(error)

  threading.Thread(target=run, daemon=True, name="waiting").start()
  deadline = time.monotonic() + seconds
  while not called.done():
    left = deadline - time.monotonic()
    if left <= 0:
      raise TimeoutError
    # In short waits: a Ctrl-C that a thread of XLA gets is heard here, too.
    futures.wait([called], min(left, _POLL_SECONDS))
  return called.result()


def _unanswered(timeout: float) -> Unanswered:
  """Says as much as is known of who did not come."""
  state = distributed.global_state
  address = state.coordinator_address or "an address that is not known yet"
  if state.coordinator_address and state.process_id > 0:
    host, _, port = address.rpartition(":")
    try:
      socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except OSError as error:
      return Unanswered(
        f"nobody answers at {address} ({error.strerror or error}), where"
        f" process 0 should be, after {timeout:g} s; is it running, is the"
        " address right, and the port open between the hosts? If it starts"
        " later, give more --coordinator_timeout"
      )
  return Unanswered(
    f"not all processes of this run have come to {address} after {timeout:g} s;"
    " start all of them, each with an index of its own, and look whether"
    " another program has that port. If some start later, give more"
    " --coordinator_timeout"
  )


def _check(coordinator, num_processes, process_id) -> None:
  if None in (coordinator, num_processes, process_id):
    raise UserError(
      "--coordinator=HOST:PORT, --num_processes=N and --process_id=I belong"
      " together; give all three"
    )
  _, _, port = coordinator.rpartition(":")
  if not port.isdigit():
    raise UserError(f"--coordinator={coordinator} must be HOST:PORT")
  if not 0 <= process_id < num_processes:
    raise UserError(
      f"--process_id={process_id} must be of 0 to {num_processes - 1}, as"
      f" --num_processes={num_processes}"
    )


def is_multiprocess(environ: Mapping[str, str]) -> bool:
  """Whether the environment says that there are several processes."""

  def number(name: str) -> int:
    value = environ.get(name, "")
    return int(value) if value.isdigit() else 0

  def names(name: str) -> int:
    value = environ.get(name, "")
    # Where it finds no TPU, libtpu puts a sentence there.
    return 0 if " " in value else len(value.split(","))

  return (
    "JAX_COORDINATOR_ADDRESS" in environ
    # Without a step these are the tasks of a job, not of this program.
    or ("SLURM_STEP_NODELIST" in environ and number("SLURM_NTASKS") > 1)
    or number("OMPI_COMM_WORLD_SIZE") > 1
    or number("PMI_SIZE") > 1
    or number("MEGASCALE_NUM_SLICES") > 1
    or names("TPU_WORKER_HOSTNAMES") > 1
    or names("TPU_PROCESS_ADDRESSES") > 1
  )


def count() -> int:
  """Processes of this run; does not touch a device where it is one."""
  return jax.process_count() if _has_joined() else 1


def index() -> int:
  """Of this process."""
  return jax.process_index() if _has_joined() else 0


def _has_joined() -> bool:
  return jax.distributed.is_initialized() and not _joining.is_set()


def is_lead() -> bool:
  """Whether this process writes shared files and prints."""
  return index() == 0


def share(items: Sequence[T]) -> Sequence[T]:
  """This process's share of the work: every n-th item."""
  return items[index() :: count()]


def log_prefix() -> str:
  """Prefix of the messages of this process; empty for the lead."""
  return "" if is_lead() else f"[process {index()}] "


def barrier(name: str) -> None:
  """Returns when all processes have called it.

  They wait without using their devices: a collective operation would time out
  if one of them has hours of work left. If one dies, so do the others.
  """
  if count() == 1:
    return
  key = _meeting(name)
  message = f"waiting for the other processes: {name}"
  timer = threading.Timer(_QUIET_SECONDS, _say, [message])
  timer.start()
  try:
    wait = _BARRIER_SECONDS * 1000
    _interruptibly(lambda: _client().wait_at_barrier(key, wait))
  finally:
    timer.cancel()


def lead_value(name: str, value: bool) -> bool:
  """The lead's value, on all processes, which all call it.

  A file that the lead has written just now may not be seen yet by the others.
  """
  if count() == 1:
    return value
  key = _meeting(name)
  if is_lead():
    _client().key_value_set(key, str(value))
  wait = _BARRIER_SECONDS * 1000
  found = _interruptibly(lambda: _client().blocking_key_value_get(key, wait))
  return found == str(True)


def least(name: str, value: int) -> int:
  """The smallest value of all processes, on all of them, which all call it."""
  return min(found for found, _ in _exchange(name, value, b""))


class Counter:
  """A number that all processes add to; 0 at first.

  All of them make it, in the same order as barriers and other counters.

  Args:
    name: of what it counts.
  """

  def __init__(self, name: str):
    self._key = _meeting(name)
    self._alone = 0

  def add(self, amount: int) -> int:
    """Adds to it; returns what it is then."""
    if count() == 1:
      self._alone += amount
      return self._alone
    add = lambda: _client().key_value_increment(self._key, amount)
    return _interruptibly(add)


def flags_of_all(name: str, own: Sequence[bool]) -> np.ndarray:
  """A flag of every item, from those that each process has of its share.

  All processes call it.

  Args:
    name: of the flags.
    own: of the items of this process, as `share` gives them.
  """
  bits = np.packbits(np.array(own, bool)).tobytes()
  shares = [
    np.unpackbits(np.frombuffer(said, np.uint8), count=size)
    for size, said in _exchange(name, len(own), bits)
  ]
  flags = np.empty(sum(map(len, shares)), bool)
  for start, found in enumerate(shares):
    flags[start :: len(shares)] = found
  return flags


def rows_of_all(name: str, own: np.ndarray) -> np.ndarray:
  """The rows of all processes, one process after the other; all call it.

  Args:
    name: of the rows.
    own: those of this process, an array over them.
  """
  said = _exchange(name, len(own), own.tobytes())
  rows = [np.frombuffer(found, own.dtype) for _, found in said]
  return np.concatenate(rows).reshape(-1, *own.shape[1:])


def _exchange(name: str, size: int, content: bytes) -> list[tuple[int, bytes]]:
  """What each process has to say: a number, and bytes."""
  if count() == 1:
    return [(size, content)]
  key, client = _meeting(name), _client()
  starts = range(0, len(content), _PIECE)
  own = {
    f"{key}/{index()}/{number}": content[start : start + _PIECE]
    for number, start in enumerate(starts)
  }
  for at, piece in own.items():
    client.key_value_set_bytes(at, piece)
  head = f"{key}/{index()}"
  client.key_value_set_bytes(head, f"{size} {len(own)}".encode())
  said = [_said(f"{key}/{other}") for other in range(count())]
  barrier(f"{name} are known")
  for at in (head, *own):
    client.key_value_delete(at)
  return said


def _said(head: str) -> tuple[int, bytes]:
  """What the process has to say that writes under this key."""
  wait = _BARRIER_SECONDS * 1000
  get = lambda key: _interruptibly(
    lambda: _client().blocking_key_value_get_bytes(key, wait)
  )
  size, pieces = map(int, get(head).split())
  found = b"".join(get(f"{head}/{number}") for number in range(pieces))
  return size, found


def _meeting(name: str) -> str:
  """A key that all processes have for what they do next together."""
  return f"s2d/{next(_meetings)}/{name}"


@contextlib.contextmanager
def preemption_notice() -> Iterator[None]:
  """Has JAX take SIGTERM as a notice to all processes, not as their end.

  `multihost_utils.reached_preemption_sync_point` tells of it, and only whoever
  asks that may be in here: others would never hear of the signal.
  """
  distributed.global_state.initialize_preemption_sync_manager()
  try:
    yield
  finally:
    _stop_notices()


def _stop_notices() -> None:
  """Gives SIGTERM back to Python, which does not know that JAX has taken it."""
  state = distributed.global_state
  state.preemption_sync_manager.shutdown()
  state.preemption_sync_manager = None
  signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _say(sentence: str) -> None:
  if is_lead():
    write_line(sentence)


def write_line(line: str) -> None:
  """To standard error, in one piece: several threads tell of something there.

  `print` writes the end of a line by itself.
  """
  sys.stderr.write(f"{line}\n")
  sys.stderr.flush()


def check_joined() -> None:
  """Raises UserError on a TPU slice of several hosts that were not joined."""
  if jax.process_count() != count():
    raise UserError(
      f"this is one of {jax.process_count()} hosts of a TPU slice; start the"
      " same command on all of them, with --multihost"
    )


def fail(sentence: str, status: int) -> None:
  """Ends all processes with this status; the others print why.

  Returns if this process is the only one.
  """
  if _joining.is_set():
    _exit_now(status)  # a regular end would wait for the thread
  if count() == 1:
    return
  _ended.set()
  try:
    failure = f"{status} [process {index()}] {sentence}"
    _client().key_value_set(_FAILURE, failure)
  except jax.errors.JaxRuntimeError:
    pass  # another was first, or is gone
  _exit_process(status)


def _client():
  return distributed.global_state.client


def _exit_process(status: int) -> None:
  """Ends this process once all know of the failure."""
  _exiting.acquire()  # never released: one thread does it
  try:
    _client().wait_at_barrier(f"{_FAILURE}/known", _EXIT_SECONDS * 1000)
  except jax.errors.JaxRuntimeError:
    pass  # one of them is dead
  if distributed.global_state.service is not None:
    threading.Event().wait(1.0)  # the others hear of the barrier from here
  _exit_now(status)  # a regular end would wait for the others' regular end


def _exit_now(status: int) -> NoReturn:
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _watch() -> None:
  """Ends this process when another fails, whatever it is doing."""

  def poll() -> None:
    while not _ended.wait(_POLL_SECONDS):
      try:
        failure = _client().key_value_try_get(_FAILURE)
      except jax.errors.JaxRuntimeError:
        continue  # nobody has failed
      if _ended.is_set():
        return  # by this very process
      status, _, sentence = failure.partition(" ")
      write_line(f"error: {sentence}")
      _exit_process(int(status))

  thread = threading.Thread(target=poll, daemon=True, name="failures")
  thread.start()

  def stop() -> None:  # before JAX lets its client go
    _ended.set()
    thread.join()

  atexit.register(stop)


def _prefix_logs() -> None:
  """Puts the process index in front of the log messages of libraries."""
  make = logging.getLogRecordFactory()
  prefix = f"[process {index()}] "

  def record(*args, **kwargs) -> logging.LogRecord:
    made = make(*args, **kwargs)
    made.msg = prefix + str(made.msg)
    return made

  logging.setLogRecordFactory(record)
