"""The GGUF container: named values and quantised tensors in one file.

The header is parsed here because `gguf.GGUFReader` makes several numpy arrays
of every string of the vocabulary, which takes seconds; the blocks of the
tensors are decoded by the gguf library. Format: ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import Any, NamedTuple

from etils import epath
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from jaxtyping import Float
import numpy as np

from s2d_jax.errors import UserError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
_SCALARS |= {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


class TensorInfo(NamedTuple):
  """Where a tensor lies and how it is stored; rows first, as numpy has it."""

  shape: tuple[int, ...]
  type: GGMLQuantizationType
  start: int  # byte in the file
  size: int  # bytes


class GGUFFile:
  """An open GGUF file: `fields` by key, `tensors` by name."""

  def __init__(self, path: epath.PathLike):
    self.path = epath.Path(path)
    with open(self.path, "rb") as file:
      if file.read(4) != b"GGUF":
        raise UserError(f"{path} is not a GGUF file")
      self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
      self._parse()
    except (struct.error, UnicodeDecodeError, KeyError, IndexError) as error:
      raise UserError(
        f"{path} is truncated or damaged: its header cannot be read"
        f" ({error}); download or copy it again"
      ) from None

  def tensor(self, name: str) -> Float[np.ndarray, "*rows D"]:
    """Decodes one tensor to float32."""
    info = self.tensors[name]
    # Of what is mapped, pages once read would count as ours to the end.
    raw = np.fromfile(self.path, np.uint8, info.size, offset=info.start)
    rows = raw.reshape(*info.shape[:-1], -1)
    try:
      return quants.dequantize(rows, info.type).reshape(info.shape)
    except NotImplementedError:
      raise UserError(
        f"{self.path}: tensor {name} is stored as {info.type.name}, which"
        " cannot be decoded; take a Q8_0, Q6_K, Q4_K or F16 file"
      ) from None

  def _parse(self) -> None:
    self._at = 4
    version, tensor_count, field_count = self._unpack("IQQ")
    if version not in (2, 3):
      raise UserError(
        f"{self.path} is GGUF version {version}; versions 2 and 3 are read"
      )
    self.fields = {}
    for _ in range(field_count):
      key = self._string()
      self.fields[key] = self._value(*self._unpack("I"))
    tensors = [self._tensor_entry() for _ in range(tensor_count)]
    step = self.fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    data = -(-self._at // step) * step
    self.tensors = {
      name: self._locate(name, data, *entry) for name, *entry in tensors
    }

  def _locate(self, name, data, shape, type_id, offset) -> TensorInfo:
    try:
      kind = GGMLQuantizationType(type_id)
    except ValueError:
      raise UserError(
        f"{self.path}: tensor {name} is stored in an unknown format (ggml"
        f" type {type_id})"
      ) from None
    block, block_bytes = GGML_QUANT_SIZES[kind]
    size = math.prod(shape) // block * block_bytes
    if data + offset + size > len(self._bytes):
      raise UserError(
        f"{self.path} is truncated: tensor {name} ends at byte"
        f" {data + offset + size}, the file at byte {len(self._bytes)};"
        " download or copy it again"
      )
    return TensorInfo(shape, kind, data + offset, size)

  def _tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
    name = self._string()
    (rank,) = self._unpack("I")
    shape = self._unpack(f"{rank}Q")[::-1]  # ggml counts from the fastest axis
    return name, shape, *self._unpack("IQ")

  def _unpack(self, layout: str) -> tuple[Any, ...]:
    values = struct.unpack_from("<" + layout, self._bytes, self._at)
    self._at += struct.calcsize("<" + layout)
    return values

  def _string(self) -> str:
    (length,) = self._unpack("Q")
    (text,) = self._unpack(f"{length}s")
    return text.decode()

  def _value(self, kind: int) -> Any:
    if kind == _STRING:
      return self._string()
    if kind != _ARRAY:
      return self._unpack(_SCALARS[kind])[0]
    item, count = self._unpack("IQ")
    if item in _SCALARS:
      return list(self._unpack(f"{count}{_SCALARS[item]}"))
    return [self._value(item) for _ in range(count)]
