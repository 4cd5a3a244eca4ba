"""The programs of a sampler from shapes alone, on devices here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from s2d_jax.generation import decode as device
from s2d_jax.generation.shapes import (
  page_size,
  prompts_per_prefill,
  slots_on_mesh,
)
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import memory, mesh as meshes

_PREFIX = 16  # tokens of the shared prefix


@dataclasses.dataclass(frozen=True)
class Batch:
  """Sizes of a decode batch.

  Attributes:
    slots: prompts.
    rows: samples a prompt.
    prompt: tokens a prompt.
    reply: tokens a reply.
    room: tokens of its reply that a row has room for, in the mean; None: all.
  """

  slots: int
  rows: int
  prompt: int
  reply: int
  room: int | None = None

  @property
  def samples(self) -> int:
    """That are decoded at once."""
    return self.slots * self.rows

  @property
  def page(self) -> int:
    """Tokens of a page for replies."""
    return page_size(self.reply)

  def pages(self, shards: int) -> int:
    """Of each of so many copies of the model."""
    own = self.room or self.reply
    return math.ceil(self.samples // shards * own / self.page)


class Call(NamedTuple):
  """A jitted function and abstract arguments of it."""

  function: Callable
  arguments: tuple[Any, ...]


class Arrays(NamedTuple):
  """A batch on the devices, nothing allocated.

  Attributes:
    batch: its sizes.
    state: of the batch, but for replies.
    replies: their pages.
    shared: what all rows share.
    resident: bytes of a device by purpose, the weights among them.
  """

  batch: Batch
  state: device.Batch
  replies: Any
  shared: device.Shared
  resident: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A network on a mesh, to sample from.

  Attributes:
    model: the network.
    params: abstract, with their shardings.
    mesh: of its devices.
  """

  model: Llama
  params: Params
  mesh: Mesh

  @property
  def shards(self) -> int:
    """Copies of the model."""
    return meshes.batch_shards(self.mesh)

  @property
  def weight_bytes(self) -> int:
    """Of a device's part of the parameters."""
    return local_bytes(self.params)

  def arrays(self, batch: Batch) -> Arrays:
    """A batch with at least these slots: as many as the mesh can share."""
    slots = slots_on_mesh(batch.slots, batch.rows, self.shards, self.mesh.size)
    batch = dataclasses.replace(batch, slots=slots)
    pages = batch.pages(self.shards)
    capacity = device.Capacity(batch.prompt, batch.reply, batch.page, pages)
    state, replies = device.abstract_batch(
      self.model, slots, batch.rows, capacity, self.mesh
    )
    shared = device.abstract_shared(self.model, _PREFIX, self.mesh)
    return Arrays(
      batch,
      state,
      replies,
      shared,
      {
        "parameters": self.weight_bytes,
        "keys and values": local_bytes((state.prompt, replies.cache)),
        "rest of the batch": local_bytes(
          (state._replace(prompt=()), replies[1:], shared)
        ),
      },
    )

  def prefill(self, arrays: Arrays) -> tuple[Call, int]:
    """Prefill of some prompts, and how many."""
    length = arrays.batch.prompt
    width = prompts_per_prefill(length, arrays.batch.slots, self.shards)
    call = Call(
      jax.jit(functools.partial(device.prefill, self.model)),
      (
        self.params,
        _integers(width, length),
        _integers(width),
        _integers(width),
        arrays.shared,
      ),
    )
    return call, width

  def decode(self, arrays: Arrays) -> Call:
    """Steps that read all pages."""
    batch = arrays.batch
    pages = batch.pages(self.shards)
    return Call(
      jax.jit(
        functools.partial(device.decode, self.model, pages),
        donate_argnums=(1, 2),
      ),
      (
        self.params,
        arrays.state,
        arrays.replies,
        arrays.shared,
        _flags(batch.samples),
        _flags(batch.slots),
        _integers(),
        _integers(),
      ),
    )

  def least_traffic(self, arrays: Arrays) -> int:
    """Bytes of a device that a step cannot do without.

    Weights, and the keys and values that there is room for. Of an embedding
    that is no head, too, a row a token is read.
    """
    resident = arrays.resident
    looked_up = 0
    if not self.model.config.tie_embeddings:
      looked_up = local_bytes(self.params["embed"])
    return resident["parameters"] + resident["keys and values"] - looked_up

  def peak(self, arrays: Arrays, limit: float) -> float:
    """Bytes of a device at its fullest, of programs compiled for it.

    More than `limit` where the compiler finds that they do not fit at all.
    """
    waiting = sum(arrays.resident.values()) - arrays.resident["parameters"]
    prefill, _ = self.prefill(arrays)
    with meshes.use(self.mesh):
      return max(
        memory.peak(*prefill, limit) + waiting,
        memory.peak(*self.decode(arrays), limit),
      )


def local_bytes(tree) -> int:
  """Bytes of one device's shards of abstract arrays."""
  return sum(
    math.prod(local_shape(leaf)) * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
  )


def local_shape(leaf: jax.ShapeDtypeStruct) -> tuple[int, ...]:
  """Of one device's shard."""
  sharding = leaf.sharding
  return sharding.shard_shape(leaf.shape) if sharding else leaf.shape


def _integers(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def _flags(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.bool_)
