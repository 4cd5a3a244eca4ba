"""How a model is spread over devices: what is chosen, and what cannot be.

The shape of a mesh is a mapping from its axes to sizes; 0 leaves a size to be
chosen from the model and the number of devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
  """The mesh of the fine-tune, over all `devices` where sizes are left open.

  Slices lie along dcn. Within a slice rows are spread as far as they go: over
  data where a device holds the whole state of the model, else over fsdp. What
  devices are left share rows along tensor.

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
    parts = sizes["dcn"] * sizes["data"] * sizes["fsdp"]
    if rows % parts:
      return (
        f"the {rows} rows of a micro-batch (finetune.batch_rows /"
        f" finetune.accumulate) do not divide over dcn × data × fsdp = {parts}"
      )
    if row_length % sizes["tensor"]:
      return f"finetune.row_length={row_length} does not divide over tensor"
    return indivisible(config, sizes)

  return _first("mesh", shape, open_sizes, problem, devices)


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

  return _first("sampling.mesh", shape, open_sizes, problem, devices)


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


def _first(setting, shape: Shape, open_sizes, problem, devices) -> Mesh:
  """The first shape without a problem, the smallest `tensor` first."""
  reason = None
  for sizes in _shapes(shape, open_sizes, len(devices)):
    found = problem(sizes)
    if found is None:
      return meshes.make_mesh(**sizes, devices=devices)
    reason = reason or found
  given = ", ".join(f"{axis}={size}" for axis, size in shape.items() if size)
  raise UserError(
    f"config.{setting} ({given or 'chosen'}) does not suit the model and"
    f" {len(devices)} devices:"
    f" {reason or f'its sizes do not multiply to {len(devices)} devices'}; set"
    f" other sizes with --config.{setting}.tensor and the like"
  )


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
