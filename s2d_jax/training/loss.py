"""Negative log-likelihood of the targets, and its gradient.

Axis letters: A micro-batches, B rows, T tokens, D embedding, M target slots,
V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s2d_jax.models.llama import Llama, Params
from s2d_jax.training.packing import Rows


def target_loss(model: Llama, params: Params, rows: Rows) -> Float[Array, ""]:
  """Negative log-likelihood in nats, summed over the targets of `rows`.

  A sum, not a mean: sums over parts of a batch add up to that of the whole,
  to be divided once by `rows.target_weight.sum()`, the number of targets.
  """
  hidden, _ = model.apply(
    {"params": params}, rows.tokens, rows.positions, rows.segments
  )
  # Gathered before the projection: the logits are [B, M, V], not [B, T, V].
  hidden = jnp.take_along_axis(hidden, rows.target_index[..., None], axis=1)
  logits = model.apply({"params": params}, hidden, method=Llama.logits)
  # A masked sum picks the target's logit where a gather would, but its
  # gradient is not a scatter into an array as large as the logits.
  is_token = jnp.arange(logits.shape[-1]) == rows.target_token[..., None]
  chosen = jnp.where(is_token, logits, 0).sum(-1)
  losses = jax.nn.logsumexp(logits, axis=-1) - chosen
  return (losses * rows.target_weight).sum()


def mean_loss_and_grads(
  model: Llama, params: Params, rows: Rows
) -> tuple[Float[Array, ""], Params]:
  """Loss a target token, and its gradient, of rows [A, B, …].

  Each micro-batch is divided by the targets of all of them, so that what is
  added up is exactly the batch's mean, however the targets are spread.
  """
  targets = rows.target_weight.sum()
  loss_and_grads = jax.value_and_grad(
    lambda params, micro: target_loss(model, params, micro) / targets
  )
  micro_batches = len(rows.tokens)
  if micro_batches == 1:  # no second copy of the gradients to add to
    return loss_and_grads(params, jax.tree.map(lambda field: field[0], rows))

  def add(total, micro):
    part = loss_and_grads(params, micro)
    return jax.tree.map(jnp.add, total, part), None

  zero = jax.tree.map(jnp.zeros_like, (targets, params))
  return jax.lax.scan(add, zero, rows)[0]
