"""Believes: keeps what the passes agree on, throws the thinking away.

Writes distill/train.jsonl and distill/valid.jsonl (prompt and target) and
distill/rejected.jsonl (with the reason). Labels are not read.
"""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.curation.curate import curate
from s2d_jax.curation.curve import explain_empty
from s2d_jax.errors import UserError
from s2d_jax.stages import program, sample, setup
from s2d_jax.tasks.task import read_examples


@program.stage("curate")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Votes over the samples of the train and valid splits."""
  task = setup.task_of(config)
  prompts = setup.prompts_of(config, task)
  samples = [
    record
    for part in sorted(sample.samples_folder(config, workdir).glob("part-*"))
    for record in records.read(part)
  ]
  rejected, counts = [], {}
  for split in ("train", "valid"):
    examples = {
      example.id: example
      for example in read_examples(setup.examples_path(workdir, split))
    }

    def prompt(example_id, variant, examples=examples):
      text = task.text(examples[example_id], variant)
      return list(prompts["system1"].messages(text=text))

    accepted, dropped = curate(
      [record for record in samples if record["example_id"] in examples],
      list(examples),
      prompt,
      config.curation.min_margin,
      config.curation.min_agreement,
    )
    if not accepted:
      raise UserError(
        f"curation kept nothing of the {split} split;"
        f" {explain_empty(dropped, config.curation.min_agreement)}"
      )
    records.write(workdir / "distill" / f"{split}.jsonl", accepted)
    rejected += dropped
    counts[split] = len(accepted), len(accepted) + len(dropped)
  records.write(workdir / "distill" / "rejected.jsonl", rejected)
  return ", ".join(
    f"kept {kept} of {total} {split} inputs ({kept / total:.0%})"
    for split, (kept, total) in counts.items()
  )


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
