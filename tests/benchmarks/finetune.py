"""Times fine-tuning: ours and its peers, with the same weights and examples.

python -m tests.benchmarks.finetune --workload=8x128
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
  "8x128",
  workloads.FINETUNE,
  "8x128, 2x512: so many rows of so many tokens a step, their second half is"
  " learnt. quickstart: an epoch of what the quickstart curated.",
)
_CONTENDERS = flags.DEFINE_list(
  "contenders",
  list(processes.TRAINERS),
  f"Who is measured: some of {', '.join(processes.TRAINERS)}.",
)
_REMAT = flags.DEFINE_string(
  "remat", "", "What our backward pass recomputes; default: as in config.py."
)


def main(_) -> None:
  names = command.contenders(_CONTENDERS.value, processes.TRAINERS)
  folder = weights.folder(command.MODEL.value)
  job = command.job(folder) | workloads.finetune(
    _WORKLOAD.value, load_tokenizer(folder)
  )
  job["learning_rate"] = 1e-5
  if _REMAT.value:
    job["settings"] = {"remat": _REMAT.value}
  results = command.race(names, "finetune", processes.TRAINERS, job)
  for name in list(results) if "s2d" in results else []:
    losses = results["s2d"]["start_loss"], results[name]["start_loss"]
    if command.refused(agreement.check_losses, name, *losses, job["dtype"]):
      del results[name]
  products = command.products(job, bounds.finetune_passes(job))
  unit = "target_tokens" if _WORKLOAD.value == "quickstart" else "tokens"
  most = bounds.finetune(job, products["seconds"], unit) if products else None
  shown = summary.figures(results, unit, most)
  for name, row in shown.items():
    losses = results[name]["start_loss"], results[name]["end_loss"]
    row["loss"] = "{:.4f} → {:.4f}".format(*losses)
  title = f"fine-tune {_WORKLOAD.value}"
  command.report(title, job, shown, unit, most, results, products)


if __name__ == "__main__":
  command.start(main)
