"""Layers of the arrays in a checkpoint, of which nothing else is read.

Orbax writes an array as Zarr (version 2, zarr.dev) in an OCDBT store: chunks,
as large as what a device held, of rows one behind the other. TensorStore reads
whole chunks, and of a model on one device that is all layers for each of them.
As they are not compressed, a layer is a range of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import itertools
import json
import math
from typing import Any, NamedTuple

from etils import epath
import jax.numpy as jnp
from jaxtyping import Int
import numpy as np
import tensorstore

from s2d_jax.checkpoints import damage, stream
from s2d_jax.checkpoints.layout import Leaf

_READ_BYTES = 1 << 24


class _Piece(NamedTuple):
  """What one chunk has of the rows that are wanted."""

  key: str
  byte_range: slice
  shape: tuple[int, ...]
  window: tuple[slice, ...]  # of the rows that are wanted


def open_params(step: epath.Path) -> stream.Source:
  """The parameters in the folder of a step, to be read later."""
  store = damage.open_arrays(step / "params")

  def fill(leaf: Leaf, index: Sequence[slice], shard: np.ndarray) -> None:
    rows, *others = index
    assert all(axis == slice(None) for axis in others), "rows are whole"
    name = leaf.path.replace("/", ".")
    about = json.loads(store.read(f"{name}/.zarray").result().value)
    assert about["compressor"] is None and about["order"] == "C"
    dtype = jnp.dtype(about["dtype"])
    for piece in _pieces(about, range(leaf.shape[0])[rows], dtype.itemsize):
      block = _read(store, f"{name}/{piece.key}", piece.byte_range)
      shard[piece.window] = block.view(dtype).reshape(piece.shape)

  return stream.Source(fill)


def _read(
  store: tensorstore.KvStore, key: str, byte_range: slice
) -> Int[np.ndarray, " bytes"]:
  """Bytes of a value, few at a time: TensorStore holds twice what it reads."""
  found = np.empty(byte_range.stop - byte_range.start, np.uint8)
  for first in range(byte_range.start, byte_range.stop, _READ_BYTES):
    some = slice(first, min(first + _READ_BYTES, byte_range.stop))
    raw = store.read(key, byte_range=some).result().value
    at = first - byte_range.start
    found[at : at + some.stop - first] = np.frombuffer(raw, np.uint8)
  return found


def _pieces(
  about: dict[str, Any], rows: range, item_bytes: int
) -> Iterator[_Piece]:
  """Of an array that a .zarray is `about`."""
  (_, *sizes), (height, *widths) = about["shape"], about["chunks"]
  row_bytes = math.prod(widths) * item_bytes
  columns = [
    range(0, size, width) for size, width in zip(sizes, widths, strict=True)
  ]
  for top in range(rows.start // height * height, rows.stop, height):
    first, stop = max(rows.start, top), min(rows.stop, top + height)
    byte_range = slice((first - top) * row_bytes, (stop - top) * row_bytes)
    window = slice(first - rows.start, stop - rows.start)
    for corner in itertools.product(*columns):
      at = [slice(i, i + n) for i, n in zip(corner, widths, strict=True)]
      place = [i // n for i, n in zip(corner, widths, strict=True)]
      key = ".".join(map(str, (top // height, *place)))
      yield _Piece(key, byte_range, (stop - first, *widths), (window, *at))
