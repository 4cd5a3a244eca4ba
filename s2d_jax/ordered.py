"""Records of JSON Lines files in an order, however many there are.

DuckDB sorts them, and keeps on the disk what does not fit its memory: of each
line the fields by which it is sorted, and where it stands. The line itself is
read when its turn comes, and stays as it is, byte for byte. Files that were
once sorted, or grew in nearly that order, are so read from front to back.
"""

from __future__ import annotations

import array
import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import os
import re
import tempfile
from typing import NamedTuple

import duckdb
from etils import epath
import numpy as np
import pyarrow as pa

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.records import Record

Name = tuple[str, ...]  # the values of the fields that name a record

_MEMORY = "128MB"  # of DuckDB; what is beyond lies on the disk
_THREADS = 4
_NEWLINE, _RETURN = b"\n\r"
_MAYBE_SURROGATE = re.compile(rb"\\u[dD]")
_FETCHED = 1000  # lines
_LINES = pa.schema(
  {
    "file": pa.int32(),
    "start": pa.int64(),
    "size": pa.int64(),
    "line": pa.string(),
  }
)


@dataclasses.dataclass(frozen=True)
class Order:
  """By what records are told apart, and how they are sorted.

  Attributes:
    fields: that name a record; no two have the same name. A field that is not
      there is an empty text, and a number is text, too.
    by: the order, as SQL's ORDER BY has it, over fields and ranks.
    ranks: places in lists: name → field → the values in their order, of
      several fields side by side, none twice. What is in no place is NULL.
  """

  fields: tuple[str, ...]
  by: str
  ranks: Mapping[str, Mapping[str, Sequence[str] | pa.StringArray]] = (
    dataclasses.field(default_factory=dict)
  )


class Part(NamedTuple):
  """The first bytes of a file that grows; -1: all of it."""

  path: epath.Path
  size: int = -1


class Place(NamedTuple):
  """Where a record stands: the number of its part, and its first byte."""

  part: int
  start: int


def read(
  parts: Sequence[Part], order: Order, only: str | None = None
) -> Iterator[Record]:
  """Yields the records of all files, sorted; for the arguments see `lines`."""
  return (record for _, record in located(parts, order, only))


def located(
  parts: Sequence[Part], order: Order, only: str | None = None
) -> Iterator[tuple[Place, Record]]:
  """Yields what `read` does, with where it stands."""
  for place, line in _located(parts, order, only):
    record = _record(line)
    if not isinstance(record, dict):
      _check_lines(parts)
    yield place, record


def _record(line: bytes) -> Record:
  return records.loads(line.removeprefix(codecs.BOM_UTF8))


def _check_lines(parts: Sequence[Part]) -> None:
  """Raises UserError for the first line that is no record."""
  for part in parts:
    for _ in records.read(part.path, growing=True):
      pass


def lines(
  parts: Sequence[Part], order: Order, only: str | None = None
) -> Iterator[bytes]:
  """Yields the lines of all files, sorted, without their ends.

  A record that is in two files, of a folder that was copied together, comes
  once. A partial line at the end of a file, which is growing, is left out.

  Args:
    parts: of the files.
    order: of the records.
    only: leaves out what has no place in the ranks of this name.

  Raises:
    UserError: the two are not the same, or a line is no record.
  """
  return (line for _, line in _located(parts, order, only))


def _located(
  parts: Sequence[Part], order: Order, only: str | None
) -> Iterator[tuple[Place, bytes]]:
  """Yields what `lines` does, with where it stands."""
  named = ", ".join(f'"{field}"' for field in order.fields)
  query = f"SELECT {named}, file, start, size FROM records"
  before: tuple[Name, Place, bytes] | None = None
  with contextlib.ExitStack() as stack:
    files = [stack.enter_context(part.path.open("rb")) for part in parts]
    for *name, number, start, size in _rows(
      parts, order, f"{query} ORDER BY {order.by}, file", only
    ):
      files[number].seek(start)
      line = files[number].read(size).strip()
      found = name, Place(number, start), line
      if before is not None and before[0] == name:
        _check_same(parts, before, found)
        continue
      before = found
      yield found[1:]


def names(parts: Sequence[Part], order: Order) -> set[Name]:
  """The names of all records, whose lines are not kept."""
  named = ", ".join(f'"{field}"' for field in order.fields)
  return set(_rows(parts, order, f"SELECT {named} FROM records"))


def group_sizes(
  parts: Sequence[Part], order: Order, fields: Sequence[str]
) -> Iterator[int]:
  """How many records have the same values of some fields, of each value."""
  named, grouped = (
    ", ".join(f'"{field}"' for field in each) for each in (order.fields, fields)
  )
  query = f"SELECT count(DISTINCT ({named})) FROM records GROUP BY {grouped}"
  return (size for (size,) in _rows(parts, order, query))


def _check_same(parts: Sequence[Part], one, other) -> None:
  (name, first, line), (_, second, again) = one, other
  if line != again and _record(line) != _record(again):
    raise UserError(
      f"{parts[first.part].path} and {parts[second.part].path} have different"
      f" records for {'/'.join(name)}; delete the one that is not of this run"
    )


def _rows(
  parts: Sequence[Part], order: Order, query: str, only: str | None = None
) -> Iterator[tuple]:
  """What a query finds in the table "records".

  That is made before anything is sorted: to look up ranks takes memory, too,
  and there is not enough for both where records are millions.
  """
  with contextlib.ExitStack() as stack:
    spill = stack.enter_context(tempfile.TemporaryDirectory())
    connection = stack.enter_context(
      duckdb.connect(
        config={
          "memory_limit": _MEMORY,
          "temp_directory": spill,
          "threads": min(_THREADS, os.cpu_count() or 1),
          "preserve_insertion_order": False,
          "autoinstall_known_extensions": False,
        }
      )
    )
    batches = pa.RecordBatchReader.from_batches(_LINES, _batches(parts))
    connection.register("lines", batches)
    records_of_lines = _records(connection, order)
    where = f'WHERE "{only}" IS NOT NULL' if only else ""
    try:
      connection.execute(
        f"CREATE TEMP TABLE records AS {records_of_lines} {where}"
      )
      found = connection.execute(query)
      while rows := found.fetchmany(_FETCHED):
        yield from rows
    except (duckdb.Error, UnicodeDecodeError) as error:
      raise _refused(parts, spill, error) from None


def _records(connection: duckdb.DuckDBPyConnection, order: Order) -> str:
  """Selects the records: where lines stand, with their fields and ranks."""
  fields = dict.fromkeys(itertools.chain(order.fields, *order.ranks.values()))
  # All at once: each call reads the line again.
  paths = ", ".join(f"""'$."{field}"'""" for field in fields)
  columns = [
    f"""coalesce(found[{place}], '') AS "{field}\""""
    for place, field in enumerate(fields, start=1)
  ]
  joins = []
  for name, ranks in order.ranks.items():
    table = {field: texts(found) for field, found in ranks.items()}
    table[name] = _numbers(np.arange(len(next(iter(table.values())))))
    connection.register(f"ranks of {name}", pa.table(table))
    same = ", ".join(f'"{field}"' for field in ranks)
    joins.append(f'LEFT JOIN "ranks of {name}" USING ({same})')
  return (
    "WITH read AS (SELECT file, start, size,"
    f" json_extract_string(line, [{paths}]) AS found FROM lines),"
    f" fields AS (SELECT file, start, size, {', '.join(columns)} FROM read)"
    f" SELECT * FROM fields {' '.join(joins)}"
  )


def _batches(parts: Sequence[Part]) -> Iterator[pa.RecordBatch]:
  """The lines of all files, and where they stand."""
  for number, part in enumerate(parts):
    start = 0
    with part.path.open("rb") as file:
      for block in records.whole_lines(file, part.size):
        letters = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(letters == _NEWLINE)
        edges = np.concatenate([[0], 1 + ends])
        sizes = np.diff(edges)
        is_empty = (sizes == 1) | (
          (sizes == 2) & (letters[ends - 1] == _RETURN)
        )
        columns = (
          np.full(len(sizes), number, np.int32),
          start + edges[:-1],
          sizes,
        )
        lines = pa.record_batch(
          [*map(_numbers, columns), _lines_of(block, edges)], schema=_LINES
        )
        yield lines.filter(pa.array(~is_empty)) if is_empty.any() else lines
        start += len(block)


def _lines_of(block: bytes, edges: np.ndarray) -> pa.Array:
  """What lies between these bytes of a block, as texts."""
  if block.startswith(codecs.BOM_UTF8):
    block = block.replace(codecs.BOM_UTF8, b"   ", 1)
  if _MAYBE_SURROGATE.search(block):
    return texts(map(_repaired, block.splitlines(True)))
  return _between(edges, block)


# `pa.array` would import pandas: a second, and 40 MB.


def _numbers(values: np.ndarray) -> pa.Array:
  kind = pa.from_numpy_dtype(values.dtype)
  return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def texts(values: Iterable[str]) -> pa.StringArray:
  """An array of them: four bytes each, and their letters."""
  if isinstance(values, pa.StringArray):
    return values
  letters, edges = bytearray(), array.array("i", [0])
  for value in values:
    letters += value.encode()
    edges.append(len(letters))
  return _between(np.frombuffer(edges, np.int32), letters)


def _between(edges: np.ndarray, letters: bytes) -> pa.StringArray:
  count, edges = len(edges) - 1, pa.py_buffer(edges.astype(np.int32))
  return pa.StringArray.from_buffers(count, edges, pa.py_buffer(letters))


def _repaired(line: bytes) -> str:
  """Without half a surrogate pair, which DuckDB takes for no JSON."""
  try:
    return records.dumps(_record(line))
  except ValueError:
    return line.decode(errors="replace")  # DuckDB does not take it, either


def _refused(parts: Sequence[Part], spill: str, error: Exception) -> UserError:
  """Why these files cannot be sorted."""
  try:
    _check_lines(parts)
  except UserError as broken:
    return broken
  reason = str(error).partition("\n")[0]
  return UserError(
    f"{parts[0].path.parent} cannot be sorted ({reason}); make room on the"
    f" disk of {os.path.dirname(spill)}, or name another folder in TMPDIR"
  )
