"""How a model is spread over devices: what is chosen, and what cannot be.

The shape of a mesh is a mapping from its axes to sizes; 0 leaves a size to be
chosen from the model and the number of devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools
import math

import jax
from jax.sharding import Mesh

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.parallel import mesh as meshes

Shape = Mapping[str, int]

_STATE_BYTES = 16  # a weight: itself, its gradient, AdamW's moments, float32
# Of a device's memory, what may stay there; the rest is for what is computed.
_RESIDENT_SHARE = 0.5


def training_mesh(
  config: ModelConfig,
  shape: Shape,
  rows: int,
  row_length: int,
  devices: Sequence[jax.Device],
  memory: int | None = None,
) -> Mesh:
  """The mesh of the fine-tune, over `devices` where sizes are left open.

  Over all of them if a shape divides, else over the most of which one does.
  Slices lie along dcn. Within a slice, the devices are split between tensor and
  fsdp (or data, where a device holds the whole state of the model) such that a
  device sends the least.

  Args:
    config: the architecture.
    shape: sizes of dcn, data, fsdp and tensor.
    rows: of a micro-batch.
    row_length: tokens a row.
    devices: of all processes.
    memory: bytes a device; default: what the device says.

  Raises:
    UserError: no shape divides, or there are too few devices.
  """
  slices = {getattr(device, "slice_index", None) or 0 for device in devices}
  small = config.num_params * _STATE_BYTES < _resident(memory)
  open_sizes = {
    "dcn": len(slices),
    "data": None if small else 1,
    "fsdp": 1 if small else None,
  }

  def problem(sizes: Shape) -> str | None:
    if len(slices) > 1 and sizes["dcn"] != len(slices):
      return f"there are {len(slices)} slices, and dcn is {sizes['dcn']}"
    parts = sizes["dcn"] * sizes["data"] * sizes["fsdp"]
    if rows % parts:
      return (
        f"the {rows} rows of a micro-batch (finetune.batch_rows /"
        f" finetune.accumulate) do not divide over dcn × data × fsdp = {parts}"
      )
    tensor = sizes["tensor"]
    if row_length % tensor:
      return (
        f"finetune.row_length={row_length} does not divide over tensor={tensor}"
      )
    return indivisible(config, sizes)

  def sent(sizes: Shape) -> float:
    return _bytes_sent(config, sizes, rows * row_length)

  return _best("mesh", shape, open_sizes, problem, sent, devices)


def _bytes_sent(config: ModelConfig, sizes: Shape, tokens: int) -> float:
  """What a device sends in a training step, in bytes, roughly.

  Weights of two bytes are gathered for the forward and the backward pass, and
  their gradients summed up; along tensor, each of the two parts of a layer
  gathers and sums its activations, forward, again and backward.
  """
  tensor = sizes["tensor"]
  copies = sizes["dcn"] * sizes["data"] * sizes["fsdp"]
  weights = 3 * 2 * config.num_params / tensor * (1 - 1 / copies)
  activations = tokens / copies * config.embed_dim * config.num_layers * 2
  return weights + 3 * 2 * 2 * activations * (1 - 1 / tensor)


def sampling_mesh(
  config: ModelConfig,
  shape: Shape,
  weight_bytes: float,
  devices: Sequence[jax.Device],
  memory: int | None = None,
) -> Mesh:
  """The mesh of the sampler: as many copies of the model as there is room for.

  Args:
    config: the architecture.
    shape: sizes of data and tensor.
    weight_bytes: bytes a weight.
    devices: of one host, or of all for a model that does not fit one.
    memory: bytes a device; default: what the device says.

  Raises:
    UserError: no shape divides, or there are too few devices.
  """
  bytes_needed = config.num_params * weight_bytes
  open_sizes = {"dcn": 1, "data": None, "fsdp": 1}
  wanted = math.ceil(bytes_needed / _resident(memory))

  def problem(sizes: Shape) -> str | None:
    if not shape["tensor"] and sizes["tensor"] < min(wanted, len(devices)):
      return (
        f"{bytes_needed / 2**30:.1f} GiB of weights do not fit"
        f" {sizes['tensor']} devices"
      )
    return indivisible(config, sizes)

  # Copies of the model send each other nothing.
  narrow = lambda sizes: sizes["tensor"]
  return _best("sampling.mesh", shape, open_sizes, problem, narrow, devices)


def indivisible(config: ModelConfig, sizes: Shape) -> str | None:
  """Which size of the model does not divide over which axis, if any."""
  for axis, name in (
    ("tensor", "num_heads"),
    ("tensor", "num_kv_heads"),
    ("tensor", "mlp_dim"),
    ("tensor", "vocab_size"),
    ("fsdp", "embed_dim"),
  ):
    size = getattr(config, name)
    if size % sizes[axis]:
      return f"{name}={size} does not divide over {axis}={sizes[axis]}"
  return None


def _best(setting, shape: Shape, open_sizes, problem, cost, devices) -> Mesh:
  """The shape without a problem that costs least, over most devices."""
  for fewer in _counts(shape, devices):
    shapes = list(_shapes(shape, open_sizes, fewer))
    if fine := [sizes for sizes in shapes if problem(sizes) is None]:
      used = devices[:fewer]
      return meshes.make_mesh(**min(fine, key=cost), devices=used)
  count = len(devices)
  problems = [problem(s) for s in _shapes(shape, open_sizes, count)]
  problems = problems or [f"its sizes do not multiply to {count} devices"]
  # The least tensor and the most of it: what lies between says no more.
  reason = "; ".join(dict.fromkeys((problems[0], problems[-1])))
  given = ", ".join(f"{axis}={size}" for axis, size in shape.items() if size)
  raise UserError(
    f"config.{setting} ({given or 'chosen'}) does not suit the model and"
    f" {count} devices: {reason}; set other sizes with"
    f" --config.{setting}.tensor and the like"
  )


def _counts(shape: Shape, devices: Sequence[jax.Device]) -> Iterable[int]:
  """Of devices that may be used: all, or fewer where nobody has set a size.

  Those are of one process and slice: a process without a part in the mesh could
  not follow what the others do.
  """
  slice_of = lambda device: getattr(device, "slice_index", None) or 0
  places = {(device.process_index, slice_of(device)) for device in devices}
  if any(shape.values()) or len(places) > 1:
    return [len(devices)]
  return range(len(devices), 0, -1)


def _shapes(
  shape: Shape, open_sizes: Mapping[str, int | None], count: int
) -> Iterator[Shape]:
  """Shapes that keep the sizes that are set and use `count` devices.

  Only a shape that is set throughout may use fewer.
  """
  fixed = {
    axis: shape.get(axis, 0) or size for axis, size in open_sizes.items()
  }
  if all(shape.values()):
    sizes = {axis: size or 1 for axis, size in fixed.items()}
    sizes["tensor"] = shape["tensor"]
    if math.prod(sizes.values()) <= count:
      yield sizes
    return
  divisors = [size for size in range(1, count + 1) if count % size == 0]
  ranges = [
    [size] if size else divisors for size in (shape["tensor"], *fixed.values())
  ]
  for tensor, *rest in itertools.product(*ranges):
    if tensor * math.prod(rest) == count:
      yield {**dict(zip(fixed, rest, strict=True)), "tensor": tensor}


def _resident(memory: int | None) -> float:
  """Bytes of a device that what stays there may take; the CPU does not tell."""
  if memory is None:
    mine = jax.local_devices()[0]  # one of another process does not tell
    memory = (mine.memory_stats() or {}).get("bytes_limit")
  return math.inf if memory is None else memory * _RESIDENT_SHARE
