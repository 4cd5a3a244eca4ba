"""TensorBoard event files as others read them."""

from __future__ import annotations

import pathlib

from grain.experimental import TFRecordIterDataset
from tensorboardX.proto.event_pb2 import Event


def read(folder: pathlib.Path) -> dict[str, dict[int, float]]:
  """The curves of the one event file in a folder: tag → step → value."""
  (path,) = folder.glob("events.out.tfevents.*")
  curves = {}
  for record in TFRecordIterDataset(str(path)):
    event = Event.FromString(record)
    for value in event.summary.value:
      curve = curves.setdefault(value.tag, {})
      assert event.step not in curve  # each step once
      curve[event.step] = value.simple_value
  return curves
