"""Compares on held-out inputs: System 1, System 2 and the distilled model.

Writes eval/base.jsonl, and eval/distilled.jsonl once there is a checkpoint: a
line an input and method, with every pass, its tokens and its scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation.vote import vote
from s2d_jax.generation.sampling import Sampling
from s2d_jax.progress import Progress
from s2d_jax.stages import program, sample, setup
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.scheduler import Result
from s2d_jax.tasks.task import Example, Task, read_examples

_GREEDY = Sampling(temperature=0.0)


@program.stage("evaluate base")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """System 1 once and greedily, System 2 in n sampled passes."""
  setup.method_of(config)
  model = setup.base_model(config.model.name)
  passes = [("system1", 1, _GREEDY)]
  if config.method != "system1":
    passes.append(
      (config.method, config.evaluation.n, setup.sampling_of(config))
    )
  return _evaluate(config, workdir, "base", model, passes)


@program.stage("evaluate distilled")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model asked directly, once and greedily."""
  setup.base_model.cache_clear()  # only one set of weights in memory
  model = pretrained.load(workdir)
  return _evaluate(
    config, workdir, "distilled", model, [("system1", 1, _GREEDY)]
  )


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Both models; the distilled one needs a checkpoint."""
  run_base(config, workdir)
  run_distilled(config, workdir)


def _evaluate(
  config: ConfigDict,
  workdir: epath.Path,
  name: str,
  model: Pretrained,
  passes: Sequence[tuple[str, int, Sampling]],
) -> str:
  task = setup.task_of(config)
  examples = read_examples(setup.examples_path(workdir, "test"))
  with records.Appender(workdir / "eval" / f"{name}.jsonl") as out:
    done = {_name(record) for record in out.recovered}
    for method, n, sampling in passes:
      wanted = [
        (example, variant)
        for example in examples
        for variant in task.variants
        if (example.id, variant, method) not in done
      ]
      if wanted:
        results = _passes(config, model, task, method, n, sampling, wanted)
        for example, variant in wanted:
          found = results[example.id, variant]
          out.append(_record(task, example, variant, method, found))
  return f"{len(examples)} examples in {len(task.variants)} forms"


def _name(record: records.Record) -> tuple[str, str, str]:
  return record["example_id"], record["variant"], record["method"]


def _passes(
  config, model, task: Task, method: str, n: int, sampling, wanted
) -> dict[tuple[str, str], list[Result]]:
  """All n results of each (example, variant), in the order of passes."""
  scheduler = setup.scheduler(
    config,
    model,
    setup.prompts_of(config, task),
    METHODS[method],
    sampling,
    n,
  )
  jobs = [job for pair in wanted for job in sample.passes(task, *pair, n)]
  results = {(example.id, variant): [None] * n for example, variant in wanted}
  with Progress(f"evaluate {method}", len(jobs), "passes") as progress:
    for result in scheduler.run(jobs):
      example_id, variant, index = result.job.name
      results[example_id, variant][index] = result
      progress.advance(1)
  return results


def _record(
  task: Task,
  example: Example,
  variant: str,
  method: str,
  results: Sequence[Result],
) -> records.Record:
  passes, scores = [], []
  for result in results:
    answer = task.answer(example, result.reply.text)
    tokens = sum(len(step.completion.tokens) for step in result.steps)
    passes.append(
      {"text": result.reply.text, "answer": answer, "tokens": tokens}
    )
    scores.append(task.score(example, variant, answer))
  record = {
    "example_id": example.id,
    "variant": variant,
    "method": method,
    "passes": passes,
    "metrics": {
      name: float(np.mean([score[name] for score in scores]))
      for name in scores[0]
    },
  }
  if len(passes) > 1:
    winner = vote([one["answer"] for one in passes]).winner
    record["vote"] = {
      "answer": winner,
      "tokens": sum(one["tokens"] for one in passes),
      "metrics": task.score(example, variant, winner),
    }
  return record


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
