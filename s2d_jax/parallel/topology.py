"""TPU topologies by name, without the TPU: chips, hosts and their peaks.

`libtpu`, the TPU's compiler, knows every slice that can be rented and compiles
for it on any Linux machine. Its devices are names to compile for: nothing can
be put on them or run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import functools
from importlib import metadata, util
import math
import os
import re

import jax
from jax.experimental import topologies
from packaging.requirements import Requirement

from s2d_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
  """Memory and peak rates of what is one device: a chip, of v2 and v3 a core.

  From the pages "TPU v2" to "TPU v6e" of https://cloud.google.com/tpu/docs, but
  for `usable_gib`, which is the limit that libtpu 0.0.42 compiles for. A core
  has half of its chip.

  Attributes:
    hbm_gib: memory.
    usable_gib: memory that programs may use.
    hbm_bandwidth: bytes a second.
    flops: bfloat16 multiplications and additions a second.
    int8_ops: the same for int8.
    ici_bandwidth: bytes a second to other chips of the slice over all links,
      in one direction: half of the "bidirectional" figure.
    dcn_bandwidth: bytes a second to other slices, in one direction.
    dimensions: of the torus; a chip has two links along each.
    host_chips: extent of the chips of one host in a slice of many.
    single_host: slices that are one host as a whole.
    accelerator: a type of which libtpu knows the hosts.
    options: what libtpu is asked for, so that a chip is one device.
    cores: of a chip that are devices of their own.
  """

  hbm_gib: float
  usable_gib: float
  hbm_bandwidth: float
  flops: float
  int8_ops: float
  ici_bandwidth: float
  dcn_bandwidth: float
  dimensions: int
  host_chips: tuple[int, ...]
  single_host: tuple[tuple[int, ...], ...]
  accelerator: str
  options: tuple[tuple[str, str], ...] = ()
  cores: int = 1

  @property
  def device(self) -> str:
    """What one device is."""
    return "chip" if self.cores == 1 else "core"

  @property
  def usable_bytes(self) -> int:
    return int(self.usable_gib * 2**30)


CHIPS = {
  "v2": Chip(
    hbm_gib=8,
    usable_gib=7.48,
    hbm_bandwidth=350e9,
    flops=22.5e12,
    int8_ops=22.5e12,
    ici_bandwidth=124e9,  # four links of 62 GB/s a chip (Jouppi et al. 2020)
    dcn_bandwidth=3.125e9,  # not published; as v5e
    dimensions=2,
    host_chips=(2, 2),
    single_host=((2, 2),),
    accelerator="v2-8",
    cores=2,
  ),
  "v3": Chip(
    hbm_gib=16,
    usable_gib=15.48,
    hbm_bandwidth=450e9,
    flops=61.5e12,
    int8_ops=61.5e12,
    ici_bandwidth=164e9,  # four links of 82 GB/s a chip (Jouppi et al. 2020)
    dcn_bandwidth=3.125e9,  # not published; as v5e
    dimensions=2,
    host_chips=(2, 2),
    single_host=((2, 2),),
    accelerator="v3-8",
    cores=2,
  ),
  "v4": Chip(
    hbm_gib=32,
    usable_gib=30.75,
    hbm_bandwidth=1200e9,
    flops=275e12,
    int8_ops=275e12,
    ici_bandwidth=300e9,  # six links of 50 GB/s (Jouppi et al. 2023)
    dcn_bandwidth=6.25e9,  # not published; as v5p
    dimensions=3,
    host_chips=(2, 2, 1),
    single_host=((1, 1, 1), (2, 2, 1)),
    accelerator="v4-8",
    # Both cores of a chip as one device, as is usual on v4.
    options=(("chip_config_name", "megacore"),),
  ),
  "v5e": Chip(
    hbm_gib=16,
    usable_gib=15.75,
    hbm_bandwidth=819e9,
    flops=197e12,
    int8_ops=393e12,
    ici_bandwidth=200e9,
    dcn_bandwidth=3.125e9,
    dimensions=2,
    host_chips=(2, 2),
    single_host=((1, 1), (2, 2), (2, 4)),
    accelerator="v5litepod-4",
  ),
  "v5p": Chip(
    hbm_gib=95,
    usable_gib=95.74,
    hbm_bandwidth=2765e9,
    flops=459e12,
    int8_ops=918e12,
    ici_bandwidth=600e9,
    dcn_bandwidth=6.25e9,
    dimensions=3,
    host_chips=(2, 2, 1),
    single_host=((1, 1, 1), (2, 2, 1)),
    accelerator="v5p-8",
  ),
  "v6e": Chip(
    hbm_gib=32,
    usable_gib=31.25,
    hbm_bandwidth=1640e9,
    flops=918e12,
    int8_ops=1836e12,
    ici_bandwidth=400e9,
    dcn_bandwidth=12.5e9,
    dimensions=2,
    host_chips=(2, 2),
    single_host=((1, 1), (2, 2), (2, 4)),
    accelerator="v6e-4",
  ),
}


# What JAX calls the devices of each kind.
_KINDS = {
  "TPU v2": "v2",
  "TPU v3": "v3",
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5e": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU v6e": "v6e",
}


def chip_of(device: jax.Device) -> Chip | None:
  """What this device is, if its figures are known here."""
  return CHIPS.get(_KINDS.get(device.device_kind, ""))


@dataclasses.dataclass(frozen=True)
class Topology:
  """`slices` slices of chips of one kind, joined by the data-centre network.

  Attributes:
    kind: a key of `CHIPS`.
    shape: chips of a slice along each dimension of its torus.
    slices: how many there are.
  """

  kind: str
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def name(self) -> str:
    slices = f"{self.slices} x " if self.slices > 1 else ""
    return f"{slices}{self.kind}:{'x'.join(map(str, self.shape))}"

  @property
  def chip(self) -> Chip:
    return CHIPS[self.kind]

  @property
  def num_chips(self) -> int:
    return math.prod(self.shape) * self.slices

  @property
  def num_devices(self) -> int:
    return self.num_chips * self.chip.cores

  @property
  def host_shape(self) -> tuple[int, ...]:
    """Chips of one host along each dimension."""
    whole = self.shape in self.chip.single_host
    return self.shape if whole else self.chip.host_chips

  @property
  def num_hosts(self) -> int:
    return self.num_chips // math.prod(self.host_shape)

  def host(self) -> Topology:
    """The chips of one host, as a slice of its own."""
    return Topology(self.kind, self.host_shape)

  def devices(self) -> Sequence[jax.Device]:
    """The devices of all chips, to compile for.

    Raises:
      UserError: libtpu is missing, of another version than jax is made with, or
        does not know the slice.
    """
    return _devices(self)


def parse(name: str, slices: int = 1) -> Topology:
  """`v5p:4x4x4` as a `Topology`.

  Raises:
    UserError: there is no such kind or shape.
  """
  examples = "v4:4x4x4, v5e:16x16, v5p:4x4x4, v6e:8x8"
  found = re.fullmatch(r"(v\w+):(\d+(?:x\d+)*)", name)
  if not found or found[1] not in CHIPS:
    raise UserError(
      f"the topology {name!r} is unknown; known kinds are {', '.join(CHIPS)},"
      f" with the chips along each dimension: {examples}"
    )
  topology = Topology(found[1], tuple(map(int, found[2].split("x"))), slices)
  dimensions = topology.chip.dimensions
  if len(topology.shape) != dimensions:
    raise UserError(
      f"the topology {name!r} has {len(topology.shape)} sizes, a slice of"
      f" {found[1]} has {dimensions}: for instance"
      f" {next(e for e in examples.split(', ') if e.startswith(found[1]))}"
    )
  host = topology.host_shape
  if any(
    size < 1 or size % part
    for size, part in zip(topology.shape, host, strict=True)
  ):
    raise UserError(
      f"the topology {name!r} does not divide into hosts of"
      f" {'x'.join(map(str, host))} chips; make each size a multiple"
    )
  return topology


@functools.cache
def _devices(topology: Topology) -> Sequence[jax.Device]:
  if util.find_spec("libtpu") is None:
    raise UserError(
      "compiling for a TPU needs libtpu, its compiler, of the version that"
      f" suits jax {jax.__version__}; on Linux: pip install -e '.[tpu]'"
    )
  if unsuited := _unsuited():
    raise unsuited
  _silence_libtpu(topology.chip.accelerator)
  bounds = [*topology.host_shape, 1][:3]
  options = dict(topology.chip.options)
  if topology.slices > 1:
    options["num_slices"] = topology.slices
  shape = "x".join(map(str, topology.shape))
  try:
    found = topologies.get_topology_desc(
      f"{topology.kind}:{shape}",
      platform="tpu",
      chips_per_host_bounds=bounds,
      **options,
    )
  except jax.errors.JaxRuntimeError as error:
    raise UserError(
      f"libtpu has no topology {topology.name!r} ({str(error).strip()}); see"
      " https://cloud.google.com/tpu/docs for the slices there are"
    ) from None
  return found.devices


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
  """Makes a UserError of what fails on a TPU whose libtpu does not suit jax.

  Where it works, another version is no mistake on a TPU that is here.

  Raises:
    UserError: says which versions there are, and what failed.
  """
  try:
    yield
  except RuntimeError as error:  # those of JAX and XLA are such
    first_line = str(error).partition("\n")[0]
    unsuited = _unsuited(f" ({first_line})")
    if unsuited and (
      "backend 'tpu'" in str(error) or jax.default_backend() == "tpu"
    ):
      raise unsuited from None
    raise


def _unsuited(failure: str = "") -> UserError | None:
  """The mistake of a libtpu that jax was not made with; None if it suits."""
  try:
    version = metadata.version("libtpu")
  except metadata.PackageNotFoundError:  # on a TPU it may come with the image
    return None
  for wanted in map(Requirement, metadata.requires("jax")):
    if wanted.name == "libtpu" and version not in wanted.specifier:
      return UserError(
        f"libtpu {version} does not suit jax {jax.__version__}, which wants"
        f" libtpu{wanted.specifier}{failure}; pip install -e '.[tpu]'"
      )
  return None


def _silence_libtpu(accelerator: str) -> None:
  """Sets the environment variables that libtpu reads when it starts.

  Otherwise it would look for a TPU on this machine, log at length that there is
  none, and refuse to start twice on one machine.
  """
  for name, value in {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": accelerator,
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
  }.items():
    os.environ.setdefault(name, value)
