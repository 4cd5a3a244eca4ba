"""Grouped-query attention over a shared past and the tokens at hand.

`attend` is plain XLA and runs everywhere. Without a past, which is training, a
fused kernel that never holds the scores can take its place.

A window is a mask: what it hides is read and thrown away, but for the kernel of
TPUs, which leaves out whole blocks.

Axis letters: B query rows, T query length, S key length, N query heads,
K key-value heads, G = N // K, H head size. A past has P entries, each of which
serves R = B // P query rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
import math
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int
import numpy as np

from s2d_jax.models.config import ModelConfig
from s2d_jax.models.key_values import KeyValues

# Queries that see their own sequence together, and into how many parts a long
# one is cut. What lies behind the last query of a part is not computed, and the
# scores of a part stay near the processor: on a CPU half the time.
_QUERIES, _MOST_PARTS = 64, 8
# Scores that are held at once, a row and head: those of more queries are
# computed some queries after others, so that a long prompt takes no T² memory.
_SCORES = 1 << 21

# Added in place of the score of a key that may not be seen: finite, so that a
# row with nothing to see (padding) stays finite too.
_MASKED = -1e30


class Window(NamedTuple):
  """How much the layers of a model see, and which of it this layer does.

  Attributes:
    sizes: the different ones, in tokens; None: all.
    which: one of them, a number that a scan over layers may have traced.
  """

  sizes: tuple[int | None, ...] = (None,)
  which: int | Int[Array, ""] = 0

  def within(self, length: int) -> Window:
    """Windows of at least `length` tokens hide nothing: they are none.

    If none is left, there is nothing to choose from.
    """
    acts = [size is not None and size < length for size in self.sizes]
    if not any(acts):
      return EVERYTHING
    sizes = zip(self.sizes, acts, strict=True)
    return self._replace(
      sizes=tuple(s if acting else None for s, acting in sizes)
    )

  @property
  def size(self) -> int | Int[Array, ""] | None:
    """Of this layer, as a number to compare distances with."""
    if isinstance(self.which, int):
      return self.sizes[self.which]
    sizes = [size or np.iinfo(np.int32).max for size in self.sizes]
    return jnp.asarray(sizes, jnp.int32)[self.which]


EVERYTHING = Window()


class Queries(NamedTuple):
  """Queries, and where they stand."""

  q: Float[Array, "B T K G H"]
  index: Int[Array, "B T"]  # in the row
  position: Int[Array, "B T"]  # in the sequence


# Which keys S of its entry each query sees.
Sees = Callable[[Queries], Bool[Array, "P _ _ S"]]


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
  *,
  positions: Int[Array, "B T"] | None = None,
  window: Window = EVERYTHING,
  scale: float | None = None,
  cap: float | None = None,
) -> Float[Array, "B T N H"]:
  """One softmax over every valid key of `past` and the causal part of `k`.

  Token i is seen by itself and those behind it, as far as token until[i] - 1;
  0 is padding, which nobody sees. So sequences that are packed into a row end
  where they end, and sequences that begin alike may share their beginning.

  Scores and sums are float32. The parts are merged by their maxima and sums, as
  in flash attention (Dao et al. 2022), so splitting the keys changes nothing.

  Args:
    q: queries.
    k: keys of the same tokens.
    v: their values.
    until: how far in its row each token is seen.
    past: keys and values of tokens before these.
    implementation: names what computes it where there is no past
      (`IMPLEMENTATIONS`).
    positions: of the tokens in their sequences, by which a window goes; by
      default a row is one sequence.
    window: how many tokens one sees, itself and those right before it.
    scale: of the scores; None: H^-1/2.
    cap: scores s become cap · tanh(s / cap) (Bello et al. 2016).
  """
  batch, length, heads, size = q.shape
  window = window.within(length + sum(part.reach for part in past))
  # Scaled before it is rounded: few scales are exact in bfloat16.
  q32 = q.astype(jnp.float32) * (size**-0.5 if scale is None else scale)
  q = q32.astype(q.dtype)
  index = jnp.broadcast_to(jnp.arange(length), (batch, length))
  positions = index if positions is None else positions
  if not past and implementation != "xla":
    kernel = IMPLEMENTATIONS[implementation]
    return kernel(q, k, v, until, positions, window, cap)
  kv_heads = k.shape[1]
  q = q.reshape(batch, length, kv_heads, heads // kv_heads, size)
  queries = Queries(q, index, positions)

  parts = [_own(queries, k, v, until, window, cap)]
  for part in past:
    attention = _partial if part.owners is None else _of_owners
    parts.append(attention(queries, part, _sees_past(part, window), cap))

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


def _sees_own(
  until: Int[Array, "B S"], positions: Int[Array, "B S"], window: Window
) -> Sees:
  """The first S tokens of the same rows."""

  def sees(queries: Queries) -> Bool[Array, "B 1 T S"]:
    # A query is behind the key, and by fewer tokens than that is seen: of
    # unsigned numbers one comparison. Two take XLA for CPUs seconds to compile.
    key = jnp.arange(until.shape[1])
    behind = (queries.index[:, :, None] - key).astype(jnp.uint32)
    seen = behind < jnp.maximum(until - key, 0).astype(jnp.uint32)[:, None]
    if (size := window.size) is not None:
      seen &= queries.position[:, :, None] - positions[:, None] < size
    return seen[:, None]

  return sees


def _sees_past(past: KeyValues, window: Window) -> Sees:
  """The valid keys of a past; a window goes by their positions."""

  def sees(queries: Queries) -> Bool[Array, "P R T S"]:
    seen = past.valid[:, :, None, :]
    if (size := window.size) is None:
      return seen
    entries = len(past.valid)
    position = queries.position.reshape(entries, -1, queries.q.shape[1], 1)
    return seen & (position - past.positions[:, None, None] < size)

  return sees


def _own(
  queries: Queries,
  k: Float[Array, "B K T H"],
  v: Float[Array, "B K T H"],
  until: Int[Array, "B T"],
  window: Window,
  cap: float | None,
) -> _Partial:
  """Over the tokens at hand: some queries at a time, and the keys they see."""
  length = k.shape[2]
  size = max(_QUERIES, -(-length // _MOST_PARTS))
  parts = []
  for start in range(0, length, size):
    end = min(start + size, length)
    before = KeyValues(k[:, :, :end], v[:, :, :end])
    sees = _sees_own(until[:, :end], queries.position[:, :end], window)
    some = Queries(*(x[:, start:end] for x in queries))
    parts.append(_partial(some, before, sees, cap))
  return _Partial(
    *(jnp.concatenate(x, axis=1) for x in zip(*parts, strict=True))
  )


def _partial(
  queries: Queries, keys: KeyValues, sees: Sees, cap: float | None
) -> _Partial:
  """Over some keys; where the scores are many, some queries after others."""
  length = queries.q.shape[1]
  at_once = max(_SCORES // keys.capacity, 1)
  if length <= at_once:
    return _at_once(queries, keys, sees, cap)
  blocks = -(-length // at_once)
  at_once = -(-length // blocks)

  def cut(x):  # [B, T, …] → [blocks, B, T / blocks, …], the last one padded
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, blocks * at_once - length)
    x = jnp.pad(x, padding).reshape(len(x), blocks, at_once, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def joined(x):
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])[:, :length]

  # The backward pass computes the scores anew, or it would hold all of them.
  of_block = jax.checkpoint(lambda block: _at_once(block, keys, sees, cap))
  parts = jax.lax.map(of_block, Queries(*map(cut, queries)))
  return _Partial(*map(joined, parts))


def _of_owners(
  queries: Queries, past: KeyValues, sees: Sees, cap: float | None
) -> _Partial:
  """Over the entries of each row, of which it may have several, or none.

  Queries go to the entries and sums come back, so no key is moved. The sums of
  a row are added in the order of its tokens, wherever its entries lie.
  """
  row, order = past.owners
  shards, entries = row.shape
  past = past.first_entries(shards, entries)
  by_shard = lambda x: x.reshape(shards, -1, *x.shape[1:])
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  # What belongs to nobody sees nothing, whoever's queries it gets.
  of_row = lambda x, row: x.at[row].get(mode="clip")
  to_entries = lambda x: flat(jax.vmap(of_row)(by_shard(x), row))
  part = _partial(Queries(*map(to_entries, queries)), past, sees, cap)
  rows = len(queries.q) // shards

  def by_row(out, total, peak, row, order):
    highest = jax.ops.segment_max(peak, row, rows)
    highest = jnp.maximum(highest, _MASKED)  # a row without entries
    scale = jnp.exp(peak - of_row(highest, row))
    added = lambda x: jax.ops.segment_sum(
      (x * scale)[order], row[order], rows, indices_are_sorted=True
    )
    return added(out), added(total), highest

  merged = jax.vmap(by_row)(*map(by_shard, part), row, order)
  return _Partial(*map(flat, merged))


def _at_once(
  queries: Queries, keys: KeyValues, sees: Sees, cap: float | None
) -> _Partial:
  """The products of entry p and its rows are one matrix product a head."""
  q, seen = queries.q, sees(queries)
  batch, entries = q.shape[0], seen.shape[0]
  scores = keys.scores(q.reshape(entries, batch // entries, *q.shape[1:]))
  if cap is not None:
    scores = cap * jnp.tanh(scores / cap)
  scores = jnp.where(seen[:, None, :, :, None, :], scores, _MASKED)
  # The maximum only keeps exp() in range: no gradient belongs to it.
  peak = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - peak)
  total = weights.sum(-1, keepdims=True)
  out = keys.weighted(weights)

  def by_row(x):
    x = jnp.moveaxis(x, 1, 3)  # p k r t g _ → p r t k g _
    return x.reshape(batch, *x.shape[2:])

  return _Partial(by_row(out), by_row(total), by_row(peak))


def _splash(q, k, v, until, positions, window: Window, cap):
  """The block-sparse flash attention of TPUs, on each device's own heads.

  It knows segments: whole sequences, that end where no other does, so distances
  in the row are distances in the sequence.
  """
  # Imported where it is used: Pallas takes a second.
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  del positions
  length = q.shape[1]
  block = math.gcd(512, length)
  blocks = splash.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    use_fused_bwd_kernel=True,
  )

  def local(size: int | None, q, k, v, until):
    mask = splash.CausalMask((length, length))
    if size is not None:
      mask = splash.LocalMask((length, length), (size - 1, 0), offset=0)
    heads = splash.MultiHeadMask([mask] * q.shape[1])
    kernel = splash.make_splash_mha_single_device(
      heads, block_sizes=blocks, attn_logits_soft_cap=cap
    )
    ids = splash.SegmentIds(until, until)
    return jax.vmap(kernel)(q, k, v, ids)

  rows = nn.logical_to_mesh_axes(("batch", "length"))
  queries = nn.logical_to_mesh_axes(("batch", "heads", "length", "head_dim"))
  keys = nn.logical_to_mesh_axes(("batch", "kv_heads", "length", "head_dim"))

  def over_devices(size: int | None):
    return jax.shard_map(
      functools.partial(local, size),
      in_specs=(queries, keys, keys, rows),
      out_specs=queries,
      check_vma=False,  # the kernel does not say over what its results vary
    )

  # A kernel is made for its mask: a scan over layers that differ has several.
  kernels = [over_devices(size) for size in window.sizes]
  operands = q.swapaxes(1, 2), k, v, until
  return jax.lax.switch(window.which, kernels, *operands).swapaxes(1, 2)


def _cudnn(q, k, v, until, positions, window: Window, cap):
  """The fused attention of cuDNN, for half precision on GPUs."""
  assert cap is None  # `choose` knows
  length = q.shape[1]
  index = jnp.broadcast_to(jnp.arange(length), until.shape)
  seen = _sees_own(until, positions, window)(Queries(q, index, positions))
  return jax.nn.dot_product_attention(
    q,
    k.swapaxes(1, 2),
    v.swapaxes(1, 2),
    mask=seen,
    scale=1.0,
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
  if platform in ("gpu", "cuda") and config.attention_cap is None:
    if _compiles(_cudnn, config, dtype, length):
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
    out = implementation(q, k, v, until, until, Window(config.windows), None)
    return out.astype(jnp.float32).sum()

  try:
    jax.jit(jax.grad(total, (0, 1, 2))).lower(q, k, k, until).compile()
  except Exception:  # whatever cuDNN, XLA or JAX says no with
    return False
  return True
