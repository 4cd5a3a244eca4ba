"""How many rows a batch is to have: what fits a device, and what is worth it.

A decode step reads all weights, whatever the number of rows, and takes products
for every row. So more rows are nearly free until the products take as long as
the reading (the knee, where rows are the chip's products a byte); beyond, a
step takes longer with every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import math
from typing import NamedTuple

from s2d_jax.generation import shapes
from s2d_jax.parallel.topology import Chip
from s2d_jax.planning.decoding import Batch, Sampler
from s2d_jax.planning.programs import decode_flops

# The fewest rows are taken that are so fast beside the fastest that fit.
WORTH = 0.9
_LEAST, _MOST = 8, 8192  # rows of a copy of the model


class Peaks(NamedTuple):
  """Of a device, a second: products (multiplications, additions) and bytes."""

  flops: float
  bandwidth: float

  @classmethod
  def of(cls, chip: Chip | None) -> Peaks:
    """Of an unknown device: as if products took no time.

    Rates are then relative ones, and those of keys and values against weights.
    """
    if chip is None:
      return cls(math.inf, 1.0)
    return cls(chip.flops, chip.hbm_bandwidth)


@dataclasses.dataclass(frozen=True)
class Size:
  """A batch, and what it asks of each device.

  Attributes:
    batch: its sizes.
    resident: bytes that stay there, with the weights.
    growing: bytes more while the pages of replies are copied into more pages.
    compute: seconds of a step's products at the device's peak.
    memory: seconds to read weights, keys and values at its peak.
    devices: that share the rows.
  """

  batch: Batch
  resident: int
  growing: int
  compute: float
  memory: float
  devices: int

  @property
  def rows(self) -> int:
    return self.batch.samples

  @property
  def seconds(self) -> float:
    """Of a step, half-way between all overlapped and nothing overlapped."""
    longest = self.compute + self.memory
    return (max(self.compute, self.memory) + longest) / 2

  @property
  def rate(self) -> float:
    """Tokens a second and device."""
    return self.rows / self.seconds / self.devices

  def temporary(self, peak: float) -> float:
    """Bytes a row that a program needs besides, with so many at its fullest."""
    return (peak - self.resident) / self.rows

  def needs(self, a_row: float) -> float:
    """Bytes, with so many of temporary memory a row."""
    return self.resident + max(self.growing, a_row * self.rows)


@dataclasses.dataclass(frozen=True)
class Choice:
  """The size to decode with.

  Attributes:
    size: chosen.
    largest: that fits.
    knee: the first whose products take as long as its reading, if there is one.
    sizes: that were looked at, ascending; the last may not fit.
    temporary: bytes a row, of the programs that were compiled.
  """

  size: Size
  largest: Size
  knee: Size | None
  sizes: Sequence[Size]
  temporary: float = 0.0

  @property
  def listed(self) -> list[Size]:
    """Some sizes of all: each twice the one before, and those of interest."""
    marked, least = (self.size, self.largest, self.knee), self.sizes[0].rows
    doubled = lambda size: math.log2(size.rows / least).is_integer()
    return [size for size in self.sizes if doubled(size) or size in marked]

  def why(self) -> str:
    """As "384 of at most 512 that fit; more would hardly be faster"."""
    rows, most = self.size.rows, self.largest.rows
    if rows == most:
      return f"{rows}, the most that fit"
    return f"{rows} of at most {most} that fit; more would hardly be faster"


def sizes(
  sampler: Sampler,
  per_slot: int,
  prompt: int,
  reply: int,
  peaks: Peaks,
  limit: float,
  room: int | None = None,
  most: float = math.inf,
) -> Iterator[Size]:
  """Sizes of a batch, ascending, to the first that does not fit or is enough.

  A copy of the model has 8, 12, 16, 24, 32, 48, … rows: few sizes, so that few
  programs are compiled, each of full tiles.

  Args:
    sampler: the network on its mesh.
    per_slot: rows that share a prompt.
    prompt: tokens of the longest prompt.
    reply: tokens of the longest reply.
    peaks: of a device.
    limit: bytes of a device.
    room: tokens of its reply that a row has room for, in the mean.
    most: rows that are enough.
  """
  for copy_rows in _grid():
    rows = copy_rows * sampler.shards
    slots = rows // per_slot
    even = shapes.slots_on_mesh(
      slots, per_slot, sampler.shards, sampler.mesh.size
    )
    if slots * per_slot != rows or even != slots:
      continue
    batch = Batch(slots, per_slot, prompt, reply, room)
    yield (size := size_of(sampler, batch, peaks))
    if size.resident > limit or size.rows >= most:
      return


def size_of(sampler: Sampler, batch: Batch, peaks: Peaks) -> Size:
  """What a batch asks of devices with these peaks."""
  arrays, devices = sampler.arrays(batch), sampler.mesh.size
  flops = decode_flops(sampler.model.config, arrays.batch)
  return Size(
    arrays.batch,
    sum(arrays.resident.values()),
    _growing(arrays.batch, arrays.resident["keys and values"]),
    flops / devices / peaks.flops,
    sampler.least_traffic(arrays) / peaks.bandwidth,
    devices,
  )


def _grid() -> Iterator[int]:
  rows = _LEAST
  while rows <= _MOST:
    yield rows
    yield rows * 3 // 2
    rows *= 2


def _growing(batch: Batch, keys_values: int) -> int:
  """Bytes of the pages before, which are there until all are copied."""
  room = shapes.sizes(batch.samples, batch.reply, on_cpu=False).room
  if batch.room or math.ceil(batch.reply / room.page) <= room.pages_per_row:
    return 0
  own = batch.reply / (batch.reply + batch.prompt / batch.rows)
  return int(keys_values * own / room.growth)


def choose(
  found: Sequence[Size],
  limit: float,
  temporary: float = 0.0,
  worth: float = WORTH,
) -> Choice | None:
  """The fewest rows that are within a tenth of the fastest that fit.

  None if no size fits.

  Args:
    found: sizes, ascending.
    limit: bytes of a device.
    temporary: bytes a row that programs need besides what stays.
    worth: share of the fastest's tokens a second that is enough.
  """
  fitting = [size for size in found if size.needs(temporary) <= limit]
  if not fitting:
    return None
  fastest = max(size.rate for size in fitting)
  chosen = next(size for size in fitting if size.rate >= worth * fastest)
  knee = next((size for size in found if size.compute >= size.memory), None)
  return Choice(chosen, fitting[-1], knee, found, temporary)


def compiled(
  found: Sequence[Size],
  limit: float,
  peak: Callable[[Size], float],
) -> Choice | None:
  """What is chosen by the memory of compiled programs; None if no size fits.

  What they need besides what stays is taken to grow with the rows. Few are
  compiled: the one that is chosen, and a smaller one if it does not fit.

  Args:
    found: sizes, ascending.
    limit: bytes of a device.
    peak: compiles the programs of a size; bytes of a device at its fullest.
  """
  choice, size = choose(found, limit), None
  while choice is not None and choice.size != size:
    size = choice.size
    own = size.temporary(peak(size))
    choice = choose(found, limit, max(choice.temporary, own))
  return choice
