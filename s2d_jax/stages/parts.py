"""Rows that several hosts make together, each in a file of its own.

    with Parts(folder, place, scope) as parts:
      for example in parts.share(examples):
        if … not in parts.recovered:
          parts.append(row)

Host i of n takes every n-th example, from the i-th on, and appends its rows to
part-0000i-of-0000n.jsonl. At the start each host reads all the parts that lie
there, so a run that was killed goes on with what none of them has, also with
another number of hosts. In the end the rows are put in order: whatever happened
on the way, the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import sys
import time
from typing import Any, TypeVar

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.records import Record

T = TypeVar("T")

# From a row to what orders the rows; no two rows have the same.
Place = Callable[[Record], tuple[Any, ...]]

# After that, what another host has written is not there to be seen.
_SHOWN_SECONDS = 120


class Parts:
  """The rows of one stage.

  Args:
    folder: of the parts.
    place: of a row among all.
    scope: "host", where hosts work for themselves; "global", where all make
      the same rows together: the lead writes them.
    into: file that all rows are moved to in the end; default: they stay.
  """

  def __init__(
    self,
    folder: epath.Path,
    place: Place,
    scope: str,
    into: epath.Path | None = None,
  ):
    self._folder, self._place, self._into = folder, place, into
    self._deals = scope == "host"
    index, count = (hosts.index(), hosts.count()) if self._deals else (0, 1)
    self._names = [f"part-{i:05d}-of-{count:05d}.jsonl" for i in range(count)]
    self._own = folder / self._names[index]
    self._file: records.Appender | None = None
    self.recovered: list[Record] = []

  @classmethod
  def into(cls, path: epath.Path, place: Place, scope: str) -> Parts:
    """Parts that end as one file, and lie beside it until then."""
    return cls(path.parent / path.stem, place, scope, into=path)

  def share(self, items: Sequence[T]) -> list[T]:
    """What this host is to make."""
    return hosts.share(items) if self._deals else list(items)

  def append(self, row: Record) -> None:
    if self._file is not None:
      self._file.append(row)

  def __enter__(self) -> Parts:
    for path in hosts.share(self._paths()):
      records.mend(path)
    hosts.barrier("parts are whole")
    self.recovered = self._read()
    hosts.barrier("parts are read")
    if self._deals or hosts.is_lead():
      self._file = records.Appender(self._own)
    return self

  def __exit__(self, kind, *unused) -> None:
    if self._file is not None:
      self._file.close()
    if kind is not None:
      return
    if hosts.count() > 1 and hosts.is_lead():
      print("waiting for the other hosts", file=sys.stderr)
    hosts.barrier("parts are made")
    if self._into is None:
      self._await_parts()
      for path in hosts.share(self._paths()):
        rows = list(records.read(path))
        records.write(path, sorted(rows, key=self._place))
    elif hosts.is_lead():
      self._await_parts()
      records.write(self._into, self._read())
      self._folder.rmtree()
    hosts.barrier("parts are in order")
    if self._into is not None:
      _await(self._into.exists, self._into)

  def _paths(self) -> list[epath.Path]:
    paths = sorted(self._folder.glob("part-*.jsonl"))
    if self._into is not None and self._into.exists():
      paths.append(self._into)
    return paths

  def _await_parts(self) -> None:
    names = set(self._names)
    _await(lambda: names <= {p.name for p in self._paths()}, self._folder)

  def _read(self) -> list[Record]:
    return read(self._paths(), self._place)


def _await(is_shown: Callable[[], bool], path: epath.Path) -> None:
  """A network file system may show late what another host has written."""
  until = time.monotonic() + _SHOWN_SECONDS
  while not is_shown():
    if time.monotonic() > until:
      raise UserError(
        f"{path} lacks what other hosts have written there; --workdir must be"
        " a folder that all hosts share"
      )
    time.sleep(1)


def read(paths: Sequence[epath.Path], place: Place) -> list[Record]:
  """The rows of all parts, in order.

  A row that lies in two parts, of a folder that was copied together, counts
  once.

  Raises:
    UserError: the two are not the same.
  """
  found: dict[tuple[Any, ...], tuple[Record, epath.Path]] = {}
  for path in paths:
    for row in records.read(path):
      where = place(row)
      other, first = found.setdefault(where, (row, path))
      if other != row:
        name = "/".join(str(part) for part in where)
        raise UserError(
          f"{first} and {path} have different rows for {name}; delete the one"
          " that is not of this run"
        )
  return [found[where][0] for where in sorted(found)]
