"""A network on a mesh, and the programs that are compiled for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import Bool, Int
import numpy as np

from s2d_jax.generation import decode as device
from s2d_jax.generation.pages import Pages
from s2d_jax.generation.prefixes import PrefixStore
from s2d_jax.generation.shapes import is_one_cpu
from s2d_jax.models import one_cpu
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes

# The network is part of the program; engines of equal networks share these.
_prefill = jax.jit(device.prefill, static_argnums=0)
_put_prompts = jax.jit(device.put_prompts, donate_argnums=0)
_start_rows = jax.jit(device.start_rows, donate_argnums=0)
_decode = jax.jit(device.decode, static_argnums=(0, 1), donate_argnums=(3, 4))
_empty = jax.jit(device.empty_batch, static_argnums=range(5))
_extend_prompts = jax.jit(device.extend_prompts, static_argnums=1)
_extend_own = jax.jit(device.extend_own, static_argnums=1)


class Shared(NamedTuple):
  """What all rows share, as prefill and as decode want it."""

  prefill: device.Shared
  decode: device.Shared


class Programs:
  """Prefill and decode of a network, which may each compute it in their way.

  Args:
    model: the network.
    params: parameter tree, on the devices of `mesh`.
    mesh: devices to run on.

  Attributes:
    shards: copies of the model, over which prompts and rows are spread.
    devices: of all copies.
  """

  def __init__(self, model: Llama, params: Params, mesh: Mesh):
    self.shards, self.devices = meshes.batch_shards(mesh), mesh.size
    self._mesh = mesh
    self._model = model
    self._params = model.kernels.for_decoding(params)
    self._decoder, self._decoder_params = self._model, self._params
    if is_one_cpu(mesh):
      self._decoder, self._decoder_params = one_cpu.for_decoding(
        model, self._params
      )

  def empty_prefixes(self) -> PrefixStore:
    """For the shared prefixes of prompts."""
    with meshes.use(self._mesh):
      return PrefixStore(self._model)

  def share(
    self, prefixes: PrefixStore, stop_table: Bool[np.ndarray, "Z V"]
  ) -> Shared:
    """Puts on the devices what all rows share."""
    whole = meshes.replicated(self._mesh)
    shared = device.Shared(
      prefixes.keys_values,
      jax.device_put(prefixes.prefix_ids, whole),
      jax.device_put(stop_table, whole),
    )
    prefix = self._decoder.as_cache(shared.prefix)
    return Shared(shared, shared._replace(prefix=prefix))

  def prefill(
    self,
    tokens: Int[np.ndarray, "Q P"],
    lengths: Sequence[int],
    prefix_ids: Sequence[int],
    shared: Shared,
  ) -> device.Prefilled:
    """Reads Q prompts, padded on the right to P, behind their prefixes."""
    with meshes.use(self._mesh):
      return _prefill(
        self._model,
        self._params,
        tokens,
        np.array(lengths, np.int32),
        np.array(prefix_ids, np.int32),
        shared.prefill,
      )

  def for_decoding(self, prefilled: device.Prefilled) -> device.Prefilled:
    """The same prompts as they lie in a batch."""
    return prefilled._replace(prompt=self._decoder.as_cache(prefilled.prompt))

  def empty_batch(
    self, slots: int, rows: int, capacity: device.Capacity
  ) -> tuple[device.Batch, Pages]:
    """`rows` of each of the slots, and pages for their replies."""
    with meshes.use(self._mesh):
      return _empty(self._decoder, slots, rows, capacity, self.shards)

  def put_prompts(
    self,
    batch: device.Batch,
    prefilled: device.Prefilled,
    slots: Int[np.ndarray, " N"],
    sources: Int[np.ndarray, " N"],
  ) -> device.Batch:
    """Puts prompts that were prefilled together into slots."""
    with meshes.use(self._mesh):
      return _put_prompts(batch, prefilled, slots, sources)

  def start_rows(
    self,
    batch: device.Batch,
    fresh: Bool[np.ndarray, " B"],
    rows: device.RowSettings,
  ) -> device.Batch:
    """Starts a sample in each fresh row."""
    with meshes.use(self._mesh):
      return _start_rows(batch, fresh, rows)

  def extend_prompts(self, batch: device.Batch, more: int) -> device.Batch:
    """Gives slots capacity for more prompt tokens."""
    with meshes.use(self._mesh):
      return _extend_prompts(batch, more)

  def extend_own(self, pages: Pages, more: int) -> Pages:
    """Gives the rows of every shard more pages."""
    with meshes.use(self._mesh):
      return _extend_own(pages, more)

  def decode(
    self,
    read: int,
    batch: device.Batch,
    pages: Pages,
    shared: Shared,
    keep: Bool[np.ndarray, " B"],
    more: Bool[np.ndarray, " S"],
    max_steps: int,
    wanted: int,
  ) -> tuple[device.Batch, Pages, device.Drawn]:
    """Draws tokens; see `decode.decode`. Does not wait for the devices."""
    with meshes.use(self._mesh):
      return _decode(
        self._decoder,
        read,
        self._decoder_params,
        batch,
        pages,
        shared.decode,
        keep,
        more,
        np.int32(max_steps),
        np.int32(wanted),
      )
