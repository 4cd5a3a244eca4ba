"""The device mesh, and the one table from logical axes to mesh axes."""

from __future__ import annotations

import contextlib

from flax import linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding
import numpy as np

AXES = ("data", "fsdp", "tensor")

# Logical axis → mesh axis. Parameters name "embed" and the axis they project
# to; activations name "batch" and their own last axes. Nothing else in the
# package mentions a mesh axis.
RULES = (
  ("batch", ("data", "fsdp")),
  ("embed", "fsdp"),
  ("vocab", "tensor"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("mlp", "tensor"),
  ("head_dim", None),
  ("layers", None),
  ("length", None),
  ("features", None),
)


def make_mesh(
  data: int = 1, fsdp: int = 1, tensor: int = 1, devices=None
) -> Mesh:
  """A `data` × `fsdp` × `tensor` mesh; one device is a mesh of 1 × 1 × 1."""
  shape = (data, fsdp, tensor)
  count = int(np.prod(shape))
  devices = list(devices if devices is not None else jax.devices())[:count]
  return jax.make_mesh(
    shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )


def param_shardings(abstract_params, mesh: Mesh):
  """Shardings for a tree of leaves with logical names (`nn.Partitioned`)."""
  specs = nn.get_partition_spec(abstract_params)
  return nn.logical_to_mesh_sharding(specs, mesh, RULES)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, jax.sharding.PartitionSpec())


@contextlib.contextmanager
def use(mesh: Mesh):
  """Inside, logical axis names mean the axes of `mesh`."""
  with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
    yield
