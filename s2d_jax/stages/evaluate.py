"""Compares: System 1, System 2 and the distilled model.

Writes eval/valid.jsonl (on the validation split, before anything is learnt:
does System 2 pay at all?), eval/base.jsonl, and eval/distilled.jsonl once there
is a checkpoint (both on the test split): a line an input and method, with every
pass, its tokens and its scores.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation.vote import vote
from s2d_jax.generation.sampling import Sampling
from s2d_jax.records import Record
from s2d_jax.stages import program, sample, select, setup
from s2d_jax.stages.parts import Parts
from s2d_jax.tasks.task import Example, Task, read_examples


class Way(NamedTuple):
  """A way of answering: a method, how often, and how it is drawn."""

  method: str
  n: int
  sampling: Sampling


DIRECTLY = Way("system1", 1, Sampling(temperature=0.0))

Name = tuple[str, str]  # example id, variant


@program.stage("evaluate valid", on="all")
def run_valid(config: ConfigDict, workdir: epath.Path) -> str:
  """System 1 in as many passes as System 2, on the valid split.

  The passes of System 2 are those that were sampled to learn from.
  """
  task = setup.task_of(config)
  examples = _examples(workdir, "valid")
  methods = [config.method, "system1"]
  with _parts(config, workdir, "valid", task, examples, methods) as parts:
    evaluation = Evaluation(config, task, examples, parts)
    evaluation.look_back(workdir)
    if config.method != "system1":
      way = Way("system1", config.sampling.n, setup.sampling_of(config))
      evaluation.ask(way)
  return f"{len(examples)} examples in {len(task.variants)} forms"


@program.stage("evaluate base", on="all")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """System 1 once and greedily, System 2 in n sampled passes."""
  ways = [DIRECTLY]
  if config.method != "system1":
    sampling = setup.sampling_of(config)
    ways.append(Way(config.method, config.evaluation.n, sampling))
  return _on_test(config, workdir, "base", ways)


@program.stage("evaluate distilled", on="all")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model asked directly, once and greedily."""
  model = setup.distilled_model(config, workdir)
  return _on_test(config, workdir, "distilled", [DIRECTLY], model)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """The base model, and the distilled one once there is a checkpoint."""
  run_valid(config, workdir)
  run_base(config, workdir)
  if (workdir / "checkpoints").exists():
    run_distilled(config, workdir)
  else:
    print("evaluate distilled: there is no checkpoint yet", flush=True)


def _on_test(
  config: ConfigDict,
  workdir: epath.Path,
  name: str,
  ways: Sequence[Way],
  model: Pretrained | None = None,
) -> str:
  task = setup.task_of(config)
  examples = _examples(workdir, "test")
  methods = [way.method for way in ways]
  with _parts(config, workdir, name, task, examples, methods) as parts:
    evaluation = Evaluation(config, task, examples, parts, model)
    for way in ways:
      evaluation.ask(way)
  return f"{len(examples)} examples in {len(task.variants)} forms"


def _examples(workdir: epath.Path, split: str) -> dict[str, Example]:
  found = read_examples(setup.examples_path(workdir, split))
  return {example.id: example for example in found}


def _parts(
  config: ConfigDict,
  workdir: epath.Path,
  name: str,
  task: Task,
  examples: Mapping[str, Example],
  methods: Sequence[str],
) -> Parts:
  """Rows that end in the order of methods, examples and variants."""
  order = {example_id: index for index, example_id in enumerate(examples)}

  def place(row: Record) -> tuple[int, int, int]:
    return (
      methods.index(row["method"]),
      order[row["example_id"]],
      task.variants.index(row["variant"]),
    )

  path = workdir / "eval" / f"{name}.jsonl"
  return Parts.into(path, place, config.sampling.scope)


class Evaluation:
  """Puts the examples of a split, in every variant, and scores the answers.

  Args:
    config: of the run.
    task: whose examples they are.
    examples: by id.
    parts: the rows; inputs that have one already are not asked again.
    model: default: the base model of the run.
  """

  def __init__(
    self,
    config: ConfigDict,
    task: Task,
    examples: Mapping[str, Example],
    parts: Parts,
    model: Pretrained | None = None,
  ):
    self._config = config
    self._task = task
    self._examples = examples
    self._parts = parts
    self._model = model
    self._done = {
      (row["example_id"], row["variant"], row["method"])
      for row in parts.recovered
    }

  def ask(self, way: Way) -> None:
    """Adds a row for each input: `n` passes, their scores and their vote."""
    wanted = self._wanted(way.method)
    if not wanted:
      return
    model = self._model or setup.base_model(self._config)
    drawn = passes(
      f"evaluate {way.method}",
      self._config,
      model,
      self._task,
      way,
      self._examples,
      wanted,
    )
    if self._chooses(way):
      self._choose(model, way, dict(drawn))
    else:
      for name, found in drawn:
        self._add(name, way.method, found, None)

  def _choose(
    self, model: Pretrained, way: Way, found: Mapping[Name, Sequence[Record]]
  ) -> None:
    """Has the model pick one of the replies to each input; adds the rows."""
    replies = {
      name: [one["text"] for one in passes] for name, passes in found.items()
    }

    def add(choice: Record) -> None:
      name = choice["example_id"], choice["variant"]
      self._add(name, way.method, found[name], choice)

    select.choose(self._config, model, self._task, self._examples, replies, add)

  def look_back(self, workdir: epath.Path) -> None:
    """Adds rows for the passes that were sampled to learn from."""
    method = self._config.method
    groups = collections.defaultdict(list)
    for record in sample.read_samples(self._config, workdir):
      name = record["example_id"], record["variant"]
      tokens = sum(step["tokens"] for step in record["steps"])
      groups[name].append(_pass(record, tokens))
    # An input that was decided early has but a few passes, all alike: single
    # passes are compared over as many as every input has.
    fewest = min(map(len, groups.values()), default=0)
    for name in self._wanted(method):
      if name in groups:  # none are, where labels are taught
        self._add(name, method, groups[name], None, single=fewest)

  def _wanted(self, method: str) -> list[Name]:
    """Inputs of this host that have no row."""
    return [
      (example_id, variant)
      for example_id in self._parts.share(list(self._examples))
      for variant in self._task.variants
      if (example_id, variant, method) not in self._done
    ]

  def _chooses(self, way: Way) -> bool:
    by_model = self._config.curation.select == "usc"
    return by_model and way.n > 1 and way.method != "system1"

  def _add(
    self,
    name: Name,
    method: str,
    passes: Sequence[Record],
    choice: Record | None,
    single: int | None = None,
  ) -> None:
    """Writes a row; `single` passes count as such, all of them in the vote."""
    example_id, variant = name
    example = self._examples[example_id]
    made = row(self._task, example, variant, method, passes[:single])
    if len(passes) > 1:
      made["vote"] = self._vote(example, variant, passes, choice)
    self._parts.append(made)

  def _vote(
    self,
    example: Example,
    variant: str,
    passes: Sequence[Record],
    choice: Record | None,
  ) -> Record:
    """What the passes agree on, or what the model chose among them."""
    result = vote([one["answer"] for one in passes])
    answer = result.winner
    tokens = sum(one["tokens"] for one in passes)
    if choice is not None:
      number = choice["chosen"]
      answer = None if number is None else passes[number]["answer"]
      tokens += choice["tokens"]
    return {
      "answer": answer,
      "margin": result.margin,
      "tokens": tokens,
      "metrics": self._task.score(example, variant, answer),
    }


def passes(
  label: str,
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  way: Way,
  examples: Mapping[str, Example],
  wanted: Sequence[Name],
) -> Iterator[tuple[Name, list[Record]]]:
  """Yields the n passes over each input, in order, once they are there."""
  # Direct answers are drawn in one shape, whatever n: compiled once.
  together = 1 if way.method == DIRECTLY.method else way.n
  scheduler = setup.scheduler(config, model, task, way.method, together)
  jobs = collections.deque(
    sample.job(task, examples[example_id], variant, number)
    for example_id, variant in wanted
    for number in range(way.n)
  )
  found: dict[Name, dict[int, Record]] = {name: {} for name in wanted}
  with program.progress(label, len(jobs), "passes") as progress:
    for result in scheduler.run(jobs, way.sampling):
      example_id, variant, number = result.job.name
      said = sample.said(task, examples[example_id], result)
      drawn = found[example_id, variant]
      drawn[number] = _pass(said, result.tokens)
      progress.advance(1, tokens=result.tokens)
      if len(drawn) == way.n:
        in_order = [drawn[index] for index in range(way.n)]
        yield (example_id, variant), in_order


def row(
  task: Task,
  example: Example,
  variant: str,
  method: str,
  passes: Sequence[Record],
) -> Record:
  """The passes over an input, and their mean scores."""
  scores = [task.score(example, variant, one["answer"]) for one in passes]
  return {
    "example_id": example.id,
    "variant": variant,
    "method": method,
    "passes": list(passes),
    "metrics": {
      metric: float(np.mean([score[metric] for score in scores]))
      for metric in scores[0]
    },
  }


def _pass(said: Record, tokens: int) -> Record:
  return {"text": said["reply"], "answer": said["answer"], "tokens": tokens}


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
