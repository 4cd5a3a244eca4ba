"""Records that several hosts make together, each in a shard of its own.

    with RecordShards(folder, sort_key, scope) as shards:
      for example in shards.share(examples):
        if … not in shards.recovered:
          shards.append(record)

Host i of n takes every n-th example, from the i-th on, and appends its records
to part-0000i-of-0000n.jsonl. At the start each host reads all the shards that
are there, so a run that was killed goes on with what none of them has, also
with another number of hosts. In the end the records are sorted: whatever
happened on the way, the files are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import time
from typing import Any, TypeVar

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.records import Record

T = TypeVar("T")

# From a record to what the records are sorted by; no two have the same.
SortKey = Callable[[Record], tuple[Any, ...]]

# A file of another host that does not appear within this time is not shared.
_APPEAR_SECONDS = 120


class RecordShards:
  """The records of one stage.

  Args:
    folder: of the shards.
    sort_key: of a record.
    scope: "host": the hosts share the work; "global": all of them make the
      same records together, and the lead writes them.
    merged: file that all records are moved to in the end; None: they stay.
  """

  def __init__(
    self,
    folder: epath.Path,
    sort_key: SortKey,
    scope: str,
    merged: epath.Path | None = None,
  ):
    self._folder, self._sort_key, self._merged = folder, sort_key, merged
    self._shares_work = scope == "host"
    index, count = (
      (hosts.index(), hosts.count()) if self._shares_work else (0, 1)
    )
    self._names = [f"part-{i:05d}-of-{count:05d}.jsonl" for i in range(count)]
    self._own = folder / self._names[index]
    self._file: records.Appender | None = None
    self.recovered: list[Record] = []

  @classmethod
  def merged_into(
    cls, path: epath.Path, sort_key: SortKey, scope: str
  ) -> RecordShards:
    """Shards in a folder beside `path`, which become that file in the end."""
    return cls(path.parent / path.stem, sort_key, scope, merged=path)

  def share(self, items: Sequence[T]) -> list[T]:
    """This host's items."""
    return hosts.share(items) if self._shares_work else list(items)

  def append(self, record: Record) -> None:
    if self._file is not None:
      self._file.append(record)

  def __enter__(self) -> RecordShards:
    for path in hosts.share(self._paths()):
      records.drop_partial_line(path)
    hosts.barrier("shards are whole")
    self.recovered = self._read()
    hosts.barrier("shards are read")
    if self._shares_work or hosts.is_lead():
      self._file = records.Appender(self._own)
    return self

  def __exit__(self, kind, *unused) -> None:
    if self._file is not None:
      self._file.close()
    if kind is not None:
      return
    hosts.barrier(f"{self._folder.name} is made")
    if self._merged is None:
      self._await_shards()
      for path in hosts.share(self._paths()):
        records.write(path, sorted(records.read(path), key=self._sort_key))
    elif hosts.is_lead():
      self._await_shards()
      records.write(self._merged, self._read())
      self._folder.rmtree()
    hosts.barrier("shards are sorted")
    if self._merged is not None:
      _await(self._merged.exists, self._merged)

  def _paths(self) -> list[epath.Path]:
    paths = sorted(self._folder.glob("part-*.jsonl"))
    if self._merged is not None and self._merged.exists():
      paths.append(self._merged)
    return paths

  def _await_shards(self) -> None:
    names = set(self._names)
    _await(lambda: names <= {p.name for p in self._paths()}, self._folder)

  def _read(self) -> list[Record]:
    return read_shards(self._paths(), self._sort_key)


def _await(is_there: Callable[[], bool], path: epath.Path) -> None:
  """A network file system may show late what another host has written."""
  until = time.monotonic() + _APPEAR_SECONDS
  while not is_there():
    if time.monotonic() > until:
      raise UserError(
        f"{path} lacks what other hosts have written there; --workdir must be"
        " a folder that all hosts share"
      )
    time.sleep(1)


def read_shards(paths: Sequence[epath.Path], sort_key: SortKey) -> list[Record]:
  """The records of all shards, sorted.

  A record that is in two shards, of a folder that was copied together, counts
  once.

  Raises:
    UserError: the two are not the same.
  """
  found: dict[tuple[Any, ...], tuple[Record, epath.Path]] = {}
  for path in paths:
    for record in records.read(path):
      key = sort_key(record)
      other, first = found.setdefault(key, (record, path))
      if other != record:
        name = "/".join(str(part) for part in key)
        raise UserError(
          f"{first} and {path} have different records for {name}; delete the"
          " one that is not of this run"
        )
  return [found[key][0] for key in sorted(found)]
