"""Number types: what is multiplied, and how it is kept, by kind of device.

XLA for CPUs multiplies bfloat16 several times as fast as float32 where the
processor has matrix units for it and the sum is asked for in float32. All else
it does in float32, and an array of bfloat16 that is sliced or written in a
loop becomes float32 as a whole, every time round. So on CPUs a model of
bfloat16 is a `wide` one: factors are rounded for each product, activations
stay float32, and what lies in memory as bfloat16 lies there as its bits.
"""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike

SETTINGS = ("auto", "float32", "bfloat16")


def choose(setting: str, platform: str) -> str:
  """The dtype of products that is fastest on a kind of device.

  Args:
    setting: one of `SETTINGS`; but for "auto", it is the answer.
    platform: "cpu", "gpu" or "tpu".
  """
  if setting != "auto":
    return setting
  narrow = platform != "cpu" or _has_matrix_units()
  return "bfloat16" if narrow else "float32"


def is_wide(dtype: DTypeLike, platform: str) -> bool:
  """Whether activations of products in `dtype` stay float32."""
  return platform == "cpu" and jnp.dtype(dtype).itemsize < 4


@functools.cache
def _has_matrix_units() -> bool:
  """Whether this processor has them for bfloat16 (AMX, as Linux names it)."""
  flags = pathlib.Path("/proc/cpuinfo")
  return flags.exists() and "amx_bf16" in flags.read_text()


def pack(x: Array) -> Array:
  """The bits of `x` in bfloat16."""
  return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def unpack(x: Array) -> Array:
  """What was packed, as bfloat16; anything else as it is."""
  if x.dtype != jnp.uint16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.bfloat16)
