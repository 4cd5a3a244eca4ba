"""What a fine-tune minimises, and the gradient of it.

Either the negative log-likelihood of given targets, or how far the model is
from its teacher at each token of its own replies.

Axis letters: A micro-batches, B rows, T tokens, D embedding, M target slots,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Literal, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s2d_jax.models.kernels import STAND_INS
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.training.packing import OnPolicyRows, PackedRows

Objective = Literal["nll", "kl"]

_LOGITS_BYTES = 2**28  # of a model's float32 logits, on a device at once


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
  hidden = _at_targets(model, variables, rows)

  def of_chunk(hidden, token, weight):
    logits = model.apply(variables, hidden, method=Llama.logits)
    # A masked sum picks the target's logit where a gather would, but its
    # gradient is not a scatter into an array as large as the logits.
    is_token = jnp.arange(logits.shape[-1]) == token[..., None]
    chosen = jnp.where(is_token, logits, 0).sum(-1)
    losses = jax.nn.logsumexp(logits, axis=-1) - chosen
    return (losses * weight).sum()

  slots = hidden, rows.target_token, rows.target_weight
  return _sum_of_chunks(of_chunk, slots, model.config.vocab_size)


class Teacher(NamedTuple):
  """A model that is learnt from, and does not learn."""

  model: Llama
  params: Params


def teacher_loss(
  model: Llama,
  variables: dict[str, Params],
  rows: OnPolicyRows,
  teacher: Teacher,
) -> Float[Array, ""]:
  """KL(student || teacher) in nats, summed over the targets of `rows`.

  A target is a token of a reply that the student has drawn. There both have a
  distribution of the next token: the student behind its own prompt, the teacher
  behind another, each behind the same part of the reply. The gradient goes
  through the student's distribution, not through the drawing (GKD, Agarwal et
  al. 2024). A sum, as `target_loss`.
  """
  frozen = {"params": teacher.params}
  hidden = _at_targets(model, variables, rows.student)
  taught = _at_targets(teacher.model, frozen, rows.teacher)

  def of_chunk(hidden, taught, weight):
    logits = model.apply(variables, hidden, method=Llama.logits)
    wanted = teacher.model.apply(frozen, taught, method=Llama.logits)
    return (reverse_kl(logits, wanted) * weight).sum()

  slots = hidden, taught, rows.student.target_weight
  # Of each model's logits a device holds as many as it does of one: with half
  # of them the gradient of the head would be added up twice as often.
  return _sum_of_chunks(of_chunk, slots, model.config.vocab_size)


@jax.custom_vjp
def reverse_kl(
  student: Float[Array, "*B V"], teacher: Float[Array, "*B V"]
) -> Float[Array, "*B"]:
  """KL(q || p) in nats of the distributions with these logits, q the student's.

  Its gradient by logit z of the student is q · (log q − log p − KL(q || p)). It
  is taken so, not by the chain rule, which would add and subtract q: where the
  two are close, little more than rounding would be left. The teacher has none.
  """
  return _reverse_kl(student, teacher)[0]


def _reverse_kl(student, teacher):
  log_q, log_p = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
  q, ratio = jnp.exp(log_q), log_q - log_p
  # q and p both add up to 1. With them no term is negative, so that rounding
  # leaves no sum below zero.
  return (q * ratio - (q - jnp.exp(log_p))).sum(-1), q, ratio


def _reverse_kl_forward(student, teacher):
  kl, _, _ = _reverse_kl(student, teacher)
  return kl, (student, teacher)


def _reverse_kl_gradient(logits, gradient):
  # Computed anew from the logits: nothing else of their size is kept.
  kl, q, ratio = _reverse_kl(*logits)
  return gradient[..., None] * q * (ratio - kl[..., None]), None


reverse_kl.defvjp(_reverse_kl_forward, _reverse_kl_gradient)


def _at_targets(
  model: Llama, variables: dict[str, Params], rows: PackedRows
) -> Float[Array, "B M D"]:
  """Hidden states that predict the targets."""
  hidden, _ = model.apply(variables, rows.tokens, rows.positions, rows.until)
  # Gathered before the projection: the logits are [B, M, V], not [B, T, V].
  return jnp.take_along_axis(hidden, rows.target_index[..., None], axis=1)


def _sum_of_chunks(
  of_chunk: Callable[..., Float[Array, ""]],
  slots: tuple[Float[Array, "B M ..."], ...],
  vocabulary: int,
) -> Float[Array, ""]:
  """`of_chunk(*slots)`, of some slots at a time, added up.

  Args:
    of_chunk: a sum over slots.
    slots: fields of all.
    vocabulary: logits of a slot.
  """
  chunks = _chunks(*slots[-1].shape, vocabulary)
  if chunks == 1:
    return of_chunk(*slots)

  # Each chunk's logits are computed again in the backward pass, not kept.
  @jax.checkpoint
  def add(total, chunk):
    return total + of_chunk(*chunk), None

  def split(field):  # [B, M, …] → [chunks, B, M / chunks, …]
    batch, count, *rest = field.shape
    field = field.reshape(batch, chunks, count // chunks, *rest)
    return jnp.moveaxis(field, 1, 0)

  return jax.lax.scan(add, jnp.float32(0), jax.tree.map(split, slots))[0]


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
  model: Llama,
  params: Params,
  frozen: Params,
  rows: PackedRows | OnPolicyRows,
  summed: Callable[..., Float[Array, ""]] = target_loss,
) -> tuple[Float[Array, ""], Params]:
  """Loss a target token, and its gradient, of rows [A, B, …].

  Each micro-batch is divided by the targets of all of them, so that what is
  added up is exactly the batch's mean, however the targets are spread.

  Args:
    model: the network.
    params: what is trained.
    frozen: the other parameters, if any.
    rows: packed rows.
    summed: from model, variables and rows [B, …] to the loss, summed over their
      targets.

  Returns:
    The loss, and a tree like `params`. Of one micro-batch, the gradients of
    the layers' kernels are in the dtype of the products; sums are float32.
  """
  targets = rows.target_weight.sum()
  flat = traverse_util.flatten_dict(params)
  stand_ins = model.kernels.stand_ins(flat)
  plain = {path: leaf for path, leaf in flat.items() if path not in stand_ins}
  whole = traverse_util.flatten_dict(joined(params, frozen))

  def loss(learnt, micro):
    plain, stand_ins = learnt
    variables = {
      "params": traverse_util.unflatten_dict(whole | plain),
      STAND_INS: traverse_util.unflatten_dict(stand_ins),
    }
    return summed(model, variables, micro) / targets

  def loss_and_grads(micro):
    value, grads = jax.value_and_grad(loss)((plain, stand_ins), micro)
    return value, traverse_util.unflatten_dict(grads[0] | grads[1])

  if len(rows.target_weight) == 1:  # no second copy of the gradients to add to
    return loss_and_grads(jax.tree.map(lambda field: field[0], rows))

  def add(total, micro):
    return jax.tree.map(jnp.add, total, loss_and_grads(micro)), None

  zero = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, jnp.float32), (targets, params)
  )
  return jax.lax.scan(add, zero, rows)[0]
