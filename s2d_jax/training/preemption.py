"""Notice that this machine is about to be taken away."""

from __future__ import annotations

import signal
import threading

import jax
from jax.experimental import multihost_utils


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
    self._before = None

  def __enter__(self) -> Preemption:
    alone = not jax.distributed.is_initialized()
    if alone and threading.current_thread() is threading.main_thread():
      self._before = signal.getsignal(signal.SIGTERM)
      signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def reached(self, step: int) -> bool:
    """Whether to save and leave after this step; ask after every step."""
    return self._signalled or multihost_utils.reached_preemption_sync_point(
      step
    )

  def _note(self, *unused) -> None:
    self._signalled = True
