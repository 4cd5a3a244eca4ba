"""The hidden states of texts that stand padded in rows."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s2d_jax.models.attention import until_end
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params


def read(
  model: Llama,
  params: Params,
  tokens: Int[Array, "B T"],
  lengths: Int[Array, " B"],
) -> Float[Array, "B T D"]:
  """Has a model read B texts, each from its beginning.

  Args:
    model: the network.
    params: of the model.
    tokens: T of each text, those behind its end of no effect.
    lengths: of the texts.
  """
  steps = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  is_token = steps < lengths[:, None]
  hidden, _ = model.apply(
    {"params": params}, tokens, steps, until_end(is_token)
  )
  return hidden
