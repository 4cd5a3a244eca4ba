"""Grouped-query attention over a shared past and the tokens at hand.

`attend` is plain XLA and runs everywhere. Without a past, which is training, a
fused kernel that never holds the scores can take its place.

Axis letters: B query rows, T query length, S key length, N query heads,
K key-value heads, G = N // K, H head size. A past has P entries, each of which
serves R = B // P query rows.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import math
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from s2d_jax.models.config import ModelConfig
from s2d_jax.models.key_values import KeyValues

# Queries that see their own sequence together, and into how many parts a long
# one is cut. What lies behind the last query of a part is not computed, and the
# scores of a part stay near the processor: on a CPU half the time.
_QUERIES, _MOST_PARTS = 64, 8

# Added in place of the score of a key that may not be seen: finite, so that a
# row with nothing to see (padding) stays finite too.
_MASKED = -1e30


class _Partial(NamedTuple):
  """Attention over some of the keys, before the parts are put together."""

  out: Float[Array, "B T K G H"]  # sum of exp(score - peak) * value
  total: Float[Array, "B T K G 1"]  # sum of exp(score - peak)
  peak: Float[Array, "B T K G 1"]


def attend(
  q: Float[Array, "B T N H"],
  k: Float[Array, "B K T H"],
  v: Float[Array, "B K T H"],
  until: Int[Array, "B T"],
  past: Sequence[KeyValues] = (),
  implementation: str = "xla",
) -> Float[Array, "B T N H"]:
  """One softmax over every valid key of `past` and the causal part of `k`.

  Token i is seen by itself and those behind it, as far as token until[i] - 1;
  0 is padding, which nobody sees. So sequences that are packed into a row end
  where they end, and sequences that begin alike may share their beginning.

  Scores and sums are float32. The parts are merged by their maxima and sums, as
  in flash attention (Dao et al. 2022), so splitting the keys changes nothing.
  Where there is no past, `implementation` names what computes it
  (`IMPLEMENTATIONS`).
  """
  if not past and implementation != "xla":
    return IMPLEMENTATIONS[implementation](q, k, v, until)
  batch, length, heads, size = q.shape
  kv_heads = k.shape[1]
  q = q * jnp.asarray(size**-0.5, q.dtype)
  q = q.reshape(batch, length, kv_heads, heads // kv_heads, size)

  parts = [_own(q, k, v, until)]
  for part in past:
    parts.append(_partial(q, part, part.valid[:, :, None, :]))

  peak = parts[0].peak
  for part in parts[1:]:
    peak = jnp.maximum(peak, part.peak)
  scales = [jnp.exp(part.peak - peak) for part in parts]
  out = sum(part.out * scale for part, scale in zip(parts, scales, strict=True))
  total = sum(
    part.total * scale for part, scale in zip(parts, scales, strict=True)
  )
  return (out / total).astype(v.dtype).reshape(batch, length, heads, size)


def until_end(there: Bool[Array, "B T"]) -> Int[Array, "B T"]:
  """`until` of rows with one sequence each; what is not there is padding."""
  return jnp.where(there, there.shape[1], 0)


def _seen(until: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
  """Whether each token (axis 1) sees each token (axis 2)."""
  steps = jnp.arange(until.shape[1])
  causal = steps[:, None] >= steps[None, :]
  return causal & (steps[:, None] < until[:, None, :])


def _own(
  q: Float[Array, "B T K G H"],
  k: Float[Array, "B K T H"],
  v: Float[Array, "B K T H"],
  until: Int[Array, "B T"],
) -> _Partial:
  """Over the tokens at hand: some queries at a time, and the keys they see."""
  length = q.shape[1]
  size = max(_QUERIES, -(-length // _MOST_PARTS))
  seen = _seen(until)[:, None]
  parts = []
  for start in range(0, length, size):
    end = min(start + size, length)
    before = KeyValues(k[:, :, :end], v[:, :, :end])
    valid = seen[:, :, start:end, :end]
    parts.append(_partial(q[:, start:end], before, valid))
  return _Partial(
    *(jnp.concatenate(x, axis=1) for x in zip(*parts, strict=True))
  )


def _partial(
  q: Float[Array, "B T K G H"],
  past: KeyValues,
  seen: Bool[Array, "P _ _ S"],
) -> _Partial:
  """The products of entry p and its rows are one matrix product a head."""
  batch, entries = q.shape[0], seen.shape[0]
  scores = past.scores(q.reshape(entries, batch // entries, *q.shape[1:]))
  scores = jnp.where(seen[:, None, :, :, None, :], scores, _MASKED)
  # The maximum only keeps exp() in range: no gradient belongs to it.
  peak = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - peak)
  total = weights.sum(-1, keepdims=True)
  out = past.weighted(weights)

  def by_row(x):
    x = jnp.moveaxis(x, 1, 3)  # p k r t g _ → p r t k g _
    return x.reshape(batch, *x.shape[2:])

  return _Partial(by_row(out), by_row(total), by_row(peak))


def _splash(q, k, v, until):
  """The block-sparse flash attention of TPUs, on each device's own heads.

  It knows segments: whole sequences, that end where no other does.
  """
  # Imported where it is used: Pallas takes a second.
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  length, size = q.shape[1], q.shape[3]
  block = math.gcd(512, length)
  blocks = splash.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    use_fused_bwd_kernel=True,
  )

  def local(q, k, v, until):
    mask = splash.CausalMask((length, length))
    heads = splash.MultiHeadMask([mask] * q.shape[1])
    kernel = splash.make_splash_mha_single_device(heads, block_sizes=blocks)
    ids = splash.SegmentIds(until, until)
    return jax.vmap(kernel)(q, k, v, ids)

  rows = nn.logical_to_mesh_axes(("batch", "length"))
  queries = nn.logical_to_mesh_axes(("batch", "heads", "length", "head_dim"))
  keys = nn.logical_to_mesh_axes(("batch", "kv_heads", "length", "head_dim"))
  over_devices = jax.shard_map(
    local,
    in_specs=(queries, keys, keys, rows),
    out_specs=queries,
    check_vma=False,  # the kernel does not say over what its results vary
  )
  q = (q * jnp.asarray(size**-0.5, q.dtype)).swapaxes(1, 2)
  return over_devices(q, k, v, until).swapaxes(1, 2)


def _cudnn(q, k, v, until):
  """The fused attention of cuDNN, for half precision on GPUs."""
  return jax.nn.dot_product_attention(
    q,
    k.swapaxes(1, 2),
    v.swapaxes(1, 2),
    mask=_seen(until)[:, None],
    is_causal=True,
    implementation="cudnn",
  )


IMPLEMENTATIONS = {"splash": _splash, "cudnn": _cudnn}
OF_SEGMENTS = {"splash"}  # those for which sequences share nothing
# Chips whose compiler refuses the kernel: it has no products of bfloat16 there.
_WITHOUT_SPLASH = ("TPU v2", "TPU v3")


def choose(
  platform: str,
  config: ModelConfig,
  dtype: DTypeLike,
  length: int,
  device_kind: str = "",
) -> str:
  """What computes attention without a past on devices of this kind.

  The kernels for TPUs and GPUs are for half precision: that of TPUs would take
  products of float32 in bfloat16. Whether cuDNN takes these sizes on the device
  that is there, it is asked: that goes by its version, the chip, the head size
  and the length.
  """
  if jnp.dtype(dtype).itemsize != 2:
    return "xla"
  if platform == "tpu" and length % 128 == 0:
    return "xla" if device_kind in _WITHOUT_SPLASH else "splash"
  if platform in ("gpu", "cuda") and _compiles(_cudnn, config, dtype, length):
    return "cudnn"
  return "xla"


@functools.cache
def _compiles(implementation, config: ModelConfig, dtype, length: int) -> bool:
  """Whether a training step could use it here; nothing is run."""
  shape = lambda *sizes: jax.ShapeDtypeStruct((1, *sizes), dtype)
  q = shape(length, config.num_heads, config.head_dim)
  k = shape(config.num_kv_heads, length, config.head_dim)
  until = jax.ShapeDtypeStruct((1, length), jnp.int32)

  def total(q, k, v, until):
    return implementation(q, k, v, until).astype(jnp.float32).sum()

  try:
    jax.jit(jax.grad(total, (0, 1, 2))).lower(q, k, k, until).compile()
  except Exception:  # whatever cuDNN, XLA or JAX says no with
    return False
  return True
