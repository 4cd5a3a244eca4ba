"""Weights straight into their shards, so that no host holds a whole model.

A leaf is read one shard at a time, each into a buffer of its own size that is
gone when the device has it; a shard that several devices copy is read once. In
a run of several processes each reads what its own devices hold.
"""

from __future__ import annotations

from collections.abc import Callable

from flax import traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from s2d_jax.checkpoints import layout
from s2d_jax.checkpoints.layout import Leaf
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params, abstract_params
from s2d_jax.parallel.mesh import param_shardings

Index = tuple[slice, ...]
# Fills an array with leaf[index], whatever float type it is of.
Fill = Callable[[Leaf, Index, np.ndarray], None]


def load(config: ModelConfig, mesh: Mesh, dtype: str, fill: Fill) -> Params:
  """Lays the parameters that `fill` reads out over `mesh`.

  Args:
    config: the architecture.
    mesh: of this process's devices or of all; only its own are filled.
    dtype: "float32" or "bfloat16".
    fill: reads a part of a leaf.
  """
  if dtype not in ("float32", "bfloat16"):
    raise UserError(f"dtype {dtype!r} is neither float32 nor bfloat16")
  shardings = traverse_util.flatten_dict(
    param_shardings(abstract_params(config), mesh), sep="/"
  )
  params = {}
  for leaf in layout.leaves(config):
    sharding = shardings[leaf.path]
    params[leaf.path] = _place(leaf, sharding, jnp.dtype(dtype), fill)
  return traverse_util.unflatten_dict(params, sep="/")


def _place(
  leaf: Leaf, sharding: NamedSharding, dtype: np.dtype, fill: Fill
) -> jax.Array:
  """`jax.make_array_from_callback`, with one shard at a time on the host."""
  shape = leaf.shape
  copies = {}
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    bounds = tuple(
      axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True)
    )
    copies.setdefault(bounds, []).append(device)
  arrays = []
  for bounds, devices in copies.items():
    shard = np.empty([stop - start for start, stop in bounds], dtype)
    fill(leaf, tuple(slice(*axis) for axis in bounds), shard)
    arrays += jax.block_until_ready(
      [jax.device_put(shard, device) for device in devices]
    )
  return jax.make_array_from_single_device_arrays(shape, sharding, arrays)
