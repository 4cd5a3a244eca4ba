"""Log-likelihoods of given continuations of given contexts, in batches.

A context is prefilled once for all its continuations, and a prefix that many
contexts share (worked examples) once for all of them: rows share both caches.
Logits are computed for continuations only.

Axis letters: G contexts, L their length, C continuations a context, B = G * C
rows, T continuation length, D embedding, V vocabulary.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from s2d_jax.models.attention import until_end
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes

Tokens = tuple[int, ...]

_LOGITS_BYTES = 2**28  # of float32 logits in memory at once
# Continuations of a unit; a context with more is prefilled again.
_MAX_CONTINUATIONS = 8
# Tokens that contexts must share to have the prefix prefilled separately.
_LEAST_PREFIX = 64


class Likelihood(NamedTuple):
  """Of one continuation.

  Attributes:
    logprob: sum of its tokens' log-probabilities, in nats.
    is_greedy: whether each token is the likeliest at its place.
  """

  logprob: float
  is_greedy: bool


class _Unit(NamedTuple):
  """A context with some of its continuations, by their place in the input."""

  context: Tokens  # without its last token, which goes with continuations
  rows: tuple[tuple[int, Tokens], ...]  # the last token and the continuation

  @property
  def shape(self) -> tuple[int, int]:
    """Continuations, and their length, as they are padded."""
    longest = max(len(tokens) - 1 for _, tokens in self.rows)
    length = 4
    while length < longest:
      length *= 4
    return 1 << (len(self.rows) - 1).bit_length(), length


def log_likelihoods(
  model: Llama,
  params: Params,
  pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
  rows: int,
  mesh: Mesh,
  advance: Callable[[int], None] = lambda count: None,
) -> list[Likelihood]:
  """The likelihood of each continuation after its context.

  Args:
    model: the network.
    params: of the network, on the devices of `mesh`.
    pairs: tokens of a context and of its continuation; neither is empty, and
      together they are at most one more than the model's window.
    rows: continuations scored at once.
    mesh: the devices.
    advance: is called with the number of continuations that were scored.
  """
  found: list[Likelihood | None] = [None] * len(pairs)
  for prefix, units in _runs(_units(pairs), rows):
    past = _past(model, params, prefix, mesh)
    for batch in _batches(units, len(prefix), rows):
      with meshes.use(mesh):
        arrays = _arrays(batch, len(prefix), rows, meshes.batch_shards(mesh))
        scored = jax.device_get(_score(model, params, *arrays, past))
      width = arrays[2].shape[0] // arrays[0].shape[0]
      for number, unit in enumerate(batch):
        for place, (index, _) in enumerate(unit.rows):
          row = number * width + place
          found[index] = Likelihood(float(scored[0][row]), bool(scored[1][row]))
      advance(sum(len(unit.rows) for unit in batch))
  return found


def _units(pairs) -> list[_Unit]:
  """One a context; several where it has many continuations."""
  by_context = collections.defaultdict(list)
  for index, (context, continuation) in enumerate(pairs):
    *context, last = context
    by_context[tuple(context)].append((index, (last, *continuation)))
  units = []
  for context, rows in by_context.items():
    rows.sort(key=lambda row: len(row[1]))
    for start in range(0, len(rows), _MAX_CONTINUATIONS):
      part = rows[start : start + _MAX_CONTINUATIONS]
      units.append(_Unit(context, tuple(part)))
  return units


def _runs(
  units: list[_Unit], least: int
) -> Iterator[tuple[Tokens, list[_Unit]]]:
  """Prefixes shared by at least `least` units, with these; the rest last.

  Sorted by context, units with a common prefix are neighbours.
  """
  runs: list[tuple[Tokens, list[_Unit]]] = []
  for unit in sorted(units):
    if runs:
      prefix, members = runs[-1]
      common = _common(prefix, unit.context)
      enough = max(_LEAST_PREFIX, len(prefix) // 2 * (len(members) > 1))
      if common >= enough:
        runs[-1] = prefix[:common], [*members, unit]
        continue
    runs.append((unit.context, [unit]))
  yield from (run for run in runs if len(run[1]) >= max(least, 2))
  rest = [run[1] for run in runs if len(run[1]) < max(least, 2)]
  if rest:
    yield (), list(itertools.chain.from_iterable(rest))


def _common(a: Tokens, b: Tokens) -> int:
  pairs = zip(a, b, strict=False)
  return sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))


def _batches(
  units: list[_Unit], start: int, rows: int
) -> Iterator[list[_Unit]]:
  """Batches of units of one shape, with at most `rows` continuations.

  The longest come first: what does not fit the memory fails at once, and the
  time left is over- rather than underestimated.
  """
  by_shape = collections.defaultdict(list)
  for unit in units:
    by_shape[_bucket(len(unit.context) - start), *unit.shape].append(unit)
  for length, count, longest in sorted(by_shape, reverse=True):
    alike = by_shape[length, count, longest]
    size = max(1, rows // count)
    for first in range(0, len(alike), size):
      yield alike[first : first + size]


def _bucket(length: int) -> int:
  """Rounds up to 16, 32, 48, 64, 96, 128, 192, …: two sizes an octave."""
  step = max(16, 1 << max((length - 1).bit_length() - 2, 0))
  return max(-(-length // step), 1) * step


class _Arrays(NamedTuple):
  """A batch, padded on the right to its shape."""

  contexts: Int[np.ndarray, "G L"]  # behind the prefix
  context_lengths: Int[np.ndarray, " G"]
  tokens: Int[np.ndarray, "B T+1"]  # continuations, and what is before them
  lengths: Int[np.ndarray, " B"]  # of the continuations
  prefix: Int[np.ndarray, ""]  # tokens in front of the contexts


def _arrays(batch: list[_Unit], start: int, rows: int, shards: int) -> _Arrays:
  """The last batch of a shape is filled with empty units."""
  count, longest = batch[0].shape
  size = -(-max(1, rows // count) // shards) * shards
  length = _bucket(len(batch[0].context) - start)
  contexts = np.zeros((size, length), np.int32)
  context_lengths = np.zeros(size, np.int32)
  tokens = np.zeros((size, count, longest + 1), np.int32)
  lengths = np.zeros((size, count), np.int32)
  for number, unit in enumerate(batch):
    context = unit.context[start:]
    contexts[number, : len(context)] = context
    context_lengths[number] = len(context)
    for place, (_, row) in enumerate(unit.rows):
      tokens[number, place, : len(row)] = row
      lengths[number, place] = len(row) - 1
  return _Arrays(
    contexts,
    context_lengths,
    tokens.reshape(size * count, -1),
    lengths.reshape(-1),
    np.int32(start),
  )


def _past(
  model: Llama, params: Params, prefix: Tokens, mesh: Mesh
) -> list[KeyValues]:
  """The cache of the shared prefix; empty if there is none."""
  if not prefix:
    return []
  # A row for each copy of the model, which would be idle otherwise.
  shards = meshes.batch_shards(mesh)
  tokens = np.zeros((shards, _bucket(len(prefix))), np.int32)
  tokens[:, : len(prefix)] = prefix
  with meshes.use(mesh):
    return [_prefill_prefix(model, params, tokens, np.int32(len(prefix)))]


@functools.partial(jax.jit, static_argnums=0)
def _prefill_prefix(
  model: Llama,
  params: Params,
  tokens: Int[Array, "S X"],
  length: Int[Array, ""],
) -> KeyValues:
  lengths = jnp.full(tokens.shape[0], length)
  cache = _prefill(model, params, tokens, lengths, 0, [])
  # All rows are equal; the first of them serves every row of a batch.
  keys, values = cache.keys[:, :1], cache.values[:, :1]
  return KeyValues(keys, values, cache.valid[:1], cache.positions[:1])


def _prefill(
  model: Llama,
  params: Params,
  tokens: Int[Array, "G L"],
  lengths: Int[Array, " G"],
  start: Int[Array, ""],
  past: list[KeyValues],
) -> KeyValues:
  steps = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  is_token = steps < lengths[:, None]
  _, keys_values = model.apply(
    {"params": params}, tokens, start + steps, until_end(is_token), past
  )
  return keys_values


@functools.partial(jax.jit, static_argnums=0)
def _score(
  model: Llama,
  params: Params,
  contexts: Int[Array, "G L"],
  context_lengths: Int[Array, " G"],
  tokens: Int[Array, "B T+1"],
  lengths: Int[Array, " B"],
  prefix: Int[Array, ""],
  past: list[KeyValues],
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
  """Log-probability of each continuation, and whether it is the greedy one."""
  cache = _prefill(model, params, contexts, context_lengths, prefix, past)
  inputs, targets = tokens[:, :-1], tokens[:, 1:]
  steps = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
  is_token = steps < lengths[:, None]
  per_context = len(tokens) // len(contexts)
  start = prefix + jnp.repeat(context_lengths, per_context)[:, None]
  hidden, _ = model.apply(
    {"params": params},
    inputs,
    start + steps,
    until_end(is_token),
    [*past, cache],
  )

  def score_chunk(chunk):
    hidden, target = chunk
    logits = model.apply({"params": params}, hidden, method=Llama.logits)
    chosen = jnp.take_along_axis(logits, target[..., None], -1)[..., 0]
    logprob = chosen - jax.nn.logsumexp(logits, -1)
    return logprob, jnp.argmax(logits, -1) == target

  chunks = _chunks(*inputs.shape, model.config.vocab_size)

  def split(x):  # [B, T, …] → [chunks, B, T / chunks, …]
    x = x.reshape(len(x), chunks, -1, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  logprobs, greedy = (
    jnp.moveaxis(x, 0, 1).reshape(inputs.shape)
    for x in jax.lax.map(score_chunk, (split(hidden), split(targets)))
  )
  return (
    jnp.where(is_token, logprobs, 0.0).sum(-1),
    (greedy | ~is_token).all(-1),
  )


def _chunks(rows: int, length: int, vocabulary: int) -> int:
  """Number of chunks, a power of 2, that bounds the logits in memory."""
  count = 1
  whole = 4 * rows * length * vocabulary
  while count < length and whole > count * _LOGITS_BYTES:
    count *= 2
  return count
