"""Makes the examples of a run: examples/{train,valid,test}.jsonl.

Looks at the chat template and measures prompts (config.too_long), so it needs
the model's small files, and no weights.
"""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.stages import lengths, program, setup
from s2d_jax.tasks.task import asked, in_variants


@program.stage("prepare")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Writes the task's examples; labels stay in there, for the evaluation."""
  task = setup.task_of(config)
  setup.check_chats(config, setup.base_without_weights(config))
  found = task.examples()
  splits = {split: found[split] for split in ("train", "valid", "test")}
  long = lengths.check_prompts(config, task, splits)
  for split, examples in splits.items():
    path = setup.examples_path(workdir, split)
    records.write(path, (example.to_record() for example in examples))
  lengths.remember(config, task, workdir, long)
  counts = ", ".join(f"{len(splits[split])} {split}" for split in splits)
  each = {len(asked(task, e)) for split in splits.values() for e in split}
  return f"{counts} examples{in_variants(each)}{lengths.summary(long)}"


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
