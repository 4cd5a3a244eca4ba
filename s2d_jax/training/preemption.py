"""Notice that this machine is about to be taken away."""

from __future__ import annotations

import contextlib
import signal
import threading

import jax
from jax.experimental import multihost_utils

from s2d_jax.parallel import hosts


class Preemption:
  """Turns SIGTERM into a step at which all processes stop together.

  with Preemption() as preemption:
    for step in steps:
      ...
      if preemption.reached(step):
        save, and leave

  In a run of several processes JAX's own service takes the signal, whichever
  process it goes to, and finds a step that none of them has passed.
  """

  def __init__(self):
    self._signalled = False
    self._listening = contextlib.ExitStack()

  def __enter__(self) -> Preemption:
    if jax.distributed.is_initialized():
      self._listening.enter_context(hosts.preemption_notice())
    elif threading.current_thread() is threading.main_thread():
      before = signal.signal(signal.SIGTERM, self._note)
      self._listening.callback(signal.signal, signal.SIGTERM, before)
    return self

  def __exit__(self, *unused) -> None:
    self._listening.close()

  def reached(self, step: int) -> bool:
    """Whether to save and leave after this step; ask after every step."""
    return self._signalled or multihost_utils.reached_preemption_sync_point(
      step
    )

  def _note(self, *unused) -> None:
    self._signalled = True
