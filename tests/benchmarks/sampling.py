"""Times samplers: ours and its peers, with the same weights, ids and lengths.

python -m tests.benchmarks.sampling --workload=B128
"""

from __future__ import annotations

from absl import flags

from s2d_jax.checkpoints.tokenizer import load_tokenizer
from tests.benchmarks import (
  agreement,
  bounds,
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
  products = command.products(job, bounds.sampling_passes(job))
  most = None
  if products and results:
    most = bounds.sampling(job, products["seconds"], bounds.drawn(results))
  shown = summary.figures(results, "tokens", most)
  for name, row in shown.items():
    row["greedy tokens that agree"] = agreed.get(name, "")
  command.report(
    f"sampling {_WORKLOAD.value}", job, shown, "tokens", most, results, products
  )


if __name__ == "__main__":
  command.start(main)
