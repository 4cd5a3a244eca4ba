"""The device side of generation: prefill, put_prompts, start_rows, decode.

A decode batch has S slots of R rows each. A slot holds one prompt, its rows
hold samples of that prompt: the rows share the prompt's keys and values. B =
S * R rows, C own tokens a row at most, V vocabulary; L, K, H as in the model.

A row's own keys stand in pages that it takes as its reply grows
(`generation.pages`), wherever the other rows are. So a row may start at any
step: one that has ended takes the next sample of its slot's prompt while the
others go on, and a slot whose rows have all ended takes another prompt. In a
batch of one shape a sample does not depend, to the last bit, on when it was
drawn.

How keys and values lie in memory is for the model to say (`Llama.empty_cache`):
the shapes below are those of `KeyValues`.

On a mesh, slots with their rows are spread over its batch axes and key-value
heads over `tensor`; tokens are drawn for as many rows on every device. Every
program leaves a batch laid out as it found it.
"""

from __future__ import annotations

from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt32

from s2d_jax.generation import pages as paging
from s2d_jax.generation.pages import Pages
from s2d_jax.generation.sampling import sample
from s2d_jax.models.attention import until_end
from s2d_jax.models.key_values import KeyValues, Shard
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.models.rope import Angles
from s2d_jax.parallel import mesh as meshes


class RowSettings(NamedTuple):
  """What the host says of each row when it starts a sample in it."""

  active: Bool[Array, " B"]
  key: UInt32[Array, "B 2"]  # the sample's own random key
  limit: Int[Array, " B"]  # most tokens
  prefix: Int[Array, " B"]  # number of the shared prefix in front of the prompt
  stop: Int[Array, " B"]  # row of the stop table
  knobs: dict[str, Array]  # see `sampling.knobs`


class Batch(NamedTuple):
  """The state of a decode batch, but for the keys and values of replies."""

  rows: RowSettings
  prompt: KeyValues  # [L, S, K, P, H], valid [S, 1, P]
  length: Int[Array, " S"]  # of prefix and prompt together
  first: Float[Array, "S V"]  # logits of the token behind the prompt
  logits: Float[Array, "B V"]  # of the token to draw next
  count: Int[Array, " B"]  # tokens drawn so far
  tokens: Int[Array, "B C"]
  logprobs: Float[Array, "B C"]
  step: Int[Array, ""]


class Drawn(NamedTuple):
  """What the host reads of a batch; whole on every device."""

  active: Bool[Array, " B"]
  count: Int[Array, " B"]
  tokens: Int[Array, "B C"]
  logprobs: Float[Array, "B C"]
  step: Int[Array, ""]
  pages: Int[Array, " D"]  # that replies use
  is_full: Bool[Array, ""]  # and need more than are read


class Capacity(NamedTuple):
  """What a batch has room for.

  Attributes:
    prompt: tokens of a prompt.
    own: the most tokens of a reply.
    page: tokens of a page.
    pages: of a shard of the mesh.
  """

  prompt: int
  own: int
  page: int
  pages: int


class Shared(NamedTuple):
  """What all rows of a batch have in common."""

  prefix: KeyValues  # every prefix one after another: [*L, 1, K, X, H]
  prefix_number: Int[Array, " X"]  # whose key this is; -1 is padding
  stop_table: Bool[Array, "Z V"]  # tokens that end a completion


class Prefilled(NamedTuple):
  """Prompts that are ready to be sampled from. Q prompts."""

  prompt: KeyValues  # [L, Q, K, P, H], valid [Q, 1, P]
  logits: Float[Array, "Q V"]
  length: Int[Array, " Q"]  # prefix and prompt together


def _sharded(shard: Shard, batch: Batch) -> Batch:
  """The one table of how a batch lies over a mesh."""
  by_row = lambda x: shard(x, "batch", *[None] * (x.ndim - 1))
  rows, prompt, length, first, logits, *fields, step = batch
  return Batch(
    jax.tree.map(by_row, rows),
    prompt.sharded(shard)._replace(valid=by_row(prompt.valid)),
    by_row(length),
    by_row(first),
    shard(logits, "sampled", None),
    *map(by_row, fields),
    shard(step),
  )


def _shared_sharded(shard: Shard, shared: Shared) -> Shared:
  """Entries are whole on every device."""
  prefix, *fields = shared
  whole = lambda x, *axes: shard(
    x, *(a if a != "batch" else None for a in axes)
  )
  prefix = prefix.sharded(whole)._replace(valid=shard(prefix.valid))
  return Shared(prefix, *map(shard, fields))


def _constrained(x: Array, *axes: str | None) -> Array:
  return nn.with_logical_constraint(x, axes or (None,) * x.ndim)


def _abstract_on(mesh: Mesh) -> Shard:
  return lambda x, *axes: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=meshes.sharding(mesh, *axes)
  )


def abstract_batch(
  model: Llama, slots: int, rows: int, capacity: Capacity, mesh: Mesh
) -> tuple[Batch, Pages]:
  """Shapes and shardings of a batch, nothing allocated."""
  shards = meshes.batch_shards(mesh)
  batch, pages = jax.eval_shape(
    lambda: _empty_batch(model, slots, rows, capacity, shards)
  )
  shard = _abstract_on(mesh)
  return _sharded(shard, batch), pages.sharded(shard)


def abstract_shared(model: Llama, prefix: int, mesh: Mesh) -> Shared:
  """Shapes and shardings of what rows share, with `prefix` tokens of it."""
  valid = jax.ShapeDtypeStruct((1, 1, 1), bool)
  cache = jax.eval_shape(lambda: model.empty_cache(1, prefix))
  shared = Shared(
    cache._replace(valid=valid),
    jax.ShapeDtypeStruct((prefix,), jnp.int32),
    jax.ShapeDtypeStruct((4, model.config.vocab_size), bool),
  )
  return _shared_sharded(_abstract_on(mesh), shared)


def empty_batch(
  model: Llama, slots: int, rows: int, capacity: Capacity, shards: int
) -> tuple[Batch, Pages]:
  """A batch with nothing in it, `rows` a slot, over the shards of a mesh."""
  batch, pages = _empty_batch(model, slots, rows, capacity, shards)
  return _sharded(_constrained, batch), pages.sharded(_constrained)


def _empty_batch(
  model: Llama, slots: int, rows: int, capacity: Capacity, shards: int
) -> tuple[Batch, Pages]:
  batch, vocabulary = slots * rows, model.config.vocab_size
  prompt, own = capacity.prompt, capacity.own
  zeros = lambda dtype=jnp.int32: jnp.zeros(batch, dtype)
  valid = jnp.zeros((slots, 1, prompt), bool)
  pages = paging.empty(
    model, shards, batch // shards, capacity.pages, capacity.page
  )
  return Batch(
    rows=RowSettings(
      active=zeros(bool),
      key=jnp.zeros((batch, 2), jnp.uint32),
      limit=zeros(),
      prefix=zeros(),
      stop=zeros(),
      knobs={
        "temperature": zeros(jnp.float32),
        "top_k": zeros(),
        "top_p": jnp.ones(batch, jnp.float32),
        "min_p": zeros(jnp.float32),
      },
    ),
    prompt=model.empty_cache(slots, prompt)._replace(valid=valid),
    length=jnp.zeros(slots, jnp.int32),
    first=jnp.zeros((slots, vocabulary), jnp.float32),
    logits=jnp.zeros((batch, vocabulary), jnp.float32),
    count=zeros(),
    tokens=jnp.zeros((batch, own), jnp.int32),
    logprobs=jnp.zeros((batch, own), jnp.float32),
    step=jnp.zeros((), jnp.int32),
  ), pages


def prefill(
  model: Llama,
  params: Params,
  tokens: Int[Array, "Q P"],
  length: Int[Array, " Q"],
  prefix: Int[Array, " Q"],
  shared: Shared,
) -> Prefilled:
  """Reads prompts, padded on the right to P, behind their shared prefixes."""
  steps = jnp.arange(tokens.shape[1])
  before, past = _prefix_past(shared, prefix)
  hidden, prompt = model.apply(
    {"params": params},
    tokens,
    before[:, None] + steps,
    until_end(steps < length[:, None]),
    [past],
  )
  last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
  logits = model.apply({"params": params}, last, method=Llama.logits)
  return Prefilled(prompt._replace(positions=None), logits, before + length)


def put_prompts(
  batch: Batch,
  prefilled: Prefilled,
  slots: Int[Array, " N"],
  source: Int[Array, " N"],
) -> Batch:
  """Puts prompt `source[i]` into slot `slots[i]`.

  Slots are distinct, and none of their rows is active; those that are out of
  range, which stand behind all others, mean nowhere. The prompts lie as those
  of the batch (`Llama.as_cache`).
  """
  put = lambda old, new: old.at[slots].set(new[source], mode="drop")
  prompt, new = batch.prompt, prefilled.prompt
  beyond = prompt.capacity - new.capacity
  valid = jnp.pad(new.valid, ((0, 0), (0, 0), (0, beyond)))
  filled = batch._replace(
    prompt=prompt.with_entries(slots, new, source)._replace(
      valid=put(prompt.valid, valid)
    ),
    length=put(batch.length, prefilled.length),
    first=put(batch.first, prefilled.logits),
  )
  return _sharded(_constrained, filled)


def start_rows(
  batch: Batch, fresh: Bool[Array, " B"], rows: RowSettings
) -> Batch:
  """Starts a sample of its slot's prompt in each fresh row.

  `rows` describes all B rows; the fresh ones are read.
  """
  per_slot = batch.count.shape[0] // batch.length.shape[0]

  def put(old, new):
    mask = fresh.reshape(-1, *[1] * (old.ndim - 1))
    return jnp.where(mask, new, old)

  started = batch._replace(
    rows=jax.tree.map(put, batch.rows, rows),
    logits=put(batch.logits, jnp.repeat(batch.first, per_slot, axis=0)),
    count=put(batch.count, 0),
  )
  return _sharded(_constrained, started)


def extend_prompts(batch: Batch, more: int) -> Batch:
  """Gives every slot capacity for `more` prompt tokens."""
  prompt = batch.prompt.extended(more)._replace(
    valid=_extended(batch.prompt.valid, more)
  )
  return _sharded(_constrained, batch._replace(prompt=prompt))


def extend_own(pages: Pages, more: int) -> Pages:
  """Gives the rows of every shard `more` pages."""
  return pages.extended(more).sharded(_constrained)


def _extended(x: Array, more: int) -> Array:
  """Padded behind its last axis."""
  return jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, more)])


def decode(
  model: Llama,
  read: int,
  params: Params,
  batch: Batch,
  pages: Pages,
  shared: Shared,
  keep: Bool[Array, " B"],
  more: Bool[Array, " S"],
  max_steps: Int[Array, ""],
  wanted: Int[Array, ""],
) -> tuple[Batch, Pages, Drawn]:
  """Draws tokens until `wanted` rows more can be filled, or for `max_steps`.

  It stops too when replies need more than `read` pages of a shard, which all of
  them are among.

  A row that has ended can be filled if there are `more` samples to draw of its
  slot's prompt, or if its whole slot is free for another one. Rows with `keep`
  False are ended first (the host saw a stop string in them).
  """
  slots = batch.length.shape[0]
  parts = shared.prefix_number, batch.prompt.valid, batch.tokens
  angles = model.rope_table(sum(part.shape[-1] for part in parts))
  active = batch.rows.active & keep
  batch = batch._replace(rows=batch.rows._replace(active=active))
  # A row that was started since has drawn nothing.
  pages = pages.freed(active & (batch.count > 0)).gathered(read)
  last_step = batch.step + max_steps

  def free_rows(batch: Batch):
    idle = ~batch.rows.active.reshape(slots, -1)
    return (idle & (more[:, None] | idle.all(-1, keepdims=True))).sum()

  enough = free_rows(batch) + wanted

  def unfinished(state):
    batch, pages = state
    return (
      (batch.step < last_step)
      & batch.rows.active.any()
      & (free_rows(batch) < enough)
      & pages.has_room(batch.rows.active, batch.count, read)
    )

  def step(state):
    batch, pages = state
    batch = _draw(batch, shared)
    batch, pages = _advance(model, read, params, batch, pages, shared, angles)
    return _sharded(_constrained, batch), pages.sharded(_constrained)

  batch, pages = jax.lax.while_loop(unfinished, step, (batch, pages))
  drawn = Drawn(
    batch.rows.active,
    batch.count,
    batch.tokens,
    batch.logprobs,
    batch.step,
    pages.used,
    ~pages.has_room(batch.rows.active, batch.count, read),
  )
  return batch, pages, jax.tree.map(_constrained, drawn)


def _draw(batch: Batch, shared: Shared) -> Batch:
  """Draws one token for each active row and ends the rows it completes."""
  rows = batch.rows

  def uniform(key, count):
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.uniform(jax.random.fold_in(key, count))

  random = jax.vmap(uniform)(rows.key, batch.count)
  token, logprob = sample(batch.logits, random, rows.knobs)
  index = jnp.arange(token.shape[0])
  column = jnp.where(rows.active, batch.count, batch.tokens.shape[1])
  count = batch.count + rows.active
  ends = shared.stop_table[rows.stop, token] | (count >= rows.limit)
  return batch._replace(
    rows=rows._replace(active=rows.active & ~ends),
    tokens=batch.tokens.at[index, column].set(token, mode="drop"),
    logprobs=batch.logprobs.at[index, column].set(logprob, mode="drop"),
    count=count,
  )


def _advance(
  model: Llama,
  read: int,
  params: Params,
  batch: Batch,
  pages: Pages,
  shared: Shared,
  angles: Angles | None,
) -> tuple[Batch, Pages]:
  """Runs the tokens just drawn through the model: the next logits.

  `angles` are those of all positions, if they are known.
  """
  last = jnp.maximum(batch.count - 1, 0)
  token = jnp.take_along_axis(batch.tokens, last[:, None], axis=1)
  per_slot = batch.count.shape[0] // batch.length.shape[0]
  start = jnp.repeat(batch.length, per_slot)
  position = start + last
  _, prefix = _prefix_past(shared, batch.rows.prefix)
  if not (is_whole := pages.size >= batch.tokens.shape[1]):
    pages = pages.freed(batch.rows.active).taken(batch.rows.active, last)
  own = pages.past(last, start, read, is_whole)
  prefix_length = batch.length - batch.prompt.valid.sum((1, 2))
  prompt = batch.prompt._replace(positions=_behind(prefix_length, batch.prompt))
  hidden, new = model.apply(
    {"params": params},
    token,
    position[:, None],
    None,
    [prefix, prompt, own],
    angles and tuple(part[:, position] for part in angles),
  )
  batch = batch._replace(
    logits=model.apply({"params": params}, hidden[:, 0], method=Llama.logits),
    step=batch.step + 1,
  )
  return batch, pages.with_token(new, last)


def _behind(start: Int[Array, " P"], keys: KeyValues) -> Int[Array, "P S"]:
  """Positions of keys that stand one after another behind `start` tokens."""
  return start[:, None] + jnp.arange(keys.capacity)


def _prefix_past(
  shared: Shared, number: Int[Array, " B"]
) -> tuple[Int[Array, " B"], KeyValues]:
  """Length of each row's prefix, and the prefixes as that row may see them."""
  numbers = shared.prefix_number
  seen = numbers == number[:, None]
  # Each prefix stands together, and its positions count from its first key.
  column = jnp.arange(len(numbers))
  begins = jnp.diff(numbers, prepend=-2) != 0
  first = jax.lax.cummax(jnp.where(begins, column, 0))
  past = shared.prefix._replace(
    valid=seen[None], positions=(column - first)[None]
  )
  return seen.sum(-1), past
