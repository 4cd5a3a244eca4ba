"""Weights straight into their shards, so that no host holds a whole model.

Leaves are loaded one after the other, the largest first, and a leaf of a file
one shard at a time, each into a buffer of its own size that is gone when the
device has it. A shard that several devices hold is read once. In a run of
several processes each reads what its own devices hold.

Or they stay where they are until they are asked for, layer by layer: whoever
writes them elsewhere needs the memory of one.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
import math
from types import EllipsisType
from typing import NamedTuple

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from s2d_jax.checkpoints import layout
from s2d_jax.checkpoints.layout import Leaf, Stored
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.params import Params, abstract_params
from s2d_jax.models.quantize import quantize
from s2d_jax.parallel.mesh import param_shardings
from s2d_jax.progress import Progress

Index = tuple[slice, ...]
# Loads a leaf as an array of the dtype and sharding of an abstract one.
LoadLeaf = Callable[[Leaf, jax.ShapeDtypeStruct], jax.Array]
# (path of a leaf, array) → another array of the same shape, dtype and sharding.
Transform = Callable[[str, jax.Array], jax.Array]
# Fills an array with leaf[index], whatever float type it is of.
Fill = Callable[[Leaf, Index, np.ndarray], None]


class Source(NamedTuple):
  """Files that have been looked at, and are whole as far as that shows.

  Attributes:
    fill: reads part of a leaf.
    stored: how the files hold the leaves.
  """

  fill: Fill
  stored: Stored = layout.PLAIN


@dataclasses.dataclass(frozen=True)
class LazyLeaf:
  """A leaf that is not in memory: [layer] reads one of it, [...] all."""

  read: Callable[[int | EllipsisType], np.ndarray]

  def __getitem__(self, layer: int | EllipsisType) -> np.ndarray:
    return self.read(layer)


def load(
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  load_leaf: LoadLeaf,
  transform: Transform | None = None,
  stored: Stored = layout.PLAIN,
) -> Params:
  """Lays the parameters out over `mesh`, a leaf at a time.

  Args:
    config: the architecture.
    mesh: of this process's devices or of all; only its own are filled.
    dtype: "float32", "bfloat16", or "int8": each kernel is read as bfloat16 and
      becomes int8 on the devices, before the next one is read.
    load_leaf: where the leaves come from.
    transform: applied to each leaf once it is on the devices, if given.
    stored: how the files that it comes from hold the leaves.
  """
  if dtype not in ("float32", "bfloat16", "int8"):
    raise UserError(f"dtype {dtype!r} is none of float32, bfloat16 and int8")
  as_read = jnp.dtype("bfloat16" if dtype == "int8" else dtype)
  weights = "int8" if dtype == "int8" else "float"
  abstract = abstract_params(config, as_read, weights)
  kept = _flat(nn.unbox(abstract))
  shardings = _flat(param_shardings(abstract, mesh))
  params = {}
  leaves = layout.leaves(config, stored)
  count = sum(math.prod(leaf.shape) for leaf in leaves)
  quiet = jax.process_index() > 0
  with Progress("load", count, "weights", quiet=quiet) as progress:
    for leaf in leaves:
      wanted = kept[leaf.path].dtype
      target = jax.ShapeDtypeStruct(
        leaf.shape,
        as_read if wanted == jnp.int8 else wanted,
        sharding=shardings[leaf.path],
      )
      array = load_leaf(leaf, target)
      if transform is not None:
        array = transform(leaf.path, array)
      if wanted == jnp.int8:
        params |= _quantized(leaf.path, array, shardings)
      else:
        params[leaf.path] = array
      progress.advance(math.prod(leaf.shape))
  return traverse_util.unflatten_dict(params, sep="/")


def place_shards(
  leaf: Leaf, target: jax.ShapeDtypeStruct, fill: Fill
) -> jax.Array:
  """`jax.make_array_from_callback`, with one shard at a time on the host."""
  shape, sharding = target.shape, target.sharding
  copies = {}
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    bounds = tuple(
      axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True)
    )
    copies.setdefault(bounds, []).append(device)
  arrays = []
  for bounds, devices in copies.items():
    shard = np.empty([stop - start for start, stop in bounds], target.dtype)
    fill(leaf, tuple(slice(*axis) for axis in bounds), shard)
    arrays += jax.block_until_ready(
      [jax.device_put(shard, device) for device in devices]
    )
  return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def load_files(
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  source: Source,
  transform: Transform | None = None,
) -> Params:
  """`load` of what lies in files."""
  load_leaf = functools.partial(place_shards, fill=source.fill)
  return load(config, mesh, dtype, load_leaf, transform, source.stored)


def lazy(config: ModelConfig, dtype: str, source: Source) -> Params:
  """The tree that `load` gives, of leaves that stay in their files.

  Args:
    config: the architecture.
    dtype: "float32" or "bfloat16".
    source: where they are read when they are asked for.
  """
  abstract = _flat(nn.unbox(abstract_params(config, jnp.dtype(dtype))))

  def lazy_leaf(leaf: Leaf) -> LazyLeaf:
    def read(layer: int | EllipsisType) -> np.ndarray:
      rows = slice(layer, layer + 1) if layer is not ... else slice(None)
      index = (rows, *[slice(None)] * (len(leaf.shape) - 1))
      count = leaf.shape[0] if layer is ... else 1
      found = np.empty((count, *leaf.shape[1:]), abstract[leaf.path].dtype)
      source.fill(leaf, index, found)
      return found if layer is ... else found[0]

    return LazyLeaf(read)

  leaves = layout.leaves(config, source.stored)
  params = {leaf.path: lazy_leaf(leaf) for leaf in leaves}
  return traverse_util.unflatten_dict(params, sep="/")


def _quantized(path: str, array: jax.Array, shardings) -> dict[str, jax.Array]:
  """The int8 form of a leaf, by the paths of its parts."""
  parent = path.rpartition("/")[0]
  names = jax.eval_shape(functools.partial(quantize, path), array)
  paths = {name: f"{parent}/{name}" for name in names}
  to_int8 = jax.jit(
    functools.partial(quantize, path),
    out_shardings={name: shardings[paths[name]] for name in names},
  )
  # The bfloat16 leaf is freed only when nothing reads it any more.
  made = jax.block_until_ready(to_int8(array))
  return {paths[name]: part for name, part in made.items()}


def _flat(tree) -> dict:
  return traverse_util.flatten_dict(tree, sep="/")
