import gc
import signal
import time

import pytest

from s2d_jax import interrupts


@pytest.fixture(autouse=True)
def default_handler():
  """A background job of a shell ignores Ctrl-C."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def _interrupt(*unused) -> None:
  signal.raise_signal(signal.SIGINT)


def test_in_a_finalizer_it_is_heard():
  class Finalized:
    __del__ = _interrupt

  with pytest.raises(KeyboardInterrupt), interrupts.sent_again():
    Finalized()
    time.sleep(100)


def test_in_a_garbage_collection_it_is_heard():
  once = [_interrupt]

  def callback(*unused) -> None:
    if once:
      once.pop()()

  gc.callbacks.append(callback)
  try:
    with pytest.raises(KeyboardInterrupt), interrupts.sent_again():
      gc.collect()
      time.sleep(100)
  finally:
    gc.callbacks.remove(callback)


def test_other_errors_are_told_as_ever(monkeypatch):
  told = []
  monkeypatch.setattr("sys.unraisablehook", told.append)

  class Broken:
    def __del__(self):
      raise ValueError("broken")

  with interrupts.sent_again():
    Broken()
  Broken()
  # Without references to what is being deleted, which would live on.
  assert [one.exc_type for one in told] == [ValueError] * 2
