"""Evaluates System 1, System 2 and the distilled model.

Writes eval/valid.jsonl (on the validation split, before anything is learnt:
does System 2 pay at all?), eval/base.jsonl, and eval/distilled.jsonl once there
is a checkpoint (both on the test split): a line an input and method, with every
sample, its tokens and its scores.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows
from s2d_jax.curation.curate import InputId
from s2d_jax.curation.vote import vote
from s2d_jax.generation.sampling import Sampling
from s2d_jax.records import Record
from s2d_jax.stages import lengths, program, sample, select, setup
from s2d_jax.stages.shards import RecordShards
from s2d_jax.tasks.task import Example, Task, read_examples


class EvalSetting(NamedTuple):
  """How inputs are answered: a method, `n` samples of it, their sampling."""

  method: str
  n: int
  sampling: Sampling


DIRECT = EvalSetting("system1", 1, Sampling(temperature=0.0))


@program.stage("evaluate valid", on="all")
def run_valid(config: ConfigDict, workdir: epath.Path) -> str:
  """As many samples of System 1 as of System 2, on the valid split.

  Those of System 2 are the ones that were drawn to learn from.
  """
  task = setup.task_of(config)
  examples = _examples(workdir, "valid")
  methods = [config.method, "system1"]
  with _shards(config, workdir, "valid", task, examples, methods) as shards:
    evaluation = Evaluation(config, task, examples, shards)
    evaluation.reuse_samples(workdir)
    if config.method != "system1":
      sampling = setup.sampling_of(config)
      evaluation.run(EvalSetting("system1", config.sampling.n, sampling))
  return _summary(workdir, "valid", task, examples)


@program.stage("evaluate base", on="all")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """System 1 once and greedily, System 2 in n samples."""
  settings = [DIRECT]
  if config.method != "system1":
    sampling = setup.sampling_of(config)
    settings.append(EvalSetting(config.method, config.evaluation.n, sampling))
  return _on_test(config, workdir, "base", settings)


@program.stage("evaluate distilled", on="all")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model asked directly, once and greedily."""
  model = setup.distilled_model(config, workdir)
  return _on_test(config, workdir, "distilled", [DIRECT], model)


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
  settings: Sequence[EvalSetting],
  model: Pretrained | None = None,
) -> str:
  task = setup.task_of(config)
  examples = _examples(workdir, "test")
  lengths.check_prompts(config, task, {"test": list(examples.values())})
  methods = [setting.method for setting in settings]
  with _shards(config, workdir, name, task, examples, methods) as shards:
    evaluation = Evaluation(config, task, examples, shards, model)
    for setting in settings:
      evaluation.run(setting)
  return _summary(workdir, name, task, examples)


def _summary(
  workdir: epath.Path, name: str, task: Task, examples: Mapping[str, Example]
) -> str:
  count = f"{len(examples)} examples in {len(task.variants)} variants"
  return count + not_answered(records.read(_path(workdir, name)))


def not_answered(rows: Iterable[Record]) -> str:
  """Of inputs with a prompt that is too long, to stand behind other words."""
  long = {
    f"{row['example_id']}/{row['variant']}": None
    for row in rows
    if any(map(long_rows.is_too_long, row["passes"]))
  }
  if not long:
    return ""
  inputs = long_rows.counted(len(long), "input")
  return f"; not answered as too long: {inputs} {long_rows.listed(long)}"


def _path(workdir: epath.Path, name: str) -> epath.Path:
  return workdir / "eval" / f"{name}.jsonl"


def _examples(workdir: epath.Path, split: str) -> dict[str, Example]:
  found = read_examples(setup.examples_path(workdir, split))
  return {example.id: example for example in found}


def _shards(
  config: ConfigDict,
  workdir: epath.Path,
  name: str,
  task: Task,
  examples: Mapping[str, Example],
  methods: Sequence[str],
) -> RecordShards:
  """Rows that are sorted by method, example and variant in the end."""
  order = {example_id: index for index, example_id in enumerate(examples)}

  def sort_key(row: Record) -> tuple[int, int, int]:
    return (
      methods.index(row["method"]),
      order[row["example_id"]],
      task.variants.index(row["variant"]),
    )

  path = _path(workdir, name)
  return RecordShards.merged_into(path, sort_key, config.sampling.scope)


class Evaluation:
  """Answers the examples of a split, in every variant, and scores the answers.

  Args:
    config: of the run.
    task: whose examples they are.
    examples: by id.
    shards: of the rows; inputs that have one already are not answered again.
    model: default: the base model of the run.
  """

  def __init__(
    self,
    config: ConfigDict,
    task: Task,
    examples: Mapping[str, Example],
    shards: RecordShards,
    model: Pretrained | None = None,
  ):
    self._config = config
    self._task = task
    self._examples = examples
    self._shards = shards
    self._model = model
    self._done = {
      (row["example_id"], row["variant"], row["method"])
      for row in shards.recovered
    }

  def run(self, setting: EvalSetting) -> None:
    """Adds a row for each input: `n` samples, their scores and their vote."""
    missing = self._missing(setting.method)
    if not missing:
      return
    model = self._model or setup.base_model(self._config)
    drawn = draw_samples(
      f"evaluate {setting.method}",
      self._config,
      model,
      self._task,
      setting,
      self._examples,
      missing,
    )
    if self._lets_model_choose(setting):
      self._choose(model, setting.method, dict(drawn))
    else:
      for input_id, samples in drawn:
        self._add(input_id, setting.method, samples, None)

  def _choose(
    self,
    model: Pretrained,
    method: str,
    drawn: Mapping[InputId, Sequence[Record]],
  ) -> None:
    """Has the model pick one of the replies to each input; adds the rows."""
    replies = {}
    for input_id, samples in drawn.items():
      if all(map(long_rows.is_too_long, samples)):
        self._add(input_id, method, samples, None)
      else:
        replies[input_id] = [one["text"] for one in samples]

    def add(choice: Record) -> None:
      input_id = choice["example_id"], choice["variant"]
      self._add(input_id, method, drawn[input_id], choice)

    select.choose(self._config, model, self._task, self._examples, replies, add)

  def reuse_samples(self, workdir: epath.Path) -> None:
    """Adds rows for the samples that were drawn to learn from."""
    method = self._config.method
    groups = collections.defaultdict(list)
    for record in sample.read_samples(self._config, workdir):
      input_id = record["example_id"], record["variant"]
      tokens = [step["tokens"] for step in record["steps"]]
      groups[input_id].append(one_pass(record, tokens))
    # An input that was decided early has few samples, all alike: single samples
    # are compared over as many as every input has.
    fewest = min(map(len, groups.values()), default=0)
    for input_id in self._missing(method):
      if input_id in groups:  # none are, where labels are taught
        self._add(input_id, method, groups[input_id], None, single=fewest)

  def _missing(self, method: str) -> list[InputId]:
    """Inputs of this host that have no row."""
    return [
      (example_id, variant)
      for example_id in self._shards.share(list(self._examples))
      for variant in self._task.variants
      if (example_id, variant, method) not in self._done
    ]

  def _lets_model_choose(self, setting: EvalSetting) -> bool:
    by_model = self._config.curation.select == "usc"
    return by_model and setting.n > 1 and setting.method != "system1"

  def _add(
    self,
    input_id: InputId,
    method: str,
    samples: Sequence[Record],
    choice: Record | None,
    single: int | None = None,
  ) -> None:
    """Writes a row: the first `single` samples, and the vote of all of them."""
    example_id, variant = input_id
    example = self._examples[example_id]
    row = eval_row(self._task, example, variant, method, samples[:single])
    if len(samples) > 1:
      row["vote"] = self._vote(example, variant, samples, choice)
    self._shards.append(row)

  def _vote(
    self,
    example: Example,
    variant: str,
    samples: Sequence[Record],
    choice: Record | None,
  ) -> Record:
    """What the samples agree on, or what the model chose among them.

    Where a thought has several answers, it votes with their majority.
    """
    spent = [one.get("nested", one) for one in samples]
    result = vote([one["answer"] for one in spent])
    answer = result.winner
    tokens = sum(one["tokens"] for one in spent)
    if choice is not None:
      number = choice["chosen"]
      answer = None if number is None else samples[number]["answer"]
      tokens += choice["tokens"]
    return {
      "answer": answer,
      "margin": result.margin,
      "tokens": tokens,
      "metrics": self._task.score(example, variant, answer),
    }


def draw_samples(
  label: str,
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  setting: EvalSetting,
  examples: Mapping[str, Example],
  inputs: Sequence[InputId],
) -> Iterator[tuple[InputId, list[Record]]]:
  """Yields the n samples of each input, in order, once they are there."""
  # Direct answers are drawn in one shape, whatever n: compiled once.
  per_prompt = 1 if setting.method == DIRECT.method else setting.n
  scheduler = setup.scheduler(config, model, task, setting.method, per_prompt)
  jobs = collections.deque(
    sample.make_job(task, examples[example_id], variant, number)
    for example_id, variant in inputs
    for number in range(setting.n)
  )
  drawn: dict[InputId, dict[int, Record]] = {one: {} for one in inputs}
  with program.progress(label, len(jobs), "samples") as progress:
    for result in scheduler.run(jobs, setting.sampling):
      example_id, variant, number = result.job.name
      record = sample.reply_and_answer(task, examples[example_id], result)
      samples = drawn[example_id, variant]
      tokens = [len(step.completion.tokens) for step in result.steps]
      samples[number] = one_pass(record, tokens)
      progress.advance(1, tokens=result.tokens)
      if len(samples) == setting.n:
        in_order = [samples[index] for index in range(setting.n)]
        yield (example_id, variant), in_order


def eval_row(
  task: Task,
  example: Example,
  variant: str,
  method: str,
  samples: Sequence[Record],
) -> Record:
  """The samples of an input, and their mean scores.

  Where thoughts have several answers, "nested" has those of their majorities.
  """
  row = {
    "example_id": example.id,
    "variant": variant,
    "method": method,
    "passes": list(samples),
    "metrics": _mean_scores(task, example, variant, samples),
  }
  if any("nested" in one for one in samples):
    nested = [one.get("nested", one) for one in samples]
    metrics = _mean_scores(task, example, variant, nested)
    row["nested"] = {"metrics": metrics}
  return row


def _mean_scores(
  task: Task, example: Example, variant: str, replies: Sequence[Record]
) -> dict[str, float]:
  scores = [task.score(example, variant, one["answer"]) for one in replies]
  return {
    metric: float(np.mean([score[metric] for score in scores]))
    for metric in scores[0]
  }


def one_pass(record: Record, tokens: Sequence[int]) -> Record:
  """A sample as a row of eval/ has it: one thought and one answer.

  Where the thought has several answers this is the first, with its own tokens;
  their majority, with the tokens of all, is under "nested".

  Args:
    record: with the fields of `sample.reply_and_answer`.
    tokens: generated in each of its steps.
  """
  found = {"text": record["reply"], "answer": record["answer"]}
  found |= {"tier": record["tier"], "tokens": sum(tokens)}
  if long_rows.is_too_long(record):
    found["too_long"] = record["too_long"]
  if "answers" in record:
    nested = {name: found[name] for name in ("answer", "tokens")}
    found |= {"text": record["replies"][0], "answer": record["answers"][0]}
    found |= {"tier": record["tiers"][0], "nested": nested}
    if not long_rows.is_too_long(record):  # or the answers never came
      others = len(record["answers"]) - 1
      found["tokens"] -= sum(tokens[-others:])
  return found


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
