"""Times samplers: ours and its peers, with the same weights, ids and lengths.

python -m tests.benchmarks.sampling --workload=B128
"""

from __future__ import annotations

import statistics
from typing import Any

from absl import flags

from s2d_jax.checkpoints.tokenizer import load_tokenizer
from tests.benchmarks import (
  agreement,
  command,
  processes,
  summary,
  weights,
  workloads,
)

_WORKLOAD = flags.DEFINE_enum(
  "workload",
  "B128",
  workloads.SAMPLING,
  "A: 16 prompts of 128 tokens x 1 sample x 64 new tokens. B128, B448: 8"
  " prompts of so many tokens x 8 samples x 64. C: 64 questions behind one"
  " few-shot prefix x 8 samples, until they end.",
)
_CONTENDERS = flags.DEFINE_list(
  "contenders",
  list(processes.SAMPLERS),
  f"Who is measured: some of {', '.join(processes.SAMPLERS)}.",
)
_READ_AT_ONCE = 512  # prompt tokens, in the bound


def passes(job: dict[str, Any]) -> list[dict[str, Any]]:
  """The products of a decode step, and of prompt tokens that are read."""
  rows, reading = job["rows"], min(_READ_AT_ONCE, prompt_tokens(job))
  return [
    {"rows": rows, "head_rows": rows, "learns": False},
    {"rows": reading, "head_rows": 0, "learns": False},
  ]


def prompt_tokens(job: dict[str, Any]) -> int:
  """That have to be read: what all prompts begin with only once."""
  shared = workloads.common_prefix(job["prompts"])
  return shared + sum(len(prompt) - shared for prompt in job["prompts"])


def bound(job, products: dict[str, Any], tokens: float) -> float:
  """Tokens a second, if there were nothing but matrix products.

  Args:
    job: the workload.
    products: the result of `contenders.products`.
    tokens: that are drawn; every row of every step draws one.
  """
  step, read = products["seconds"]
  steps = tokens / job["rows"]
  reads = prompt_tokens(job) / passes(job)[1]["rows"]
  return tokens / (steps * step + reads * read)


def main(_) -> None:
  names = command.contenders(_CONTENDERS.value, processes.SAMPLERS)
  folder = weights.folder(command.MODEL.value)
  job = command.job(folder) | workloads.sampling(
    _WORKLOAD.value, load_tokenizer(folder)
  )
  results = command.race(names, "sampling", processes.SAMPLERS, job)
  agreed = {}
  for name in list(results):
    if "s2d" not in results:
      break
    found = agreement.of_texts(
      results["s2d"]["greedy"], results[name]["greedy"]
    )
    if command.refused(agreement.check_texts, name, found, job["dtype"]):
      del results[name]
    else:
      agreed[name] = str(found)
  products = command.products(job, passes(job))
  most = None
  if products and results:
    counts = next(iter(results.values()))["counts"]
    tokens = statistics.median(c["tokens"] for c in counts)
    most = bound(job, products, tokens)
  shown = summary.figures(results, "tokens", most)
  for name, row in shown.items():
    row["greedy tokens that agree"] = agreed.get(name, "")
  command.report(
    f"sampling {_WORKLOAD.value}", job, shown, "tokens", most, results, products
  )


if __name__ == "__main__":
  command.start(main)
