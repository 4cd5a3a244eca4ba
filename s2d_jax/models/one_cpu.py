"""What decoding looks like on one CPU: the same network, laid out for it.

    decoder, params = for_decoding(model, params)

Three things differ, because XLA for CPUs is slow otherwise:

- Layers are one after another, each with arrays of its own. What a loop over
  layers cuts out of a stack, XLA copies: in decoding all weights and caches,
  every step.
- Keys are turned to [P K H S]: their product with few queries takes a third of
  the time.
- Kernels are turned to [*O, *I], so that a token is a column of a product: few
  columns take two thirds of the time of few rows. XLA lays the activations
  between two products out as columns by itself.

Axis letters as in `models.llama`, `models.kernels` and `models.key_values`.
"""

from __future__ import annotations

import functools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from s2d_jax.models import kernels
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.kernels import CONTRACTED, Params
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Block, LayerOfKind, Llama
from s2d_jax.models.lora import Lora
from s2d_jax.models.rope import Angles, rope_angles


def for_decoding(model: Llama, params: Params) -> tuple[Llama, Params]:
  """The network and its parameters, for decoding on one CPU.

  Kernels are copied to turn them; all else are views of the stacks.
  """
  way = model.kernels
  turned = model.lora is None and type(way) in TURNED
  if turned:
    way = TURNED[type(way)](way.dtype)
  decoder = UnrolledLlama(model.config, way, lora=model.lora)
  return decoder, _unrolled(params, model.config.num_layers, turned)


def _unrolled(params: Params, num_layers: int, turned: bool) -> Params:
  def laid_out(path, leaf: np.ndarray) -> Array:
    *_, module, name = (entry.key for entry in path)
    if turned and name == "kernel":
      n = CONTRACTED.get(module, 1)
      leaf = np.moveaxis(leaf, range(n), range(-n, 0)).copy()
    return jax.device_put(leaf)

  tree = jax.tree.map(np.asarray, params)
  tree["layers"] = {
    f"layer_{index}": jax.tree.map(lambda x, i=index: x[i], tree["layers"])
    for index in range(num_layers)
  }
  return jax.tree_util.tree_map_with_path(laid_out, tree)


class UnrolledLlama(Llama):
  """A `Llama` whose layers are not a scan."""

  def make_layers(self):
    return _Layers(self.config, self.kernels, self.lora)

  def __call__(self, *args, **kwargs):
    hidden, (keys, *others) = super().__call__(*args, **kwargs)
    keys = tuple(x.swapaxes(-1, -2) for x in keys)
    return hidden, UnrolledKeyValues(keys, *others)

  def empty_cache(self, entries, length):
    return self.as_cache(super().empty_cache(entries, length))

  def as_cache(self, stacked):
    return UnrolledKeyValues.of(stacked)

  def rope_table(self, length) -> Angles:
    # Else XLA would compute sines in every layer.
    return rope_angles(self.config, jnp.arange(length)[:, None])


class _Layers(nn.Module):
  """One after another, as the scan over them would run."""

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None

  def __call__(self, x, kinds, past: list[UnrolledKeyValues], *shared):
    layer = Block(self.config, self.kernels, self.lora, "xla", parent=None)
    params, new = self.variables["params"], []
    for index in range(self.config.num_layers):
      kind = kinds and LayerOfKind(*(int(part[index]) for part in kinds))
      own = [part.layer(index) for part in past]
      x, keys_values = _run_layer(
        layer, kind, params[f"layer_{index}"], x, own, *shared
      )
      new.append(keys_values)
    return x, tuple(zip(*new, strict=True))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_layer(
  layer: Block, kind: LayerOfKind | None, params, x, past, *shared
):
  """Inside a program: layers of a kind are alike, and traced once."""
  return layer.apply({"params": params}, x, kind, past, *shared)


class UnrolledKeyValues(KeyValues):
  """Tuples with an array a layer: keys [P K H S], values [P K S H]."""

  @classmethod
  def of(cls, stacked: KeyValues) -> UnrolledKeyValues:
    """The same, from stacks of layers."""
    layers = range(len(stacked.keys))
    keys = tuple(_turned_layer(stacked.keys, index) for index in layers)
    values = tuple(_layer(stacked.values, index) for index in layers)
    return cls(keys, values, stacked.valid, stacked.positions)

  def layer(self, index: int) -> UnrolledKeyValues:
    return self._replace(keys=self.keys[index], values=self.values[index])

  def scores(self, q):
    return self._scores("prtkgh,pkhs->pkrtgs", q)

  @property
  def capacity(self):
    return self.values[0].shape[-2]

  def sharded(self, shard):
    return self

  def extended(self, more):
    longer = lambda x, *room: jnp.pad(x, [(0, 0), (0, 0), *room])
    return self._replace(
      keys=tuple(longer(x, (0, 0), (0, more)) for x in self.keys),
      values=tuple(longer(x, (0, more), (0, 0)) for x in self.values),
    )

  def with_entries(self, at, new: UnrolledKeyValues, source):
    # One loop for all layers: XLA compiles a scatter ten times as long.
    write = jax.lax.dynamic_update_slice
    count = (at < len(self.values[0])).sum()

    def put(index, caches):
      keys, values = caches
      put_entry = lambda old, new: write(
        old, new[source[index]][None], (at[index], 0, 0, 0)
      )
      return (
        tuple(map(put_entry, keys, new.keys)),
        tuple(map(put_entry, values, new.values)),
      )

    caches = self.keys, self.values
    keys, values = jax.lax.fori_loop(0, count, put, caches)
    return self._replace(keys=keys, values=values)

  def with_moved(self, source, target, count):
    raise NotImplementedError("what is cut out of an array is copied here")

  def with_token(self, new, entry, column):
    # One loop for all layers: one for each would take longer than its copies.
    write = jax.lax.dynamic_update_slice

    def put(row, caches):
      keys, values = caches
      token = lambda x: x[row][None]
      page, at = entry[row], column[row]
      put_key = lambda old, new: write(old, token(new), (page, 0, 0, at))
      put_value = lambda old, new: write(old, token(new), (page, 0, at, 0))
      return (
        tuple(map(put_key, keys, new.keys)),
        tuple(map(put_value, values, new.values)),
      )

    caches = self.keys, self.values
    keys, values = jax.lax.fori_loop(0, len(column), put, caches)
    return self._replace(keys=keys, values=values)


# One program cuts out any layer: one for all would compile for a second.
@jax.jit
def _layer(stack: Float[Array, "L ..."], index: int) -> Float[Array, "..."]:
  return stack[index]


@jax.jit
def _turned_layer(
  stack: Float[Array, "L P K S H"], index: int
) -> Float[Array, "P K H S"]:
  return stack[index].swapaxes(-1, -2)


class _Turned:
  """Kernels are [*O, *I], and tables [V, D]."""

  def laid_out(self, axes: tuple, n: int) -> tuple:
    return axes[n:] + axes[:n]

  def product(self, x, kernel, n, dtype=None):
    x = x.reshape(len(x), -1).T
    outputs = kernel.shape[:-n]
    kernel = kernel.reshape(math.prod(outputs), -1)
    out = jnp.matmul(
      kernel,
      x,
      precision=kernels.precision_of(x.dtype),
      preferred_element_type=dtype,
    )
    return out.T.reshape(-1, *outputs)

  def table(self, module, name, shape, axes):
    if axes[0] == "embed":
      shape, axes = shape[::-1], axes[::-1]
    return super().table(module, name, shape, axes)

  def logits(self, x, table, axis):
    kernel, x = (f.astype(self.dtype) for f in (table.kernel, x))
    logits = self.product(x, kernel, 1, jnp.float32)
    return logits if table.scale is None else logits * table.scale


class TurnedFloat(_Turned, kernels.Float):
  """`Float` with kernels that are turned."""


class TurnedInt8(_Turned, kernels.Int8):
  """`Int8` with kernels that are turned."""


# What has a turned form; what is rounded has other products.
TURNED = {kernels.Float: TurnedFloat, kernels.Int8: TurnedInt8}
