"""The device mesh, and the one table from logical axes to mesh axes."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib

from flax import linen as nn
import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

# dcn: copies on slices that are joined by the data-centre network; data:
# copies within a slice; fsdp: weights spread over devices that read different
# rows; tensor: heads and features spread over devices that share their rows.
AXES = ("dcn", "data", "fsdp", "tensor")

# Logical axis → mesh axis. Parameters name "embed" and the axis they project
# to; activations name "batch" and their own last axes; "sampled" are the rows
# that tokens are drawn for, of which each device takes its own. Nothing else in
# the package mentions a mesh axis.
RULES = (
  ("batch", ("dcn", "data", "fsdp")),
  ("sampled", ("dcn", "data", "fsdp", "tensor")),
  ("embed", "fsdp"),
  ("vocab", "tensor"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("mlp", "tensor"),
  ("head_dim", None),
  ("layers", None),
  ("length", None),
  ("features", None),
  ("rank", None),
)

# While training, what is kept of each layer for the backward pass is spread
# over the devices of a row as well, along its length (Korthikanti et al. 2022).
_TRAINING = (("kept_length", "tensor"),)
_SAMPLING = (("kept_length", None),)


def make_mesh(
  data: int = 1,
  fsdp: int = 1,
  tensor: int = 1,
  dcn: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A `dcn` × `data` × `fsdp` × `tensor` mesh; one device is 1 × 1 × 1 × 1.

  Neighbours along `tensor` are neighbours in the machine; slices lie along
  `dcn` alone.
  """
  count = dcn * data * fsdp * tensor
  devices = list(devices if devices is not None else jax.devices())[:count]
  slices: dict[int, list[jax.Device]] = {}
  for device in devices:
    slices.setdefault(getattr(device, "slice_index", None) or 0, []).append(
      device
    )
  if len(slices) == 1:
    grid = _grid((dcn, data, fsdp, tensor), devices)
  else:
    parts = [_grid((data, fsdp, tensor), slices[i]) for i in sorted(slices)]
    grid = np.stack(parts)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _grid(shape: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
  """Devices of one slice; a block of it is laid out along its links."""
  if not _is_block(devices):
    return np.array(devices).reshape(shape)
  return mesh_utils.create_device_mesh(
    shape, devices, allow_split_physical_axes=True
  )


def _is_block(devices: list[jax.Device]) -> bool:
  """Whether chips leave no hole between them; other devices have no places."""
  if not hasattr(devices[0], "coords"):
    return True
  chips = np.array(list({tuple(device.coords) for device in devices}))
  return len(chips) == np.prod(np.ptp(chips, axis=0) + 1)


def sharding(mesh: Mesh, *axes: str | None) -> NamedSharding:
  """Of an array with these logical axes; None: not sharded along that axis."""
  return nn.logical_to_mesh_sharding(PartitionSpec(*axes), mesh, RULES)


def param_shardings(abstract_params, mesh: Mesh):
  """Shardings for a tree of leaves with logical names (`nn.Partitioned`)."""
  specs = nn.get_partition_spec(abstract_params)
  return nn.logical_to_mesh_sharding(specs, mesh, RULES)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: Mesh) -> int:
  """Number of shards into which the mesh divides a batch."""
  return mesh.shape["dcn"] * mesh.shape["data"] * mesh.shape["fsdp"]


@contextlib.contextmanager
def use(mesh: Mesh, training: bool = False):
  """Inside, logical axis names mean the axes of `mesh`."""
  rules = RULES + (_TRAINING if training else _SAMPLING)
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    yield
