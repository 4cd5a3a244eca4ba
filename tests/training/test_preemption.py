from __future__ import annotations

import os
import signal

from s2d_jax.training.preemption import Preemption


def test_a_signal_is_noted_and_the_former_handler_comes_back():
  noted = []
  former = lambda number, frame: noted.append(number)
  before = signal.signal(signal.SIGTERM, former)
  try:
    with Preemption() as preemption:
      assert not preemption.reached(0)
      os.kill(os.getpid(), signal.SIGTERM)
      assert preemption.reached(1)
      assert preemption.reached(2)  # and stays so
    assert not noted  # the run stops by itself, nobody else is told
    assert signal.getsignal(signal.SIGTERM) is former
    os.kill(os.getpid(), signal.SIGTERM)
    assert noted == [signal.SIGTERM]
  finally:
    signal.signal(signal.SIGTERM, before)


def test_the_handler_comes_back_after_an_error():
  before = signal.getsignal(signal.SIGTERM)
  try:
    with Preemption():
      assert signal.getsignal(signal.SIGTERM) is not before
      raise KeyError
  except KeyError:
    pass
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_of_one_run_is_not_that_of_the_next():
  with Preemption() as first:
    os.kill(os.getpid(), signal.SIGTERM)
    assert first.reached(0)
  with Preemption() as second:
    assert not second.reached(0)
