"""Thinks: n passes of the method over every unlabelled input.

Each pass is appended to samples/<method>/ when it ends; a stage that was
killed goes on with the passes that are missing, and draws them as it would
have drawn them before.
"""

from __future__ import annotations

from etils import epath
import jax
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.progress import Progress
from s2d_jax.stages import program, setup
from s2d_jax.system2.scheduler import Job, Result
from s2d_jax.tasks.task import Example, Task, read_examples


@program.stage("sample")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Samples the train and valid splits; curation votes over the answers."""
  task = setup.task_of(config)
  examples = {
    example.id: example
    for split in ("train", "valid")
    for example in read_examples(setup.examples_path(workdir, split))
  }
  folder = samples_folder(config, workdir)
  part = f"part-{jax.process_index():05d}-of-{jax.process_count():05d}.jsonl"
  with records.Appender(folder / part) as out:
    jobs = [
      job
      for example in examples.values()
      for variant in task.variants
      for job in passes(task, example, variant, config.sampling.n)
    ]
    done = {_name(record) for record in out.recovered}
    missing = [job for job in jobs if job.name not in done]
    if missing:
      _sample(config, task, examples, missing, out)
  return f"{len(jobs)} passes of {config.method} ({len(done)} were there)"


def samples_folder(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "samples" / config.method


def passes(task: Task, example: Example, variant: str, n: int) -> list[Job]:
  """n passes over one input, each with a name, and so a key, of its own."""
  text = task.text(example, variant)
  return [Job((example.id, variant, index), text) for index in range(n)]


def _record(task: Task, example: Example, result: Result) -> records.Record:
  _, variant, sample = result.job.name
  steps = [
    {
      "prompt": step.prompt,
      "text": step.completion.text,
      "tokens": len(step.completion.tokens),
      "logprob": round(step.completion.logprob, 4),
      "finish": step.completion.finish_reason,
    }
    for step in result.steps
  ]
  return {
    "example_id": example.id,
    "variant": variant,
    "sample": sample,
    "steps": steps,
    "answer": task.answer(example, result.reply.text),
  }


def _name(record: records.Record) -> tuple[str, str, int]:
  return record["example_id"], record["variant"], record["sample"]


def _sample(config, task, examples: dict[str, Example], jobs, out) -> None:
  model = setup.base_model(config.model.name)
  scheduler = setup.scheduler(
    config,
    model,
    setup.prompts_of(config, task),
    setup.method_of(config),
    setup.sampling_of(config),
    config.sampling.n,
  )
  answered, tokens = 0, 0
  with Progress("sample", len(jobs), "passes") as progress:
    for count, result in enumerate(scheduler.run(jobs), start=1):
      record = _record(task, examples[result.job.name[0]], result)
      out.append(record)
      answered += record["answer"] is not None
      tokens += sum(step["tokens"] for step in record["steps"])
      progress.advance(
        1, f"{answered / count:.0%} answered, {tokens / count:.0f} tokens each"
      )


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
