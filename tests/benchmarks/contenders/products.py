"""The model's matrix products and nothing else: what no sampler can beat.

Each weight is multiplied once a pass, as in a step of a model. XLA and NumPy
try both layouts of the weights, and of the tokens where nothing is learnt; the
fastest call of all is what counts.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.contenders import race


class Sizes(NamedTuple):
  """Of a Llama: layers L, embedding D, heads N·H and K·H, feed-forward F."""

  layers: int
  embed: int
  queries: int
  keys: int
  mlp: int
  vocabulary: int

  @property
  def layer_weights(self) -> int:
    """Of all layers."""
    attention = 2 * self.embed * (self.queries + self.keys)
    return self.layers * (attention + 3 * self.embed * self.mlp)

  @property
  def head_weights(self) -> int:
    return self.embed * self.vocabulary


def read_sizes(folder: str) -> Sizes:
  """From the config.json of a Hugging Face folder."""
  config = json.loads((pathlib.Path(folder) / "config.json").read_text())
  heads = config["num_attention_heads"]
  head = config.get("head_dim") or config["hidden_size"] // heads
  return Sizes(
    config["num_hidden_layers"],
    config["hidden_size"],
    heads * head,
    config["num_key_value_heads"] * head,
    config["intermediate_size"],
    config["vocab_size"],
  )


def random_weights(sizes: Sizes) -> tuple[list[list[np.ndarray]], np.ndarray]:
  """Kernels [in, out] that neither enlarge nor shrink what they multiply."""
  rng = np.random.default_rng(0)

  def kernel(rows: int, columns: int) -> np.ndarray:
    values = rng.standard_normal((rows, columns), np.float32)
    return values / np.float32(np.sqrt(rows))

  layers = [
    [
      kernel(sizes.embed, sizes.queries),
      kernel(sizes.embed, sizes.keys),
      kernel(sizes.embed, sizes.keys),
      kernel(sizes.queries, sizes.embed),
      kernel(sizes.embed, sizes.mlp),
      kernel(sizes.embed, sizes.mlp),
      kernel(sizes.mlp, sizes.embed),
    ]
    for _ in range(sizes.layers)
  ]
  return layers, kernel(sizes.embed, sizes.vocabulary)


def forward(x, head_rows: int, layers, head) -> list:
  """Inputs, kernel and output of every product of a pass.

  Args:
    x: [rows, D].
    head_rows: of them, those that are projected to the vocabulary.
    layers: kernels of each layer.
    head: kernel of the head.
  """
  done = []

  def product(inputs, kernel):
    output = inputs @ kernel
    done.append((inputs, kernel, output))
    return output

  for q, k, v, o, gate, up, down in layers:
    product(x, k)
    product(x, v)
    x = product(product(x, q), o)
    product(x, up)
    x = product(product(x, gate), down)
  if head_rows:
    product(x[:head_rows], head)
  return done


def one_pass(x, head_rows: int, layers, head) -> list:
  """Outputs of all products; all, so that none is left out."""
  return [output for *_, output in forward(x, head_rows, layers, head)]


@dataclasses.dataclass(frozen=True)
class _Columns:
  """Tokens that are columns, [D, rows], and are multiplied as rows are."""

  lying: Any

  def __matmul__(self, kernel) -> _Columns:
    return _Columns(kernel @ self.lying)

  def __getitem__(self, rows: slice) -> _Columns:
    return _Columns(self.lying[:, rows])


def one_pass_of_columns(x, head_rows: int, layers, head) -> list:
  """The same of x [D, rows] and kernels that lie as [out, in]."""
  outputs = one_pass(_Columns(x), head_rows, layers, head)
  return [output.lying for output in outputs]


def three_passes(x, head_rows: int, layers, head) -> list:
  """… and the two products of each that a gradient takes."""
  out = []
  for inputs, kernel, output in forward(x, head_rows, layers, head):
    out += [inputs.T @ output, output @ kernel.T]
  return out


def transposed(passes):
  """The same of kernels that lie as [out, in]."""
  return lambda x, head_rows, *weights: passes(
    x, head_rows, *jax.tree.map(lambda kernel: kernel.T, weights)
  )


def seconds(passes, x, head_rows: int, weights, repeats: int) -> float:
  """Of the fastest call: what the machine can do when nothing disturbs it."""
  turned = jax.tree.map(lambda kernel: kernel.T.copy(), weights)
  took = []
  ways = [(passes, x, weights), (transposed(passes), x, turned)]
  if passes is one_pass:
    ways.append((one_pass_of_columns, x.T.copy(), turned))
  for work, tokens, lying in ways:
    compiled = jax.jit(work, static_argnums=1)
    arrays = jax.tree.map(jnp.asarray, (tokens, *lying))

    def with_xla(compiled=compiled, arrays=arrays):
      jax.block_until_ready(compiled(arrays[0], head_rows, *arrays[1:]))

    def with_numpy(work=work, tokens=tokens, lying=lying):
      work(tokens, head_rows, *lying)

    for call in (with_xla, with_numpy):
      call()
      took += [race.timed(call)[0] for _ in range(repeats)]
  return min(took)


def measure(job: race.Job) -> dict:
  """Seconds and GFLOP/s of each pass that the job names.

  A pass of the job has `rows`, `head_rows`, and whether it `learns`.
  """
  sizes = read_sizes(job["weights"])
  weights = random_weights(sizes)
  rng = np.random.default_rng(1)
  took, rates = [], []
  for one in job["passes"]:
    x = rng.standard_normal((one["rows"], sizes.embed), np.float32)
    passes = three_passes if one["learns"] else one_pass
    took.append(seconds(passes, x, one["head_rows"], weights, job["repeats"]))
    products = one["rows"] * sizes.layer_weights
    products += one["head_rows"] * sizes.head_weights
    flops = 2 * products * (3 if one["learns"] else 1)
    rates.append(flops / took[-1] / 1e9)
  return {"seconds": took, "gflops": rates, "peak_bytes": race.peak_bytes()}


def main() -> None:
  job = race.read_job()
  race.finish(job, measure(job))


if __name__ == "__main__":
  main()
