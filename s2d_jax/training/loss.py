"""Negative log-likelihood of the targets, and its gradient.

Axis letters: A micro-batches, B rows, T tokens, D embedding, M target slots,
V vocabulary.
"""

from __future__ import annotations

import math

from flax import traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s2d_jax.models.kernels import STAND_INS
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.training.packing import PackedRows

_LOGITS_BYTES = 2**28  # of float32 logits that a device holds at once


def joined(params: Params, frozen: Params) -> Params:
  """The whole tree, of what is trained and what is not."""
  flatten = traverse_util.flatten_dict
  return traverse_util.unflatten_dict(flatten(frozen) | flatten(params))


def target_loss(
  model: Llama, variables: dict[str, Params], rows: PackedRows
) -> Float[Array, ""]:
  """Negative log-likelihood in nats, summed over the targets of `rows`.

  A sum, not a mean: sums over parts of a batch add up to that of the whole,
  to be divided once by `rows.target_weight.sum()`, the number of targets.
  """
  hidden, _ = model.apply(variables, rows.tokens, rows.positions, rows.until)
  # Gathered before the projection: the logits are [B, M, V], not [B, T, V].
  hidden = jnp.take_along_axis(hidden, rows.target_index[..., None], axis=1)
  slots = hidden, rows.target_token, rows.target_weight
  chunks = _chunks(*rows.target_token.shape, model.config.vocab_size)
  if chunks == 1:
    return _chunk_loss(model, variables, *slots)

  # Each chunk's logits are computed again in the backward pass, not kept.
  @jax.checkpoint
  def add(total, chunk):
    return total + _chunk_loss(model, variables, *chunk), None

  def split(field):  # [B, M, …] → [chunks, B, M / chunks, …]
    batch, count, *rest = field.shape
    field = field.reshape(batch, chunks, count // chunks, *rest)
    return jnp.moveaxis(field, 1, 0)

  return jax.lax.scan(add, jnp.float32(0), jax.tree.map(split, slots))[0]


def _chunk_loss(
  model: Llama,
  variables: dict[str, Params],
  hidden: Float[Array, "B M D"],
  token: Int[Array, "B M"],
  weight: Float[Array, "B M"],
) -> Float[Array, ""]:
  logits = model.apply(variables, hidden, method=Llama.logits)
  # A masked sum picks the target's logit where a gather would, but its
  # gradient is not a scatter into an array as large as the logits.
  is_token = jnp.arange(logits.shape[-1]) == token[..., None]
  chosen = jnp.where(is_token, logits, 0).sum(-1)
  losses = jax.nn.logsumexp(logits, axis=-1) - chosen
  return (losses * weight).sum()


def _chunks(rows: int, slots: int, vocabulary: int) -> int:
  """Into how many parts the target slots of a row are cut.

  As few as keep a device's float32 logits within `_LOGITS_BYTES`.
  """
  sizes = jax.sharding.get_abstract_mesh().shape
  devices = math.prod(sizes.values())
  whole = 4 * rows * slots * vocabulary / devices
  enough = (n for n in range(1, slots) if slots % n == 0)
  return next((n for n in enough if whole / n <= _LOGITS_BYTES), slots)


def mean_loss_and_grads(
  model: Llama, params: Params, frozen: Params, rows: PackedRows
) -> tuple[Float[Array, ""], Params]:
  """Loss a target token, and its gradient, of rows [A, B, …].

  Each micro-batch is divided by the targets of all of them, so that what is
  added up is exactly the batch's mean, however the targets are spread.

  Args:
    model: the network.
    params: what is trained.
    frozen: the other parameters, if any.
    rows: packed rows.

  Returns:
    The loss, and a tree like `params`. Of one micro-batch, the gradients of
    the layers' kernels are in the dtype of the products; sums are float32.
  """
  targets = rows.target_weight.sum()
  flat = traverse_util.flatten_dict(params)
  stand_ins = model.kernels.stand_ins(flat)
  plain = {path: leaf for path, leaf in flat.items() if path not in stand_ins}
  whole = traverse_util.flatten_dict(joined(params, frozen))

  def loss(learnt, micro: PackedRows):
    plain, stand_ins = learnt
    variables = {
      "params": traverse_util.unflatten_dict(whole | plain),
      STAND_INS: traverse_util.unflatten_dict(stand_ins),
    }
    return target_loss(model, variables, micro) / targets

  def loss_and_grads(micro: PackedRows):
    value, grads = jax.value_and_grad(loss)((plain, stand_ins), micro)
    return value, traverse_util.unflatten_dict(grads[0] | grads[1])

  if len(rows.tokens) == 1:  # no second copy of the gradients to add to
    return loss_and_grads(jax.tree.map(lambda field: field[0], rows))

  def add(total, micro):
    return jax.tree.map(jnp.add, total, loss_and_grads(micro)), None

  zero = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, jnp.float32), (targets, params)
  )
  return jax.lax.scan(add, zero, rows)[0]
