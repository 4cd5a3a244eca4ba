"""TensorBoard's event files, on a disk or in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
import os
import sys
import tempfile
import time

from etils import epath

_FLUSH_SECONDS = 20.0  # a bucket takes whole files only


class EventFile:
  """The event file of a folder; replaces those that are there.

  tensorboardX writes it, since it needs neither TensorFlow nor torch, while the
  writers of clu and Flax call TensorFlow. Into a bucket it would go with a
  client and credentials of its own: there the file is made on this machine, and
  copied like all files of a run.
  """

  def __init__(self, folder: epath.Path):
    self._tensorboardx = _tensorboardx()
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
      old.unlink()
    self._local = None
    if "://" in str(folder):
      self._local = tempfile.TemporaryDirectory()
      folder = epath.Path(self._local.name)
    writer = self._tensorboardx.event_file_writer.EventsWriter
    self._writer = writer(os.fspath(folder / "events"))
    # Makes an open TensorBoard forget the old files.
    log = self._tensorboardx.proto.event_pb2.SessionLog
    self._write(0, time.time(), session_log=log(status=log.START))
    self.flush()

  def add(
    self, step: int, figures: Mapping[str, float], wall_time: float
  ) -> None:
    """Adds a point to each curve; `wall_time` is in seconds since 1970."""
    for name, value in figures.items():
      summary = self._tensorboardx.summary.scalar(name, value)
      self._write(step, wall_time, summary=summary)
    if time.monotonic() - self._flushed > _FLUSH_SECONDS:
      self.flush()

  def _write(self, step: int, wall_time: float, **content) -> None:
    event = self._tensorboardx.proto.event_pb2.Event
    self._writer.write_event(event(step=step, wall_time=wall_time, **content))

  def flush(self) -> None:
    self._writer.flush()
    self._flushed = time.monotonic()
    if self._local is not None:
      for path in epath.Path(self._local.name).iterdir():
        # An object appears whole; under a temporary name TensorBoard would
        # take it for the next file of the run.
        (self._folder / path.name).write_bytes(path.read_bytes())

  def close(self) -> None:
    self.flush()
    self._writer.close()
    if self._local is not None:
      self._local.cleanup()


def _tensorboardx():
  """The library, without the torch that it would load where there is one.

  That takes seconds and hundreds of megabytes, and nothing here uses it.
  """
  hidden = "torch" not in sys.modules
  if hidden:
    sys.modules["torch"] = None  # importing it fails, as if it were not there
  try:
    import tensorboardX
    import tensorboardX.event_file_writer
    import tensorboardX.proto.event_pb2
    import tensorboardX.summary
  finally:
    if hidden:
      del sys.modules["torch"]
  return tensorboardX
