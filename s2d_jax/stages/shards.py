"""Records that several hosts make together, each in a shard of its own.

    with RecordShards(folder, order, scope) as shards:
      there = shards.names()
      for example in shards.deal([one for one in examples if … not in there]):
        shards.append(record)

Hosts deal the examples among themselves (`parallel/dealing.py`), and host i of
n appends its records to part-0000i-of-0000n.jsonl. At the start each host looks
which records are in any of the shards that are there, so a run that was killed
goes on with what none of them has, also with another number of hosts. In the
end the records are sorted: whatever happened on the way, who reads all files
reads the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import time
from typing import BinaryIO, TypeVar

from etils import epath
import numpy as np

from s2d_jax import ordered, records
from s2d_jax.errors import UserError
from s2d_jax.ordered import Name, Order, Part, Place
from s2d_jax.parallel import hosts
from s2d_jax.parallel.dealing import Deal
from s2d_jax.records import Record

T = TypeVar("T")

# A file of another host that does not appear within this time is not shared.
_APPEAR_SECONDS = 120


class RecordShards:
  """The records of one stage.

  Args:
    folder: of the shards.
    order: of the records.
    scope: "host": the hosts share the work; "global": all of them make the
      same records together, and the lead writes them.
    merged: file that all records are moved to in the end; None: they stay.
  """

  def __init__(
    self,
    folder: epath.Path,
    order: Order,
    scope: str,
    merged: epath.Path | None = None,
  ):
    self._folder, self._order, self._merged = folder, order, merged
    self._shares_work = scope == "host"
    index, count = (
      (hosts.index(), hosts.count()) if self._shares_work else (0, 1)
    )
    self._names = [f"part-{i:05d}-of-{count:05d}.jsonl" for i in range(count)]
    self._own = folder / self._names[index]
    self._file: records.Appender | None = None
    self._there: list[Part] = []
    self._open: dict[int, BinaryIO] = {}  # parts that were read again

  @classmethod
  def merged_into(
    cls, path: epath.Path, order: Order, scope: str
  ) -> RecordShards:
    """Shards in a folder beside `path`, which become that file in the end."""
    return cls(path.parent / path.stem, order, scope, merged=path)

  def deal(self, items: Sequence[T]) -> Deal[T]:
    """The items that this host gets; for all hosts to call."""
    return Deal(self._folder.name, items, self._shares_work)

  def share(self, items: Sequence[T]) -> Sequence[T]:
    """This host's part of work that is alike: every n-th item."""
    return hosts.share(items) if self._shares_work else items

  def flags_of_all(self, name: str, own: Sequence[bool]) -> np.ndarray:
    """Flags of all items, from those of this host's part; for all to call."""
    if not self._shares_work:
      return np.array(own, bool)
    return hosts.flags_of_all(name, own)

  def rows_of_all(self, name: str, own: np.ndarray) -> np.ndarray:
    """The rows of an array that each host has; for all to call."""
    return hosts.rows_of_all(name, own) if self._shares_work else own

  def names(self) -> set[Name]:
    """Of the records that were there at the start."""
    return ordered.names(self._there, self._order)

  def located(self, order: Order, only: str) -> Iterator[tuple[Place, Record]]:
    """Of these the ones in some ranks of an order, with where they stand."""
    return ordered.located(self._there, order, only)

  def at(self, place: Place) -> Record:
    """The one that stood there at the start."""
    if place.part not in self._open:
      self._open[place.part] = self._there[place.part].path.open("rb")
    return records.record_at(self._open[place.part], place.start)

  def count(self) -> int:
    """How many there were."""
    return sum(records.count_lines(*part) for part in self._there)

  def append(self, record: Record) -> None:
    if self._file is not None:
      self._file.append(record)

  def __enter__(self) -> RecordShards:
    for path in hosts.share(self._paths()):
      records.drop_partial_line(path)
    hosts.barrier("shards are whole")
    self._there = [Part(p, p.stat().length) for p in self._paths()]
    hosts.barrier("shards are seen")
    if self._shares_work or hosts.is_lead():
      self._file = records.Appender(self._own, recover=False)
    return self

  def __exit__(self, kind, *unused) -> None:
    for file in (self._file, *self._open.values()):
      if file is not None:
        file.close()
    if kind is not None:
      return
    hosts.barrier(f"{self._folder.name} is made")
    if self._merged is None:
      self._await_shards()
      for path in hosts.share(self._paths()):
        records.write_lines(path, ordered.lines([Part(path)], self._order))
    elif hosts.is_lead():
      self._await_shards()
      records.write_lines(
        self._merged, ordered.lines([*map(Part, self._paths())], self._order)
      )
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
