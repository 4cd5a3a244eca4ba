"""How kernels are kept and multiplied: one class a way, chosen once a model.

| class         | kept as         | factors | activations | cache | LoRA | CPU |
|---------------|-----------------|---------|-------------|-------|------|-----|
| `Float`       | floats          | dtype   | dtype       | dtype | yes  | yes |
| `Rounded`     | floats or bits  | dtype   | float32     | bits  | yes  | no  |
| `Int8`        | int8 and scales | dtype   | dtype       | dtype | no   | yes |
| `RoundedInt8` | int8 and scales | dtype   | float32     | bits  | no   | no  |

`Float` is for TPUs, GPUs, and float32 on CPUs. The rounded ways are for
bfloat16 on CPUs (`for_platform`). int8 is sampled from, never trained. Where
one CPU decodes, `models.one_cpu` has `Float` and `Int8` with kernels turned.

XLA for CPUs multiplies bfloat16 several times as fast as float32 where the
processor has matrix units for it and the sum is asked for in float32. All else
it does in float32, and an array of bfloat16 that is sliced or written in a loop
becomes float32 as a whole, every time round. So the rounded ways round the
factors of each product, keep activations in float32, and keep in memory as bits
what lies there as bfloat16.

Axis letters: B tokens, I inputs, O outputs, D embedding, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float as Floats, Int

Params = dict[str, Any]

# Collection of stand-ins that receive the gradients of rounded kernels.
STAND_INS = "stand_ins"

# How many last axes of its input a kernel contracts, where it is not one.
CONTRACTED = {"o": 2}

zeros, ones = nn.initializers.zeros, nn.initializers.ones
normal = nn.initializers.normal(0.02)


class Table(NamedTuple):
  """A kernel with a row or a column a token; int8 has a scale a token."""

  kernel: Array
  scale: Floats[Array, " V"] | None = None


def parameter(module, name, init, shape, axes, dtype=jnp.float32) -> Array:
  """Declares a parameter of `module` whose axes have logical names."""
  if module.has_variable("params", name):
    found = nn.unbox(module.get_variable("params", name))
    # Not by `module.param`, which would trace `init` to know its shape.
    assert found.shape == shape, (module.path, name, found.shape, shape)
    return found
  return module.param(
    name, nn.with_logical_partitioning(init, axes), shape, dtype
  )


def for_platform(
  dtype: DTypeLike, platform: str, weights: str = "float"
) -> Float:
  """The way for products in `dtype` on a "cpu", "gpu" or "tpu".

  Args:
    dtype: of the factors.
    platform: kind of device.
    weights: "float" or "int8".
  """
  rounded = platform == "cpu" and jnp.dtype(dtype).itemsize < 4
  if weights == "int8":
    return RoundedInt8(dtype) if rounded else Int8(dtype)
  return Rounded(dtype) if rounded else Float(dtype)


@dataclasses.dataclass(frozen=True)
class Float:
  """Kernels are floats, multiplied in `dtype`."""

  dtype: DTypeLike = jnp.float32
  takes_adapters: ClassVar[bool] = True

  @property
  def activations(self) -> DTypeLike:
    """Dtype of what is between products."""
    return self.dtype

  @property
  def cache_dtype(self) -> DTypeLike:
    """Of keys and values."""
    return self.dtype

  @property
  def loaded_as(self) -> str:
    """Dtype of the weights that are sampled from: a float type or "int8"."""
    return jnp.dtype(self.dtype).name

  def cached(self, x: Array) -> Array:
    """Keys or values, as later tokens will find them."""
    return x

  def for_decoding(self, params: Params) -> Params:
    """The parameters for many small steps."""
    return params

  def project(
    self, module: nn.Module, x: Floats[Array, "B ..."], shape, axes, n: int
  ) -> Floats[Array, "B ..."]:
    """`x` times a kernel that is declared in `module`.

    Args:
      module: that the kernel belongs to.
      x: activations.
      shape: of the kernel, [*I, *O].
      axes: logical names of its axes.
      n: how many axes I are.
    """
    shape, axes = self.laid_out(shape, n), self.laid_out(axes, n)
    kernel = parameter(module, "kernel", normal, shape, axes)
    kernel = self._as_factor(module, kernel, axes)
    return self.product(x.astype(self.dtype), kernel, n)

  def laid_out(self, axes: tuple, n: int) -> tuple:
    """Axes [*I, *O] of a kernel, `n` of them inputs, as they lie in memory."""
    return axes

  def product(self, x, kernel, n: int, dtype=None):
    """Of activations and a kernel as it lies; the result is of `dtype`."""
    return _product(x, kernel, n, dtype)

  def _as_factor(self, module, kernel, axes):
    """The kernel in the dtype of the product, parted as it is kept."""
    if kernel.dtype == self.dtype:
      return kernel
    # Rounded by an operation of its own: XLA for TPUs moves a mere cast out of
    # the loop over layers, and keeps a copy of all kernels.
    bits = jnp.finfo(self.dtype)
    kernel = jax.lax.reduce_precision(kernel, bits.nexp, bits.nmant)
    if module.has_variable(STAND_INS, "kernel"):
      kernel = _round_to(kernel, module.get_variable(STAND_INS, "kernel"))
    # What devices send each other is rounded already.
    return nn.with_logical_constraint(kernel.astype(self.dtype), axes)

  def stand_ins(self, flat: Params) -> Params:
    """Receivers of the gradients of kernels that are rounded, by path."""
    return {
      path: jnp.zeros(leaf.shape, self.dtype)
      for path, leaf in flat.items()
      if path[0] == "layers"
      and path[-1] == "kernel"
      and leaf.dtype != self.dtype
    }

  def table(self, module, name: str, shape, axes) -> Table:
    """Declares the embedding [V, D] or the head [D, V]."""
    return Table(parameter(module, name, normal, shape, axes))

  def look_up(
    self, table: Table, tokens: Int[Array, "B T"]
  ) -> Floats[Array, "B T D"]:
    """Rows of a table [V, D]."""
    # Looked up before the cast: the gradient of a row is a sum over its tokens,
    # which in bfloat16 would stop to grow.
    return table.kernel[tokens].astype(self.activations)

  def logits(
    self, x: Floats[Array, "B D"], table: Table, axis: int
  ) -> Floats[Array, "B V"]:
    """The products of `x` with a table whose `axis` is D, in float32."""
    axes = ("embed", "vocab") if axis == 0 else ("vocab", "embed")
    return _logits(x, table.kernel, axes, axis, self.dtype)


class _Wide:
  """Activations in float32, whatever the factors are; a cache of bits."""

  @property
  def activations(self) -> DTypeLike:
    return jnp.float32

  @property
  def cache_dtype(self) -> DTypeLike:
    return jnp.uint16

  def cached(self, x: Array) -> Array:
    return pack(x)


class Rounded(_Wide, Float):
  """Factors are rounded to `dtype` for each product, the sum is float32.

  So are the factors of the gradients. Kernels are floats, or bits in decoding.
  """

  @property
  def loaded_as(self) -> str:
    return "float32"

  def for_decoding(self, params):
    """Kernels of the layers as bits."""
    flat = traverse_util.flatten_dict(params)
    is_kernel = lambda path: path[0] == "layers" and path[-1] == "kernel"
    return traverse_util.unflatten_dict(
      {
        path: _packed(leaf) if is_kernel(path) else leaf
        for path, leaf in flat.items()
      }
    )

  def project(self, module, x, shape, axes, n):
    kernel = parameter(module, "kernel", normal, shape, axes)
    kernel = kernel.reshape(math.prod(shape[:n]), -1)
    x = x.reshape(len(x), -1)
    return rounded_product(x, kernel, 0, self.dtype).reshape(-1, *shape[n:])

  def stand_ins(self, flat):
    return {}

  def logits(self, x, table, axis):
    return rounded_product(x, table.kernel, axis, self.dtype)


class Int8(Float):
  """Kernels are integers, and each output channel has a scale (`quantize`).

  The product is taken in `dtype`, summed in float32, and scaled.
  """

  takes_adapters = False

  @property
  def loaded_as(self) -> str:
    return "int8"

  def project(self, module, x, shape, axes, n):
    laid_out = self.laid_out(shape, n), self.laid_out(axes, n)
    kernel = parameter(module, "kernel", zeros, *laid_out, jnp.int8)
    scale = parameter(module, "scale", ones, shape[n:], axes[n:])
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    out = self.product(x, kernel, n, jnp.float32) * scale
    return out.astype(self.activations)

  def stand_ins(self, flat):
    return {}

  def table(self, module, name, shape, axes):
    channel = axes.index("vocab")
    of_tokens = shape[channel : channel + 1], axes[channel : channel + 1]
    return Table(
      parameter(module, name, zeros, shape, axes, jnp.int8),
      parameter(module, "scale", ones, *of_tokens),
    )

  def look_up(self, table, tokens):
    rows = table.kernel[tokens] * table.scale[tokens][..., None]
    return rows.astype(self.activations)

  def logits(self, x, table, axis):
    kernel = table.kernel.astype(self.dtype)
    kernel = kernel.T if axis == 1 else kernel
    logits = self.product(x.astype(self.dtype), kernel, 1, jnp.float32)
    return logits * table.scale


class RoundedInt8(_Wide, Int8):
  """`Int8` between activations in float32."""


WAYS = (Float, Rounded, Int8, RoundedInt8)


def pack(x: Array) -> Array:
  """The bits of `x` in bfloat16."""
  return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


_packed = jax.jit(pack)


def unpack(x: Array) -> Array:
  """What was packed, as bfloat16; anything else as it is."""
  if x.dtype != jnp.uint16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.bfloat16)


def precision_of(dtype: DTypeLike) -> jax.lax.Precision | None:
  """Of products whose factors are of `dtype`.

  What is called float32 is float32: TPUs would multiply in bfloat16, GPUs since
  2020 in TF32, which has 10 bits.
  """
  is_float32 = jnp.dtype(dtype) == jnp.float32
  return jax.lax.Precision.HIGHEST if is_float32 else None


def _product(x, kernel, axes, dtype=jnp.float32):
  """`jnp.tensordot` with a result of `dtype`."""
  return jnp.tensordot(
    x,
    kernel,
    axes,
    precision=precision_of(x.dtype),
    preferred_element_type=dtype,
  )


@jax.custom_vjp
def _round_to(kernel, stand_in):
  """`kernel` in the dtype of `stand_in`, which receives its gradient.

  The gradient of a float32 kernel would have to be float32, although it is
  computed in fewer bits: twice the memory for nothing.
  """
  return kernel.astype(stand_in.dtype)


_round_to.defvjp(
  lambda kernel, stand_in: (_round_to(kernel, stand_in), None),
  lambda _, gradient: (None, gradient),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _logits(x: Floats[Array, "B D"], table: Array, axes, axis: int, dtype):
  """Products of `x` with a table whose `axis` is D, in float32.

  The factors are in `dtype`, and so are those of the gradients. The gradient of
  the table is a sum over all targets, and is float32.
  """
  table = nn.with_logical_constraint(table.astype(dtype), axes)
  return _product(x.astype(dtype), table, (1, axis))


def _logits_forward(x, table, *how):
  return _logits(x, table, *how), (x, table)


def _logits_gradient(axes, axis, dtype, factors, gradient):
  x, table = factors
  factor = nn.with_logical_constraint(table.astype(dtype), axes)
  gradient = gradient.astype(dtype)
  of_x = _product(gradient, factor, (1, 1 - axis), dtype).astype(x.dtype)
  pair = (
    (x.astype(dtype), gradient) if axis == 0 else (gradient, x.astype(dtype))
  )
  return of_x, _product(*pair, (0, 0)).astype(table.dtype)


_logits.defvjp(_logits_forward, _logits_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def rounded_product(x: Array, kernel: Array, axis: int, dtype) -> Array:
  """Of x [B, I] and kernel, whose `axis` is I, gives [B, O] in float32.

  The factors are rounded to `dtype` first, and so are those of the gradients.
  The kernel may be packed.
  """
  kernel = unpack(kernel).astype(dtype)
  return _product(x.astype(dtype), kernel, (1, axis))


def _rounded_product_gradient(axis: int, dtype, factors, gradient):
  x, kernel = factors
  of_x = rounded_product(gradient, kernel, 1 - axis, dtype)
  pair = (x, gradient) if axis == 0 else (gradient, x)
  return of_x, rounded_product(_transposed(pair[0]), pair[1], 0, dtype)


def _transposed(x: Floats[Array, "B I"]) -> Floats[Array, "I B"]:
  """`x.T` in memory.

  XLA would leave out a mere transposition and have the product contract first
  axes, for which its fast one is not made. Two halves it does transpose.
  """
  half = len(x) // 2
  return jnp.concatenate([x[:half].T, x[half:].T], axis=1)


rounded_product.defvjp(
  lambda x, kernel, *how: (rounded_product(x, kernel, *how), (x, kernel)),
  _rounded_product_gradient,
)
