"""The device side of generation: prefill, put_prompts, start_rows, decode.

A decode batch has S slots of R rows each. A slot holds one prompt, its rows
hold samples of that prompt: the rows share the prompt's keys and values. B =
S * R rows, room for C own tokens a row, V vocabulary; L, K, H as in the model.

A row's own keys stand in C columns in the order of its tokens, wherever the
other rows are. So a row may start at any step: one that has ended takes the
next sample of its slot's prompt while the others go on, and a slot whose rows
have all ended takes another prompt. In a batch of one shape a sample does not
depend, to the last bit, on when it was drawn.

Where layers are apart (`Llama.apart`), the caches of a batch are tuples with an
array a layer, without the axis L, and keys are turned: [B, K, H, C]. Where
tokens are columns (`Llama.by_column`), logits are [V, B] and [V, S].

On a mesh, slots with their rows are spread over its batch axes and key-value
heads over `tensor`; every program leaves a batch laid out as it found it.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt32

from s2d_jax.generation.sampling import sample
from s2d_jax.models.attention import KeyValues, until_end
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama, Params
from s2d_jax.models.rope import Angles, rope_angles
from s2d_jax.parallel import mesh as meshes


class Rows(NamedTuple):
  """What the host says of each row when its slot is filled."""

  active: Bool[Array, " B"]
  key: UInt32[Array, "B 2"]  # the sample's own random key
  limit: Int[Array, " B"]  # most tokens
  prefix: Int[Array, " B"]  # number of the shared prefix in front of the prompt
  stop: Int[Array, " B"]  # row of the stop table
  knobs: dict[str, Array]  # see `sampling.knobs`


class Batch(NamedTuple):
  """The state of a decode batch."""

  rows: Rows
  prompt: KeyValues  # [L, S, K, P, H], valid [S, 1, P]
  length: Int[Array, " S"]  # of prefix and prompt together
  first: Float[Array, "S V"]  # logits of the token behind the prompt
  keys: Any  # [L, B, K, C, H]
  values: Any
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


# Puts an array with these logical axes where it belongs.
Place = Callable[..., Array]

_CACHE = ("layers", "batch", "kv_heads", None, None)


def _axes(cache: Float[Array, "*L B K C H"]) -> tuple[str | None, ...]:
  """Logical axes of a cache, of all layers or of one."""
  return _CACHE[-cache.ndim :]


def _placed(place: Place, batch: Batch) -> Batch:
  """The one table of how a batch lies over a mesh."""
  by_row = lambda x: place(x, "batch", *[None] * (x.ndim - 1))
  cache = lambda tree: jax.tree.map(lambda x: place(x, *_axes(x)), tree)
  rows, prompt, length, first, keys, values, *fields, step = batch
  return Batch(
    jax.tree.map(by_row, rows),
    KeyValues(cache(prompt.keys), cache(prompt.values), by_row(prompt.valid)),
    by_row(length),
    by_row(first),
    cache(keys),
    cache(values),
    *map(by_row, fields),
    place(step),
  )


def _shared_placed(place: Place, shared: Shared) -> Shared:
  prefix, *fields = shared
  axes = (None if axis == "batch" else axis for axis in _CACHE)
  keys, values = (place(x, *axes) for x in prefix[:2])
  return Shared(
    KeyValues(keys, values, place(prefix.valid)), *map(place, fields)
  )


def _constrained(x: Array, *axes: str | None) -> Array:
  return nn.with_logical_constraint(x, axes or (None,) * x.ndim)


def _abstract_on(mesh: Mesh) -> Place:
  return lambda x, *axes: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=meshes.sharding(mesh, *axes)
  )


def abstract_batch(
  model: Llama, slots: int, rows: int, prompt: int, own: int, mesh: Mesh
) -> Batch:
  """Shapes and shardings of a batch, nothing allocated."""
  shapes = jax.eval_shape(lambda: _empty_batch(model, slots, rows, prompt, own))
  return _placed(_abstract_on(mesh), shapes)


def abstract_shared(
  config: ModelConfig, dtype, prefix: int, mesh: Mesh
) -> Shared:
  """Shapes and shardings of what rows share, with `prefix` tokens of it."""
  shape = (config.num_layers, 1, config.num_kv_heads, prefix, config.head_dim)
  keys = jax.ShapeDtypeStruct(shape, dtype)
  shared = Shared(
    KeyValues(keys, keys, jax.ShapeDtypeStruct((1, 1, 1), bool)),
    jax.ShapeDtypeStruct((prefix,), jnp.int32),
    jax.ShapeDtypeStruct((4, config.vocab_size), bool),
  )
  return _shared_placed(_abstract_on(mesh), shared)


def prefixes_apart(shared: Shared) -> Shared:
  """The same for a model whose layers are apart."""
  prefix = shared.prefix
  keys = tuple(prefix.keys.swapaxes(-1, -2))
  return shared._replace(
    prefix=prefix._replace(keys=keys, values=tuple(prefix.values))
  )


def empty_batch(
  model: Llama, slots: int, rows: int, prompt: int, own: int
) -> Batch:
  """A batch with nothing in it; `prompt` and `own` are lengths in tokens."""
  batch = _empty_batch(model, slots, rows, prompt, own)
  return _placed(_constrained, batch)


def _empty_batch(
  model: Llama, slots: int, rows: int, prompt: int, own: int
) -> Batch:
  config, dtype = model.config, model.cache_dtype
  batch = slots * rows
  zeros = lambda dtype=jnp.int32: jnp.zeros(batch, dtype)

  def logits(count: int):
    shape = count, config.vocab_size
    return jnp.zeros(shape[::-1] if model.by_column else shape, jnp.float32)

  def caches(entries: int, length: int):
    """Of keys and of values."""
    shape = entries, config.num_kv_heads, length, config.head_dim
    layers = range(config.num_layers)
    if not model.apart:
      return [jnp.zeros((len(layers), *shape), dtype) for _ in range(2)]
    turned = entries, config.num_kv_heads, config.head_dim, length
    return [tuple(jnp.zeros(s, dtype) for _ in layers) for s in (turned, shape)]

  keys, values = caches(batch, own)

  return Batch(
    rows=Rows(
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
    prompt=KeyValues(
      *caches(slots, prompt), jnp.zeros((slots, 1, prompt), bool)
    ),
    length=jnp.zeros(slots, jnp.int32),
    first=logits(slots),
    keys=keys,
    values=values,
    logits=logits(batch),
    count=zeros(),
    tokens=jnp.zeros((batch, own), jnp.int32),
    logprobs=jnp.zeros((batch, own), jnp.float32),
    step=jnp.zeros((), jnp.int32),
  )


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
  return Prefilled(prompt, logits, before + length)


def put_prompts(
  model: Llama,
  batch: Batch,
  prefilled: Prefilled,
  slots: Int[Array, " N"],
  source: Int[Array, " N"],
) -> Batch:
  """Puts prompt `source[i]` into slot `slots[i]`; out of range means nowhere.

  The slots are distinct, and none of their rows is active.
  """
  length = prefilled.prompt.valid.shape[-1]
  put = lambda old, new: old.at[slots].set(new[source], mode="drop")

  def put_layers(old, new):  # [*L, S, K, P, H]
    new = new[..., source, :, :, :]
    return old.at[..., slots, :, :length, :].set(new, mode="drop")

  def put_turned(old, new):  # [S, K, H, P] ← [Q, K, P, H]
    new = new.swapaxes(-1, -2)[source]
    return old.at[slots, :, :, :length].set(new, mode="drop")

  if model.apart:
    keys = tuple(map(put_turned, batch.prompt.keys, prefilled.prompt.keys))
    values = tuple(
      map(put_layers, batch.prompt.values, prefilled.prompt.values)
    )
  else:
    keys = put_layers(batch.prompt.keys, prefilled.prompt.keys)
    values = put_layers(batch.prompt.values, prefilled.prompt.values)

  if model.by_column:
    new = prefilled.logits[source].T
    first = batch.first.at[:, slots].set(new, mode="drop")
  else:
    first = put(batch.first, prefilled.logits)

  room = batch.prompt.valid.shape[-1] - length
  valid = jnp.pad(prefilled.prompt.valid, ((0, 0), (0, 0), (0, room)))
  filled = batch._replace(
    prompt=KeyValues(keys, values, put(batch.prompt.valid, valid)),
    length=put(batch.length, prefilled.length),
    first=first,
  )
  return _placed(_constrained, filled)


def start_rows(
  model: Llama, batch: Batch, fresh: Bool[Array, " B"], rows: Rows
) -> Batch:
  """Starts a sample of its slot's prompt in each fresh row.

  `rows` describes all B rows; the fresh ones are read.
  """
  per_slot = batch.count.shape[0] // batch.length.shape[0]

  def put(old, new):
    mask = fresh.reshape(-1, *[1] * (old.ndim - 1))
    return jnp.where(mask, new, old)

  by_row = 1 if model.by_column else 0
  logits = jnp.where(
    jnp.expand_dims(fresh, 1 - by_row),
    jnp.repeat(batch.first, per_slot, axis=by_row),
    batch.logits,
  )
  started = batch._replace(
    rows=jax.tree.map(put, batch.rows, rows),
    logits=logits,
    count=put(batch.count, 0),
  )
  return _placed(_constrained, started)


def lengthen_prompts(model: Llama, batch: Batch, more: int) -> Batch:
  """Gives every slot room for `more` prompt tokens."""
  keys, values, valid = batch.prompt
  longer = functools.partial(_longer, more=more)
  prompt = KeyValues(
    longer(keys, _of_keys(model)), longer(values, -2), longer(valid, -1)
  )
  return _placed(_constrained, batch._replace(prompt=prompt))


def lengthen_own(model: Llama, batch: Batch, more: int) -> Batch:
  """Gives every row room for `more` own tokens."""
  longer = functools.partial(_longer, more=more)
  batch = batch._replace(
    keys=longer(batch.keys, _of_keys(model)),
    values=longer(batch.values, -2),
    tokens=longer(batch.tokens, -1),
    logprobs=longer(batch.logprobs, -1),
  )
  return _placed(_constrained, batch)


def _of_keys(model: Llama) -> int:
  """The axis of a cache of keys along which tokens lie."""
  return -1 if model.apart else -2


def _longer(tree, axis: int, more: int):
  """Every array padded behind."""

  def pad(x: Array) -> Array:
    room = [(0, 0)] * x.ndim
    room[axis] = (0, more)
    return jnp.pad(x, room)

  return jax.tree.map(pad, tree)


def decode(
  model: Llama,
  params: Params,
  batch: Batch,
  shared: Shared,
  keep: Bool[Array, " B"],
  more: Bool[Array, " S"],
  max_steps: Int[Array, ""],
  wanted: Int[Array, ""],
) -> tuple[Batch, Drawn]:
  """Draws tokens until `wanted` rows more can be filled, or for `max_steps`.

  There must be room for so many steps behind the longest row.

  A row that has ended can be filled if there are `more` samples to draw of its
  slot's prompt, or if its whole slot is free for another one. Rows with `keep`
  False are ended first (the host saw a stop string in them).
  """
  slots = batch.length.shape[0]
  angles = _all_angles(model.config, batch, shared) if model.apart else None
  active = batch.rows.active & keep
  batch = batch._replace(rows=batch.rows._replace(active=active))
  last_step = batch.step + max_steps

  def free_rows(batch: Batch):
    idle = ~batch.rows.active.reshape(slots, -1)
    return (idle & (more[:, None] | idle.all(-1, keepdims=True))).sum()

  enough = free_rows(batch) + wanted

  def unfinished(batch: Batch):
    return (
      (batch.step < last_step)
      & batch.rows.active.any()
      & (free_rows(batch) < enough)
    )

  def step(batch: Batch) -> Batch:
    batch = _draw(batch, shared, 0 if model.by_column else -1)
    batch = _advance(model, params, batch, shared, angles)
    return _placed(_constrained, batch)

  batch = jax.lax.while_loop(unfinished, step, batch)
  drawn = Drawn(
    batch.rows.active, batch.count, batch.tokens, batch.logprobs, batch.step
  )
  return batch, jax.tree.map(_constrained, drawn)


def _draw(batch: Batch, shared: Shared, axis: int) -> Batch:
  """Draws one token for each active row and ends the rows it completes.

  `axis` is that of the vocabulary in the logits.
  """
  rows = batch.rows

  def uniform(key, count):
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.uniform(jax.random.fold_in(key, count))

  random = jax.vmap(uniform)(rows.key, batch.count)
  token, logprob = sample(batch.logits, random, rows.knobs, axis)
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


def _all_angles(config: ModelConfig, batch: Batch, shared: Shared) -> Angles:
  """Of every position that a row of the batch may reach.

  Where layers are apart, XLA would compute sines in every one of them.
  """
  parts = shared.prefix_number, batch.prompt.valid, batch.tokens
  most = sum(part.shape[-1] for part in parts)
  return rope_angles(config, jnp.arange(most)[:, None])


def _advance(
  model: Llama,
  params: Params,
  batch: Batch,
  shared: Shared,
  angles: Angles | None,
) -> Batch:
  """Runs the tokens just drawn through the model: the next logits.

  `angles` are those of all positions, if they are known.
  """
  last = jnp.maximum(batch.count - 1, 0)
  token = jnp.take_along_axis(batch.tokens, last[:, None], axis=1)
  per_slot = batch.count.shape[0] // batch.length.shape[0]
  position = jnp.repeat(batch.length, per_slot) + last
  own = jnp.arange(batch.tokens.shape[1]) < last[:, None]
  _, prefix = _prefix_past(shared, batch.rows.prefix)
  cache = KeyValues(batch.keys, batch.values, own[:, None])
  hidden, new = model.apply(
    {"params": params},
    token,
    position[:, None],
    None,
    [prefix, batch.prompt, cache],
    angles and tuple(part[position] for part in angles),
  )
  hidden = hidden[..., 0] if model.by_column else hidden[:, 0]
  keys, values = _write(model, cache, new, last)
  return batch._replace(
    keys=keys,
    values=values,
    logits=model.apply({"params": params}, hidden, method=Llama.logits),
    step=batch.step + 1,
  )


def _write(
  model: Llama, cache: KeyValues, new: KeyValues, column: Int[Array, " B"]
) -> tuple[Any, Any]:
  """Puts each row's new keys and values into its column, in place."""
  caches = jax.tree.map(lambda x: nn.logical_to_mesh_axes(_axes(x)), cache.keys)
  rows = nn.logical_to_mesh_axes(("batch",))

  def local(turned: bool):
    return jax.shard_map(
      functools.partial(_write_rows, turned),
      in_specs=(caches, caches, rows),
      out_specs=caches,
    )

  return (
    local(model.apart)(cache.keys, new.keys, column),
    local(False)(cache.values, new.values, column),
  )


def _write_rows(turned: bool, cache, new, column: Int[Array, " B"]):
  """A loop over the rows of a device.

  For a scatter, XLA for TPUs would lay the whole cache out anew; for rows that
  are not flat it may find no layout at all. Layers that are apart share the
  loop: one for each would take longer than its copies.

  Args:
    turned: whether columns are the last axis.
    cache: [*L, B, K, C, H], or a tuple with one of each layer.
    new: [*L, B, K, 1, H], likewise.
    column: of each row, what is written.
  """
  flat = jax.tree.map(
    lambda x: jnp.moveaxis(x, -4, 0).reshape(x.shape[-4], -1), new
  )

  def put(row, cache):
    def put_layers(cache, new, flat):
      *layers, _, heads, length, size = new.shape
      token = flat[row].reshape(*layers, 1, heads, length, size)
      place = (0, column[row]) if turned else (column[row], 0)
      at = *[0] * len(layers), row, 0, *place
      return jax.lax.dynamic_update_slice(cache, token, at)

    return jax.tree.map(put_layers, cache, new, flat)

  return jax.lax.fori_loop(0, len(column), put, cache)


def _prefix_past(
  shared: Shared, number: Int[Array, " B"]
) -> tuple[Int[Array, " B"], KeyValues]:
  """Length of each row's prefix, and the prefixes as that row may see them."""
  seen = shared.prefix_number == number[:, None]
  return seen.sum(-1), shared.prefix._replace(valid=seen[None])
