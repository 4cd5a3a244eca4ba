"""What int8 weights change of a model's predictions on a text.

python -m tests.benchmarks.int8_quality --model=smollm2-135m-instruct
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from typing import NamedTuple

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from s2d_jax import evaluation
from s2d_jax.checkpoints import pretrained
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.models import kernels
from s2d_jax.models.attention import until_end
from s2d_jax.models.llama import Llama
from s2d_jax.models.quantize import quantize_params
from s2d_jax.parallel.mesh import make_mesh

TEXT = pathlib.Path(evaluation.__file__).parent / "retention_text.txt"


class Quality(NamedTuple):
  """Of the predictions of int8 weights beside those of float weights."""

  tokens: int
  agreement: float  # share of the tokens with the same likeliest successor
  kl: float  # mean KL(float || int8), nats a token
  nats: float  # mean negative log-likelihood of the text, float
  nats_int8: float


def measure(
  model: Pretrained, text: str, window: int = 512, dtype: str = "float32"
) -> Quality:
  """Reads `text` in windows that do not overlap; of the last one, what is left.

  Args:
    model: with float weights.
    text: to read.
    window: tokens read at once.
    dtype: of the products, in both.
  """
  tokens = np.asarray(model.tokenizer(text)["input_ids"], np.int32)
  rounded = jax.jit(quantize_params)(model.params)
  log_probs = functools.partial(_log_probs, model.config, dtype)
  sums = np.zeros(4)
  predicted = 0
  for start in range(0, len(tokens), window):
    chunk = tokens[start : start + window]
    padded = np.zeros(window, np.int32)
    padded[: len(chunk)] = chunk
    there = np.arange(window) < len(chunk)
    sums += _compare(
      log_probs("float", model.params, padded, there),
      log_probs("int8", rounded, padded, there),
      padded,
      there,
    )
    predicted += len(chunk) - 1
  return Quality(predicted, *(float(x) for x in sums / predicted))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _log_probs(config, dtype, weights, params, tokens, there):
  way = {"float": kernels.Float, "int8": kernels.Int8}[weights]
  llama = Llama(config, way(dtype))
  variables = {"params": params}
  steps = jnp.arange(len(tokens))
  until = until_end(there[None])
  hidden, _ = llama.apply(variables, tokens[None], steps[None], until)
  logits = llama.apply(variables, hidden[0], method=Llama.logits)
  return jax.nn.log_softmax(logits)


@jax.jit
def _compare(float_scores, int8_scores, tokens, there):
  """Sums over the tokens that have a successor, in the order of `Quality`."""
  same = float_scores.argmax(-1) == int8_scores.argmax(-1)
  kl = (jnp.exp(float_scores) * (float_scores - int8_scores)).sum(-1)

  def nats(scores):
    return -jnp.take_along_axis(scores[:-1], tokens[1:, None], -1)[:, 0]

  each = jnp.stack([same[:-1], kl[:-1], nats(float_scores), nats(int8_scores)])
  return jnp.where(there[1:], each, 0).sum(-1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default="smollm2-135m-instruct")
  parser.add_argument("--text", default=str(TEXT), help="file of UTF-8 text")
  parser.add_argument("--window", type=int, default=512)
  parser.add_argument("--dtype", default="float32", help="of the products")
  args = parser.parse_args()
  text = epath.Path(args.text).read_text()
  model = pretrained.load(args.model, make_mesh())
  found = measure(model, text, args.window, args.dtype)
  print(
    f"{args.model}, {found.tokens} predicted tokens of {args.text}:\n"
    f"  same likeliest token  {found.agreement:.2%}\n"
    f"  KL(float || int8)     {found.kl:.6f} nats a token\n"
    f"  loss                  {found.nats:.4f} float,"
    f" {found.nats_int8:.4f} int8, nats a token"
  )


if __name__ == "__main__":
  main()
