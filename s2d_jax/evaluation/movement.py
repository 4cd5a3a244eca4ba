"""How far a fine-tune moved a model: KL of the next token, in nats.

The divergence from the model before it, KL(base || tuned), is exact: over the
whole vocabulary, at each position that counts. The log-probabilities of one
model stay on the devices, laid out as its logits, while that model makes room
for the other: two are never in memory at once, and nothing as large as a
vocabulary passes through the host.

Axis letters: B passages of a batch, T their length, P positions of a passage,
D embedding, V vocabulary.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.evaluation.hidden_states import read
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes

# Log-probabilities of so many positions are kept: of a vocabulary of 49,152
# they are 201 MB.
MOST_POSITIONS = 1024
MOST_PASSAGES = 64  # are read: time is spent on tokens, not on positions
_WINDOW = 128  # tokens that are read of a text at once; the shortest row
_BATCH = 4  # passages


class Passage(NamedTuple):
  """Tokens that both models read.

  Attributes:
    name: of the passage.
    tokens: from its beginning.
    positions: in it at which the next token is compared.
  """

  name: str
  tokens: tuple[int, ...]
  positions: tuple[int, ...]


class Divergence(NamedTuple):
  """Of the next token, at each position of a passage.

  Attributes:
    kl: KL(base || tuned), in nats.
    base: the base model's likeliest token.
    tuned: that of the other model.
  """

  kl: Float[np.ndarray, " P"]
  base: Int[np.ndarray, " P"]
  tuned: Int[np.ndarray, " P"]


def windows(tokens: Sequence[int], most: int = _WINDOW) -> list[Passage]:
  """A text in windows that do not overlap, each compared at all positions.

  The last token has nothing behind it, and is no position.

  Args:
    tokens: of the text.
    most: tokens of a window.
  """
  size = min(most, _WINDOW)
  parts = [
    tuple(tokens[start : start + size]) for start in range(0, len(tokens), size)
  ]
  return [
    Passage(str(number), part, tuple(range(len(part) - 1)))
    for number, part in enumerate(parts)
    if len(part) > 1
  ]


def spread(
  passages: Sequence[Passage],
  most: int = MOST_PASSAGES,
  positions: int = MOST_POSITIONS,
) -> list[Passage]:
  """Few enough passages and positions, spread evenly over those given.

  Args:
    passages: to choose from.
    most: passages, at most.
    positions: of all passages together, at most.
  """
  chosen = _evenly(passages, min(most, positions))
  each = positions // max(1, len(chosen))
  return [p._replace(positions=_evenly(p.positions, each)) for p in chosen]


def _evenly(items: Sequence, most: int) -> tuple:
  if len(items) <= most:
    return tuple(items)
  at = np.linspace(0, len(items) - 1, most).round().astype(int)
  return tuple(items[i] for i in at)


class _Batch(NamedTuple):
  """Passages of about one length, padded to it."""

  passages: Sequence[Passage]
  tokens: Int[np.ndarray, "B T"]
  lengths: Int[np.ndarray, " B"]
  positions: Int[np.ndarray, "B P"]


def log_probs(
  model: Llama, params: Params, passages: Sequence[Passage], mesh: Mesh
) -> list[Float[Array, "B P V"]]:
  """The log-probabilities that `divergences` compares, left on the devices.

  Args:
    model: the network.
    params: of the model, on the devices of `mesh`.
    passages: to read, each with a position at least.
    mesh: the devices.

  Returns:
    Of each batch of passages, in float32, sharded over batch and vocabulary.
  """
  with meshes.use(mesh):
    return [
      _log_probs(
        model,
        params,
        _read(model, params, batch.tokens, batch.lengths),
        batch.positions,
      )
      for batch in _batches(passages, model.config.max_context, mesh)
    ]


def divergences(
  model: Llama,
  params: Params,
  passages: Sequence[Passage],
  tuned: Sequence[Float[Array, "B P V"]],
  mesh: Mesh,
) -> Iterator[tuple[Passage, Divergence]]:
  """Yields how far the other model is from this one, in each passage.

  Args:
    model: the base model's network.
    params: of the base model, on the devices of `mesh`.
    passages: to read, as they were given to `log_probs`.
    tuned: what `log_probs` made of them by the other model.
    mesh: the devices.
  """
  batches = _batches(passages, model.config.max_context, mesh)
  for batch, other in zip(batches, tuned, strict=True):
    with meshes.use(mesh):
      hidden = _read(model, params, batch.tokens, batch.lengths)
      found = jax.device_get(
        _divergence(model, params, hidden, batch.positions, other)
      )
    for row, passage in enumerate(batch.passages):
      count = len(passage.positions)
      yield passage, Divergence(*(part[row, :count] for part in found))


def _batches(
  passages: Sequence[Passage], window: int, mesh: Mesh
) -> Iterator[_Batch]:
  """Batches of few shapes: each length is a power of two, or the window."""
  by_length = collections.defaultdict(list)
  for passage in passages:
    length = max(_WINDOW, 1 << (len(passage.tokens) - 1).bit_length())
    by_length[min(length, window)].append(passage)
  most = max((len(passage.positions) for passage in passages), default=0)
  shards = meshes.batch_shards(mesh)
  rows = -(-_BATCH // shards) * shards
  for length, alike in sorted(by_length.items()):
    for start in range(0, len(alike), rows):
      part = alike[start : start + rows]
      tokens = np.zeros((rows, length), np.int32)
      lengths = np.zeros(rows, np.int32)
      positions = np.zeros((rows, most), np.int32)
      for row, passage in enumerate(part):
        lengths[row] = len(passage.tokens)
        tokens[row, : len(passage.tokens)] = passage.tokens
        positions[row, : len(passage.positions)] = passage.positions
      yield _Batch(part, tokens, lengths, positions)


# Apart from what is made of the hidden states, as it takes longest to compile:
# both models and all numbers of positions share it.
_read = jax.jit(read, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(
  model: Llama,
  params: Params,
  hidden: Float[Array, "B T D"],
  positions: Int[Array, "B P"],
) -> Float[Array, "B P V"]:
  chosen = jnp.take_along_axis(hidden, positions[..., None], axis=1)
  logits = model.apply({"params": params}, chosen, method=Llama.logits)
  found = jax.nn.log_softmax(logits)
  return nn.with_logical_constraint(found, ("batch", None, "vocab"))


@functools.partial(jax.jit, static_argnums=0)
def _divergence(
  model: Llama,
  params: Params,
  hidden: Float[Array, "B T D"],
  positions: Int[Array, "B P"],
  tuned: Float[Array, "B P V"],
) -> tuple[Float[Array, "B P"], Int[Array, "B P"], Int[Array, "B P"]]:
  """The divergence, and both models' likeliest tokens, on every device."""
  base = _log_probs(model, params, hidden, positions)
  p, q = jnp.exp(base), jnp.exp(tuned)
  # p and q both add up to 1. With them no term is negative, so that rounding
  # leaves no sum below zero.
  kl = (p * (base - tuned) - (p - q)).sum(-1)
  found = kl, base.argmax(-1), tuned.argmax(-1)
  return tuple(nn.with_logical_constraint(x, (None, None)) for x in found)
