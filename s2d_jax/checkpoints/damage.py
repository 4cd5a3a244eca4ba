"""Checkpoints that are not whole: found by looking at every part, set aside.

Orbax renames a folder once it is written, so a kill leaves no half of one under
its own name. A power cut, a full disk or a copy that was interrupted may.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import os

from etils import epath
import orbax.checkpoint as ocp
import tensorstore

from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts

_READS = 64  # at a time, of a byte each
# How tensorstore begins to say that bytes are not there or not as written.
_LOST = ("NOT_FOUND", "OUT_OF_RANGE", "DATA_LOSS", "FAILED_PRECONDITION")


def set_aside(directory: epath.Path) -> None:
  """Renames what is not whole, so that the newest checkpoint is.

  The newest are looked at until one is whole; of those before it the losses,
  which Orbax reads of all. Nothing is deleted. All processes call this, the
  lead does it.

  Args:
    directory: of the checkpoints of a run that is to go on.

  Raises:
    UserError: a folder cannot be read, whole or not.
  """
  if hosts.is_lead():
    newest, moved = None, []
    for step in _steps(directory):
      folder = directory / str(step)
      damage = find(folder) if newest is None else _cut_loss(folder)
      if damage:
        aside = _free_name(folder)
        folder.rename(aside)
        moved.append(
          f"{folder} is not whole ({damage}), it is now {aside.name}"
        )
      elif newest is None:
        newest = step
    if moved:
      then = "begins anew" if newest is None else f"goes on from step {newest}"
      print(f"{'; '.join(moved)}; the fine-tune {then}", flush=True)
  hosts.barrier("checkpoints are whole")


def check_losses(directory: epath.Path) -> None:
  """Raises UserError if Orbax cannot read all losses, to find the best."""
  for step in _steps(directory):
    _raise(directory / str(step), _cut_loss(directory / str(step)))


def check_params(folder: epath.Path) -> None:
  """Raises UserError if the parameters of a step are not whole."""
  _raise(folder, next(_lost_arrays(folder, "params"), None))


def _raise(folder: epath.Path, damage: str | None) -> None:
  if damage:
    raise UserError(
      f"{folder} is not whole ({damage}); move that folder away, and the best"
      " of the other checkpoints is taken"
    )


def find(folder: epath.Path) -> str | None:
  """What is missing or cut in the checkpoint of a step; None: it is whole.

  Raises:
    UserError: it cannot be read, whole or not.
  """
  return next(_damages(folder), None)


def _damages(folder: epath.Path) -> Iterator[str]:
  if not any(folder.iterdir()):
    yield "it is empty"
  yield from _lost_json(folder, "metrics/metrics")
  yield from _lost_json(folder, "position/metadata")
  yield from _lost_arrays(folder, "params")
  yield from _lost_arrays(folder, "opt_state")


def _lost_json(folder: epath.Path, name: str) -> Iterator[str]:
  if not (folder / name).exists():
    yield f"no {name}"
  yield from _cut_json(folder, name)


def _cut_json(folder: epath.Path, name: str) -> Iterator[str]:
  path = folder / name
  try:
    if path.exists():
      json.loads(path.read_text())
  except ValueError:
    yield f"{name} is cut"


def _cut_loss(folder: epath.Path) -> str | None:
  return next(_cut_json(folder, "metrics/metrics"), None)


def _lost_arrays(folder: epath.Path, item: str) -> Iterator[str]:
  """Reads the last byte of each piece of an array: is its file all there?"""
  yield from _lost_json(folder, f"{item}/_METADATA")
  yield from _cut_json(folder, f"{item}/_sharding")
  for path in (folder / item).glob("array_metadatas/*"):
    yield from _cut_json(folder, f"{item}/array_metadatas/{path.name}")
  try:
    store = open_arrays(folder / item)
    keys = store.list().result()
    if not keys:
      yield f"no arrays in {item}"
    for first in range(0, len(keys), _READS):
      some = keys[first : first + _READS]
      reads = [store.read(key, byte_range=slice(-1, None)) for key in some]
      if not all(read.result().value for read in reads):
        yield f"arrays of {item} are cut"
  except ValueError as error:
    reason = " ".join(str(error).split())
    if not reason.startswith(_LOST):
      raise UserError(
        f"{folder} cannot be read ({reason}); check the disk or the network and"
        " your rights, then start the same command again"
      ) from None
    yield f"arrays of {item} are cut"


def open_arrays(folder: epath.Path) -> tensorstore.KvStore:
  """The store of one item of a checkpoint, local or in a bucket."""
  if "://" in str(folder):
    base = f"{folder}/"
  else:
    base = {"driver": "file", "path": f"{os.path.abspath(folder)}/"}
  return tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()


def _steps(directory: epath.Path) -> list[int]:
  """Of the finished checkpoints, newest first."""
  found = ocp.path.step.standard_name_format().find_all(directory)
  return sorted((one.step for one in found), reverse=True)


def _free_name(folder: epath.Path) -> epath.Path:
  """The first of broken-6, broken-6-2, … that is not there yet."""
  count, name = 1, f"broken-{folder.name}"
  while (folder.parent / name).exists():
    count += 1
    name = f"broken-{folder.name}-{count}"
  return folder.parent / name
