"""Estimates the time of a compiled program by the roofline of the chip.

Nothing is timed. FLOPs, memory traffic and collectives are read from the text
of the program and divided by the peak rates of the chip.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

import jax
from jax.sharding import Mesh

from s2d_jax.parallel import hlo
from s2d_jax.parallel.hlo import Collective
from s2d_jax.parallel.topology import Chip, Topology
from s2d_jax.planning.programs import Program

ASSUMPTIONS = (
  "Peak figures of the chip (docs/tpu.md): real programs reach a part of them.",
  "Compute: matrix products at the bfloat16 peak, whatever their type; nothing"
  " for the rest.",
  "Memory: every instruction reads its operands and writes its results once;"
  " what the compiler keeps near the units is free after it got there.",
  "Network: ring algorithms that use both directions of each dimension of the"
  " torus which a group of chips extends over, one collective at a time; a"
  " group over several slices goes at the pace of the data-centre network.",
  "The shortest time is that of the slowest of these, the others hidden behind"
  " it; the longest is their sum. Latency and the host are left out.",
  "MFU counts the products of the model alone, with causal attention at half"
  " its square, and not what is computed again to save memory.",
)

# Products in a kernel: scores and values forward; scores, their gradient's two
# factors, and the gradients of queries and keys backward.
_KERNEL_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dkv": 5}
_KERNEL_BLOCK = 512  # tokens: of a causal kernel blocks above are left out


@dataclasses.dataclass(frozen=True)
class Exchange:
  """Collectives of one kind among groups of one size, of one chip.

  Attributes:
    kind: as in HLO.
    size: chips in a group; slices, if it extends over them.
    times: an execution.
    sent: bytes an execution.
    seconds: that this takes.
    across_slices: whether groups extend over slices.
    across_hosts: whether groups extend over hosts.
  """

  kind: str
  size: int
  times: int
  sent: float
  seconds: float
  across_slices: bool
  across_hosts: bool


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Of one execution of a program on each chip.

  Attributes:
    flops: products it computes.
    traffic: bytes to and from memory.
    exchanges: its collectives.
    compute: seconds at the chip's peak.
    memory: seconds at the memory's peak.
    network: seconds at the links' peak.
    tokens: over all chips.
    model_flops: products a chip would need at the least.
    peak: products a second.
  """

  flops: float
  traffic: float
  exchanges: Sequence[Exchange]
  compute: float
  memory: float
  network: float
  tokens: int
  model_flops: float
  peak: float

  @property
  def shortest(self) -> float:
    """Seconds if all overlaps."""
    return max(self.compute, self.memory, self.network)

  @property
  def longest(self) -> float:
    """Seconds if nothing overlaps."""
    return self.compute + self.memory + self.network

  @property
  def bound(self) -> str:
    """What takes longest."""
    times = {
      "compute": self.compute,
      "memory": self.memory,
      "network": self.network,
    }
    return max(times, key=times.get)

  def mfu(self, seconds: float) -> float:
    """Share of the chip's peak that goes into the model's products."""
    return self.model_flops / seconds / self.peak


@dataclasses.dataclass(frozen=True)
class Planned:
  """A program and, if it was compiled, how long it should take."""

  program: Program
  estimate: Estimate | None

  @property
  def fits(self) -> bool:
    return self.program.problem is None


def planned(program: Program) -> Planned:
  compiled = program.module is not None
  return Planned(program, estimate(program) if compiled else None)


def estimate(program: Program) -> Estimate:
  """The roofline of a compiled program."""
  chip = program.topology.chip
  flops = hlo.flops(program.step) + sum(
    run.times * kernel_flops(run) for run in hlo.kernels(program.step)
  )
  traffic = hlo.traffic(program.step)
  exchanges = exchanges_of(
    hlo.collectives(program.step), program.topology, program.mesh
  )
  return Estimate(
    flops=flops,
    traffic=traffic,
    exchanges=exchanges,
    compute=flops / chip.flops,
    memory=traffic / chip.hbm_bandwidth,
    network=sum(exchange.seconds for exchange in exchanges),
    tokens=program.tokens,
    model_flops=program.model_flops / program.topology.num_devices,
    peak=chip.flops,
  )


def kernel_flops(run: hlo.Executed) -> float:
  """FLOPs of one call of an attention kernel, by its name and queries.

  The queries [..., N, T, H] are its first operand of floats.
  """
  for name, products in _KERNEL_PRODUCTS.items():
    if run.instruction.name.startswith(name):
      operands = run.computation.operand_shapes(run.instruction)
      queries = next(s.dims for s in operands if s.dtype in ("bf16", "f32"))
      *lead, length, size = queries
      blocks = math.ceil(length / _KERNEL_BLOCK)
      causal = (blocks + 1) / (2 * blocks)
      return products * 2 * math.prod(lead) * length**2 * size * causal
  return 0


def exchanges_of(
  collectives: Sequence[Collective], topology: Topology, mesh: Mesh
) -> list[Exchange]:
  """Collectives added up by kind and size of group, what sends most first."""
  devices = mesh.devices.flat
  total: dict[tuple, list] = {}
  for collective in collectives:
    if collective.size < 2:
      continue
    across_slices = across_hosts = collective.over_slices
    speed = topology.chip.dcn_bandwidth
    if not collective.over_slices:
      group = [devices[chip] for chip in max(collective.groups, key=len)]
      across_hosts = _extent(group, "process_index") > 1
      speed = bandwidth(topology.chip, group)
    key = collective.kind, collective.size, across_slices, across_hosts
    seconds = collective.sent / speed
    times, sent, taken = total.get(key, (0, 0.0, 0.0))
    total[key] = [
      times + collective.times,
      sent + collective.times * collective.sent,
      taken + collective.times * seconds,
    ]
  found = [
    Exchange(kind, size, times, sent, taken, over_slices, over_hosts)
    for (kind, size, over_slices, over_hosts), (times, sent, taken) in (
      total.items()
    )
  ]
  return sorted(found, key=lambda exchange: -exchange.sent)


def bandwidth(chip: Chip, group: Sequence[jax.Device]) -> float:
  """Bytes a second at which a chip sends to the others of a group."""
  along = zip(*(device.coords for device in group), strict=True)
  dimensions = sum(len(set(places)) > 1 for places in along)
  if not dimensions:  # the cores of one chip, for which nothing is published
    dimensions = chip.dimensions
  return chip.ici_bandwidth * dimensions / chip.dimensions


def _extent(group, attribute: str) -> int:
  return len({getattr(device, attribute, None) for device in group})
