"""The perplexity of a text."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.evaluation.hidden_states import read
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase


class Perplexity(NamedTuple):
  value: float
  tokens: int  # predicted


def perplexity(
  model: Llama,
  params: Params,
  tokenizer: PreTrainedTokenizerBase,
  text: str,
  window: int = 512,
  rows: int = 1,
) -> Perplexity:
  """exp of the mean negative log-likelihood of a text's tokens, in nats.

  The text is cut into windows that do not overlap; the first token of a window
  has nothing before it and is not predicted.

  Args:
    model: its dtype is that of the products.
    params: of the model.
    tokenizer: of the model.
    text: to read.
    window: tokens of a window, at most the model's context.
    rows: windows scored at once; on a mesh, a multiple of the copies of the
      model.

  Raises:
    UserError: the text is shorter than two tokens.
  """
  window = min(window, model.config.max_context)
  tokens = np.asarray(tokenizer(text)["input_ids"], np.int32)
  if len(tokens) < 2:
    raise UserError(
      f"a text of {len(tokens)} tokens has no perplexity; give a longer one in"
      " config.retention.text"
    )
  starts = range(0, len(tokens), window)
  padded = np.zeros((-(-len(starts) // rows) * rows, window), np.int32)
  lengths = np.zeros(len(padded), np.int32)
  for row, start in enumerate(starts):
    chunk = tokens[start : start + window]
    padded[row, : len(chunk)], lengths[row] = chunk, len(chunk)
  total = sum(
    float(
      _log_likelihood(
        model, params, padded[i : i + rows], lengths[i : i + rows]
      )
    )
    for i in range(0, len(padded), rows)
  )
  predicted = len(tokens) - len(starts)
  return Perplexity(math.exp(-total / predicted), predicted)


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihood(
  model: Llama,
  params: Params,
  tokens: Int[Array, "B T"],
  length: Int[Array, " B"],
) -> Float[Array, ""]:
  """Of tokens 1 to length, each given those before it; padding behind them."""
  hidden = read(model, params, tokens, length)
  logits = model.apply({"params": params}, hidden[:, :-1], method=Llama.logits)
  scores = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)[..., 0]
  is_token = jnp.arange(1, tokens.shape[1]) < length[:, None]
  return jnp.where(is_token, chosen, 0.0).sum()
