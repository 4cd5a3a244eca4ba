"""JSON Lines on disk: append, resume after a kill, read, replace.

There are two kinds of file. One that is written at once (`write`) appears
complete or not at all: temporary name, then rename. One that grows for minutes
(`Appender`) is flushed line by line; a kill can leave half a line at its end,
which the next `Appender` cuts off before it goes on.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Iterator
import io
import json
import math
import time
from typing import Any, BinaryIO

from etils import epath
import msgspec
import numpy as np

from s2d_jax.errors import UserError

Record = dict[str, Any]

_CHUNK = 1 << 19  # bytes that are read at once; malloc maps larger ones anew
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode


def dumps(record: Any) -> str:
  """A record, say, as one line: the same record always gives the same bytes."""
  return _encode(record)


def loads(text: str | bytes) -> Any:
  """What a JSON text says; half a surrogate pair in it becomes U+FFFD.

  UTF-8 has no half pairs, but JSON can spell them: cut texts have such.
  """
  try:
    return _decode(text)
  except ValueError:
    # Python reads more than JSON: NaN, and half pairs. If it is neither, its
    # error says where.
    text = text.decode() if isinstance(text, bytes) else text
    return _repaired(json.loads(text))


def _repaired(value: Any) -> Any:
  if isinstance(value, str):
    return without_surrogates(value)
  if isinstance(value, list):
    return [_repaired(item) for item in value]
  if isinstance(value, dict):
    return {_repaired(key): _repaired(item) for key, item in value.items()}
  return value


def without_surrogates(text: str) -> str:
  """The text with whole pairs joined, and U+FFFD for each half one."""
  return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read(path: epath.PathLike, growing: bool = False) -> Iterator[Record]:
  """Yields the records of a file; an error names the broken line.

  Args:
    path: of the file.
    growing: it is an `Appender`'s, so a partial line at its end is left out.
  """
  return (record for _, record in numbered(path, growing))


def numbered(
  path: epath.PathLike, growing: bool = False
) -> Iterator[tuple[int, Record]]:
  """Yields what `read` does with the numbers of the lines."""
  return ((number, record) for number, _, record in _located(path, growing))


def located(path: epath.PathLike) -> Iterator[tuple[int, Record]]:
  """Yields what `read` does with the bytes at which the lines begin."""
  return ((start, record) for _, start, record in _located(path, False))


def _located(
  path: epath.PathLike, growing: bool
) -> Iterator[tuple[int, int, Record]]:
  """Yields the number of each line, where it begins, and its record."""
  path, end = epath.Path(path), 0
  if not path.exists():
    raise UserError(f"{path} does not exist; run the stage that writes it")
  with path.open("rb") as lines:
    for number, line in enumerate(lines, start=1):
      start, end = end, end + len(line)
      if growing and not line.endswith(b"\n"):
        return
      if not line.strip():
        continue
      try:
        record = loads(line.removeprefix(codecs.BOM_UTF8))
      except UnicodeDecodeError as error:
        raise UserError(
          f"{path}, line {number} is not UTF-8 ({error}); convert it"
        ) from None
      except (ValueError, RecursionError) as error:
        raise UserError(
          f"{path}, line {number} is not valid JSON ({error}); fix or delete"
          " that line"
        ) from None
      if not isinstance(record, dict):
        raise UserError(f"{path}, line {number} is not a JSON object")
      yield number, start, record


def record_at(file: BinaryIO, start: int) -> Record:
  """The record of a file whose line begins there, as `located` says."""
  file.seek(start)
  return loads(file.readline().removeprefix(codecs.BOM_UTF8))


def at_lines(
  path: epath.PathLike, numbers: Collection[int]
) -> Iterator[tuple[int, Record]]:
  """Yields the records on these lines, as `numbered` does of all."""
  if not numbers:
    return
  with epath.Path(path).open("rb") as lines:
    for number, line in enumerate(lines, start=1):
      if number in numbers:
        yield number, loads(line.removeprefix(codecs.BOM_UTF8))


def read_json(path: epath.PathLike, advice: str, kind: type = dict) -> Any:
  """What a JSON file holds.

  Args:
    path: of the file, which is there.
    advice: what to do if it is empty or cut, for the error.
    kind: what it should hold.
  """
  path = epath.Path(path)
  try:
    value = loads(path.read_text())
  except (ValueError, RecursionError):
    value = None
  if not isinstance(value, kind):
    raise UserError(f"{path} is empty, cut or other JSON; {advice}")
  return value


def write_bytes(path: epath.PathLike, content: bytes) -> None:
  """Writes a whole file under a temporary name, then renames it.

  What is uploaded to a bucket at once appears whole by itself.
  """
  path = epath.Path(path)
  if "://" in str(path):
    path.write_bytes(content)
    return
  temporary = _temporary(path)
  temporary.write_bytes(content)
  temporary.replace(path)


def write_text(path: epath.PathLike, text: str) -> None:
  """Writes a whole text file, as UTF-8; complete or not at all."""
  write_bytes(path, text.encode())


def write(path: epath.PathLike, records: Iterable[Record]) -> None:
  """Writes a whole JSONL file; it appears complete or not at all.

  A record may go as soon as it is written.
  """
  write_lines(path, (dumps(record).encode() for record in records))


def write_lines(path: epath.PathLike, lines: Iterable[bytes]) -> None:
  """The same of lines without their ends, which stay as they are."""
  _write_chunks(path, (line + b"\n" for line in lines))


def _write_chunks(path: epath.PathLike, chunks: Iterable[bytes]) -> None:
  path = epath.Path(path)
  temporary = _temporary(path)
  try:
    with temporary.open("wb") as file:
      for chunk in chunks:
        file.write(chunk)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  temporary.replace(path)


def _temporary(path: epath.Path) -> epath.Path:
  """The name of a file until it is whole, in its folder, which is made."""
  path.parent.mkdir(parents=True, exist_ok=True)
  return path.parent / (path.name + ".tmp")


def drop_partial_line(path: epath.PathLike) -> None:
  """Cuts off the partial line that a kill can leave at the end of a file."""
  path = epath.Path(path)
  with path.open("rb") as file:
    whole = _end_of_last_line(file)
    if whole == file.seek(0, io.SEEK_END):
      return
    file.seek(0)
    _write_chunks(path, _chunks(file, whole))


def _end_of_last_line(file: BinaryIO) -> int:
  """Bytes up to the last line's end. A kill may cut a character in two."""
  end = file.seek(0, io.SEEK_END)
  while end:
    start = max(0, end - _CHUNK)
    file.seek(start)
    newline = file.read(end - start).rfind(b"\n")
    if newline >= 0:
      return start + newline + 1
    end = start
  return 0


def count_lines(path: epath.PathLike, size: int = -1) -> int:
  """Complete lines of a file, or of its first `size` bytes."""
  with epath.Path(path).open("rb") as file:
    return sum(map(_newlines, _chunks(file, size)))


def _newlines(block: bytes) -> int:
  """As `block.count`, three times as fast."""
  return int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))


def whole_lines(file: BinaryIO, size: int = -1) -> Iterator[bytes]:
  """Yields blocks of complete lines, of all of a file or its first bytes."""
  left = math.inf if size < 0 else size
  while left and (block := file.read(min(left, _CHUNK))):
    left -= len(block)
    rest = file.readline(-1 if size < 0 else left)
    left -= len(rest)
    block += rest
    if not block.endswith(b"\n"):
      block = block[: block.rfind(b"\n") + 1]
    if block:
      yield block


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
  """The next bytes of a file: so many, or with -1 all."""
  left = math.inf if size < 0 else size
  while left and (chunk := file.read(min(left, _CHUNK))):
    left -= len(chunk)
    yield chunk


class Appender:
  """A growing JSONL file that outlives kills.

  `recovered` holds the records that were already there. A last line cut by a
  kill is dropped; a broken line before it is an error, since it was edited.
  Object stores cannot append, so there the whole file is rewritten every
  `interval` seconds and at the end. A file that has become large is rewritten
  more rarely: that takes a tenth of the time at most.

  Args:
    path: of the file.
    interval: in seconds.
    recover: False if nobody wants the records that are there: they are many,
      and known to be whole.
  """

  def __init__(
    self, path: epath.PathLike, interval: float = 20.0, recover: bool = True
  ):
    self._path = epath.Path(path)
    self._interval = self._pause = interval
    self._written = time.monotonic()
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._remote = "://" in str(path)
    self._lines: list[str] = []
    self.recovered: list[Record] = []
    if self._path.exists():
      drop_partial_line(self._path)
      self.recovered = list(read(self._path)) if recover else []
      self._lines = [self._path.read_text()] if self._remote else []
    self._file = None if self._remote else self._path.open("a")

  def append(self, record: Record) -> None:
    line = dumps(record) + "\n"
    if self._file is not None:
      self._file.write(line)
      self._file.flush()
      return
    self._lines.append(line)
    if time.monotonic() - self._written > self._pause:
      self._rewrite()

  def flush(self) -> None:
    """When this returns, every record will survive a kill."""
    if self._file is None:
      self._rewrite()

  def _rewrite(self) -> None:
    began = time.monotonic()
    write_text(self._path, "".join(self._lines))
    self._written = time.monotonic()
    self._pause = max(self._interval, 9 * (self._written - began))

  def close(self) -> None:
    if self._file is not None:
      self._file.close()
    else:
      self._rewrite()

  def __enter__(self) -> Appender:
    return self

  def __exit__(self, *unused) -> None:
    self.close()
