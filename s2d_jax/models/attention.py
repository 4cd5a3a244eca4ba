"""Grouped-query attention over a shared past and the tokens at hand.

Axis letters: B query rows, T query length, S key length, N query heads,
K key-value heads, G = N // K, H head size. A past has P entries, each of which
serves R = B // P query rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Added in place of the score of a key that may not be seen: finite, so that a
# row with nothing to see (padding) stays finite too.
_MASKED = -1e30


class KeyValues(NamedTuple):
  """Keys and values of tokens that came before, and who may see which.

  Entry p of P serves the query rows p * R … (p + 1) * R - 1: a prefix common to
  all rows has P = 1, a prompt has P = number of prompts, a row's own tokens
  have P = B. Rows share an entry without copying it. `valid` has R = 1 where
  all rows of an entry see the same keys. In front of the axes below, `keys`
  and `values` carry the layer axis until the scan over layers takes it off.
  """

  keys: Float[Array, "*L P K S H"]
  values: Float[Array, "*L P K S H"]
  valid: Bool[Array, "P R S"]


class _Partial(NamedTuple):
  """Attention over some of the keys, before the parts are put together."""

  out: Float[Array, "B T K G H"]  # sum of exp(score - peak) * value
  total: Float[Array, "B T K G 1"]  # sum of exp(score - peak)
  peak: Float[Array, "B T K G 1"]


def attend(
  q: Float[Array, "B T N H"],
  k: Float[Array, "B K T H"],
  v: Float[Array, "B K T H"],
  segments: Int[Array, "B T"],
  past: Sequence[KeyValues] = (),
) -> Float[Array, "B T N H"]:
  """One softmax over every valid key of `past` and the causal part of `k`.

  A token sees earlier tokens of its own segment (0 is padding). Scores and
  sums are float32. The parts are merged by their maxima and sums, as in flash
  attention (Dao et al. 2022), so splitting the keys changes nothing.
  """
  batch, length, heads, size = q.shape
  kv_heads = k.shape[1]
  q = q * jnp.asarray(size**-0.5, q.dtype)
  q = q.reshape(batch, length, kv_heads, heads // kv_heads, size)

  steps = jnp.arange(length)
  causal = steps[:, None] >= steps[None, :]
  seen = (segments[:, :, None] == segments[:, None, :]) & causal
  parts = [_partial(q, k, v, seen[:, None])]
  for part in past:
    valid = part.valid[:, :, None, :]
    parts.append(_partial(q, part.keys, part.values, valid))

  peak = parts[0].peak
  for part in parts[1:]:
    peak = jnp.maximum(peak, part.peak)
  scales = [jnp.exp(part.peak - peak) for part in parts]
  out = sum(part.out * scale for part, scale in zip(parts, scales, strict=True))
  total = sum(
    part.total * scale for part, scale in zip(parts, scales, strict=True)
  )
  return (out / total).astype(v.dtype).reshape(batch, length, heads, size)


def _partial(
  q: Float[Array, "B T K G H"],
  keys: Float[Array, "P K S H"],
  values: Float[Array, "P K S H"],
  seen: Bool[Array, "P _ _ S"],
) -> _Partial:
  """The products of entry p and its rows are one matrix product a head."""
  batch, entries = q.shape[0], keys.shape[0]
  q = q.reshape(entries, batch // entries, *q.shape[1:])
  scores = jnp.einsum(
    "prtkgh,pksh->pkrtgs", q, keys, preferred_element_type=jnp.float32
  )
  scores = jnp.where(seen[:, None, :, :, None, :], scores, _MASKED)
  # The maximum only keeps exp() in range: no gradient belongs to it.
  peak = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - peak)
  total = weights.sum(-1, keepdims=True)
  out = jnp.einsum(
    "pkrtgs,pksh->pkrtgh",
    weights.astype(values.dtype),
    values,
    preferred_element_type=jnp.float32,
  )

  def by_row(x):
    x = jnp.moveaxis(x, 1, 3)  # p k r t g _ → p r t k g _
    return x.reshape(batch, *x.shape[2:])

  return _Partial(by_row(out), by_row(total), by_row(peak))
