"""Has the model itself pick the reply that agrees best with the others.

Universal self-consistency (Chen et al. 2023), for replies in free form, where
a vote finds no two that are equal. Writes selections/<method>.jsonl; does
nothing unless curation.select is "usc".
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation.curate import InputId
from s2d_jax.generation.sampling import Sampling
from s2d_jax.stages import program, sample, setup
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2.consistency import chosen, number_responses
from s2d_jax.system2.scheduler import Job
from s2d_jax.tasks.task import Example, Task


@program.stage("select", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Asks once for every input that was sampled."""
  if config.curation.select != "usc":
    return "not needed: answers are chosen without the model"
  task = setup.task_of(config)
  examples = sample.training_examples(workdir)
  replies = collections.defaultdict(list)
  for record in sample.read_samples(config, workdir):
    input_id = record["example_id"], record["variant"]
    replies[input_id].append(record["reply"])
  order = {input_id: number for number, input_id in enumerate(replies)}
  sort_key = lambda row: (order[row["example_id"], row["variant"]],)
  path, scope = _path(config, workdir), config.sampling.scope
  with RecordShards.merged_into(path, sort_key, scope) as shards:
    done = {(r["example_id"], r["variant"]) for r in shards.recovered}
    missing = {
      input_id: replies[input_id]
      for input_id in shards.share(list(replies))
      if input_id not in done
    }
    if missing:
      model = setup.base_model(config)
      choose(config, model, task, examples, missing, shards.append)
  choices = list(records.read(path))
  count = sum(choice["chosen"] is not None for choice in choices)
  return f"{count} of {len(choices)} inputs have a chosen reply"


def _path(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "selections" / f"{config.method}.jsonl"


def read_choices(
  config: ConfigDict, workdir: epath.Path
) -> dict[InputId, int | None]:
  """The number of the sample that was chosen, by input."""
  if config.curation.select != "usc":
    return {}
  return {
    (record["example_id"], record["variant"]): record["chosen"]
    for record in records.read(_path(config, workdir))
  }


def choose(
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  examples: Mapping[str, Example],
  replies: Mapping[InputId, Sequence[str]],
  write: Callable[[records.Record], None],
) -> None:
  """Asks the model, greedily, for the most consistent reply to each input."""
  jobs = collections.deque()
  for (example_id, variant), texts in replies.items():
    fields = dict(task.fields(examples[example_id], variant))
    fields["responses"] = number_responses(texts)
    jobs.append(Job((example_id, variant, "usc"), fields))
  scheduler = setup.scheduler(config, model, task, "usc", 1)
  with program.progress("select", len(jobs), "inputs") as progress:
    for result in scheduler.run(jobs, Sampling(temperature=0.0)):
      example_id, variant, _ = result.job.name
      count = len(replies[example_id, variant])
      write(
        {
          "example_id": example_id,
          "variant": variant,
          "reply": result.replies[0],
          "chosen": chosen(result.replies[0], count),
          "tokens": result.tokens,
        }
      )
      progress.advance(1, tokens=result.tokens)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
