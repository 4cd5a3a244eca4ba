"""Evaluates System 1, System 2 and the distilled model.

Writes eval/valid.jsonl (on the validation split, before anything is learnt:
does System 2 pay at all?), eval/base.jsonl, and eval/distilled.jsonl once there
is a checkpoint (both on the test split): a line an input and method, with the
greedy reply and every sample, their tokens and their scores. On the test split
System 1 is also asked behind System 2's worked examples
(config.evaluation.controls).
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import functools
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows
from s2d_jax.curation.curate import InputId
from s2d_jax.curation.vote import vote
from s2d_jax.evaluation.controls import (
  ALOUD,
  SHOTS,
  SYSTEM1,
  cost,
  replies_of,
)
from s2d_jax.generation.sampling import GREEDY, Sampling
from s2d_jax.ordered import Order
from s2d_jax.parallel.dealing import Deal
from s2d_jax.progress import Progress
from s2d_jax.records import Record
from s2d_jax.stages import lengths, program, sample, select, setup
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2.dealt_jobs import DealtJobs
from s2d_jax.system2.scheduler import Job, Result, run_together
from s2d_jax.tasks.task import (
  Example,
  Task,
  cluster_of,
  in_variants,
  read_examples,
  without_perturbations,
)


class Asked(NamedTuple):
  """How inputs are asked: by a method, greedily, and in n samples.

  A student that was taught to think first is asked as System 1 is, and does.
  """

  method: str
  n: int
  is_greedy: bool
  is_aloud: bool = False

  @property
  def replies(self) -> int:
    """To one input."""
    return self.n + self.is_greedy


class Replies(NamedTuple):
  """To one input: the samples, and the greedy reply if there is to be one."""

  samples: list[Record]
  greedy: Record | None


DIRECT = Asked(SYSTEM1, n=0, is_greedy=True)
# Stands in the name of a greedy reply where samples have their number, so that
# those have the keys that they would have without it.
_GREEDY = "greedy"


@program.stage("evaluate valid", on="all")
def run_valid(config: ConfigDict, workdir: epath.Path) -> str:
  """As many samples of System 1 as of System 2, on the valid split.

  Those of System 2 are the ones that were drawn to learn from; those of System
  1 are drawn by the same model, which in a later round is a distilled one.
  """
  task = setup.task_of(config)
  examples = _examples(workdir, "valid")
  methods = [config.method, SYSTEM1]
  with _shards(config, workdir, "valid", task, examples, methods) as shards:
    Evaluation(config, task, examples, shards).reuse_samples(workdir)
    if config.method != SYSTEM1:
      thinker = setup.thinker(config, workdir)
      evaluation = Evaluation(config, task, examples, shards, thinker)
      evaluation.run(Asked(SYSTEM1, config.sampling.n, is_greedy=False))
  return _summary(workdir, "valid", task, examples)


@program.stage("evaluate base", on="all")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """System 1, the run's method, and System 1 behind worked examples."""
  n, controls = config.evaluation.n, config.evaluation.controls
  task = setup.task_of(config)
  asked = {
    SYSTEM1: Asked(SYSTEM1, n if controls else 0, is_greedy=True),
    config.method: Asked(
      config.method, n, is_greedy=controls or config.method == SYSTEM1
    ),
  }
  why_not = setup.why_no_shots(config, task)
  if not why_not:
    asked[SHOTS] = Asked(SHOTS, n, is_greedy=controls)
  told = f"; System 1 not asked behind worked examples: {why_not}"
  summary = _on_test(config, workdir, "base", list(asked.values()))
  return summary + (told if why_not else "")


@program.stage("evaluate distilled", on="all")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model asked directly, greedily and in n samples."""
  model = setup.distilled_model(config, workdir)
  return _on_test(config, workdir, "distilled", [directly(config)], model)


def directly(config: ConfigDict) -> Asked:
  """How the distilled model is asked."""
  n = config.evaluation.n if config.evaluation.controls else DIRECT.n
  return DIRECT._replace(n=n, is_aloud=setup.thinks_aloud(config))


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
  ways: Sequence[Asked],
  model: Pretrained | None = None,
) -> str:
  task = setup.task_of(config)
  examples = ask(config, workdir, name, "test", ways, model)
  own = config.method if name == "base" else ""
  spent = cost(records.read(path_of(workdir, name)), own)
  controls = f"; the controls took {spent}" if spent else ""
  return _summary(workdir, name, task, examples) + controls


def ask(
  config: ConfigDict,
  workdir: epath.Path,
  name: str,
  split: str,
  ways: Sequence[Asked],
  model: Pretrained | None = None,
) -> dict[str, Example]:
  """Writes eval/<name>.jsonl; returns the examples of the split, by id."""
  task = setup.task_of(config)
  examples = _examples(workdir, split)
  lengths.check_prompts(config, task, {split: list(examples.values())})
  methods = [asked.method for asked in ways]
  with _shards(config, workdir, name, task, examples, methods) as shards:
    evaluation = Evaluation(config, task, examples, shards, model)
    # Direct answers apart: behind no worked examples a step is quicker.
    direct = [asked for asked in ways if asked.method == SYSTEM1]
    evaluation.run(*direct)
    evaluation.run(*(asked for asked in ways if asked not in direct))
  return examples


def _summary(
  workdir: epath.Path, name: str, task: Task, examples: Mapping[str, Example]
) -> str:
  each = {len(without_perturbations(task, e)) for e in examples.values()}
  count = f"{len(examples)} examples{in_variants(each)}"
  rows = list(records.read(path_of(workdir, name)))
  return count + not_answered(rows) + _unended(rows)


def not_answered(rows: Iterable[Record]) -> str:
  """Of inputs with a prompt that is too long, to stand behind other words."""
  long = {
    f"{row['example_id']}/{row['variant']}": None
    for row in rows
    if any(map(long_rows.is_too_long, replies_of(row)))
  }
  if not long:
    return ""
  inputs = long_rows.counted(len(long), "input")
  return f"; not answered as too long: {inputs} {long_rows.listed(long)}"


def _unended(rows: Iterable[Record]) -> str:
  """Of thoughts without an end, to stand behind other words."""
  names = [
    f"{row['example_id']}/{row['variant']}"
    for row in rows
    for reply in replies_of(row)
    if reply.get("unended")
  ]
  return f"; {sample.without_end(names)}" if names else ""


def path_of(workdir: epath.Path, name: str) -> epath.Path:
  """Of the rows called `name`, as "base" or "distilled"."""
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
  order = Order(
    ("example_id", "variant", "method"),
    "method_rank, example_rank, variant_rank",
    {
      "method_rank": {"method": methods},
      "example_rank": {"example_id": list(examples)},
      "variant_rank": {"variant": task.variants},
    },
  )
  path = path_of(workdir, name)
  return RecordShards.merged_into(path, order, config.sampling.scope)


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
    self._done = shards.names()

  def run(self, *ways: Asked) -> None:
    """Adds a row for each input: its replies, their scores and their vote."""
    missing = [
      (asked, input_id)
      for asked in ways
      for input_id in self._missing(asked.method)
    ]
    if not missing:
      return
    model = self._model or setup.base_model(self._config)
    drawn = draw_replies(
      self._config,
      model,
      self._task,
      self._examples,
      self._shards.deal(missing),
    )
    to_choose = {}
    for asked, input_id, replies in drawn:
      if self._lets_model_choose(asked):
        to_choose[input_id] = replies
      else:
        self._add(input_id, asked.method, replies, None)
    if to_choose:
      self._choose(model, self._config.method, to_choose)

  def _choose(
    self,
    model: Pretrained,
    method: str,
    drawn: Mapping[InputId, Replies],
  ) -> None:
    """Has the model pick one of the samples of each input; adds the rows."""
    texts = {}
    for input_id, replies in drawn.items():
      if all(map(long_rows.is_too_long, replies.samples)):
        self._add(input_id, method, replies, None)
      else:
        texts[input_id] = [one["text"] for one in replies.samples]

    def add(choice: Record) -> None:
      input_id = choice["example_id"], choice["variant"]
      self._add(input_id, method, drawn[input_id], choice)

    select.choose(
      self._config,
      model,
      self._task,
      Deal("inputs", list(texts), is_shared=False),
      lambda one: select.ToChoose(self._examples[one[0]], texts[one]),
      add,
    )

  def reuse_samples(self, workdir: epath.Path) -> None:
    """Adds rows for the samples that were drawn to learn from."""
    method = self._config.method
    own = set(self._shards.share(list(self._examples)))
    missing = {one for one in self._missing(method) if one[0] in own}
    # An input that was decided early has few samples, all alike: single samples
    # are compared over as many as every input has.
    fewest = sample.fewest_samples(self._config, workdir)
    ids = dict.fromkeys(example_id for example_id, _ in missing)
    drawn = sample.read_samples(self._config, workdir, list(ids))
    for input_id, group in sample.by_input(drawn):
      if input_id in missing:
        passes = [one_pass(record, record["steps"]) for record in group]
        replies = Replies(passes, None)
        self._add(input_id, method, replies, None, single=fewest)

  def _missing(self, method: str) -> list[InputId]:
    """Inputs that have no row."""
    return [
      (example_id, variant)
      for example_id in self._examples
      for variant in without_perturbations(
        self._task, self._examples[example_id]
      )
      if (example_id, variant, method) not in self._done
    ]

  def _lets_model_choose(self, asked: Asked) -> bool:
    by_model = self._config.curation.select == "usc"
    is_own = asked.method == self._config.method != SYSTEM1
    return by_model and asked.n > 1 and is_own

  def _add(
    self,
    input_id: InputId,
    method: str,
    replies: Replies,
    choice: Record | None,
    single: int | None = None,
  ) -> None:
    """Writes a row: the first `single` samples, and the vote of all of them."""
    example_id, variant = input_id
    example = self._examples[example_id]
    samples, greedy = replies
    row = eval_row(self._task, example, variant, method, samples[:single])
    if len(samples) > 1:
      voted = vote_of(samples, choice)
      metrics = self._task.score(example, variant, voted["answer"])
      row["vote"] = voted | {"metrics": metrics}
    if greedy is not None:
      metrics = self._task.score(example, variant, greedy["answer"])
      row["greedy"] = greedy | {"metrics": metrics}
    self._shards.append(row)


def draw_replies(
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  examples: Mapping[str, Example],
  inputs: Deal[tuple[Asked, InputId]],
  shown: Progress | None = None,
) -> Iterator[tuple[Asked, InputId, Replies]]:
  """Yields the replies to each input of this host once they are all there.

  Those of all methods are drawn in one batch, and the greedy one with the
  samples, so that they share their prompt. A greedy reply is greedy in every
  step.

  Args:
    config: of the run.
    model: that is asked.
    task: whose examples they are.
    examples: by id.
    inputs: of all hosts, each with how it is asked; there is one.
    shown: the progress of more than these inputs, which counts their replies;
      None: they have their own.
  """
  sampling = setup.sampling_of(config)
  by_method = {asked.method: asked for asked, _ in inputs.items}
  ways = {name: _ways(asked, sampling) for name, asked in by_method.items()}
  # Direct answers are drawn in one shape, whatever n: compiled once.
  per_prompt = max(
    1 if name in (SYSTEM1, SHOTS) else asked.n
    for name, asked in by_method.items()
  )
  schedulers = setup.schedulers(
    config,
    model,
    {
      name: (task, ALOUD if asked.is_aloud else name)
      for name, asked in by_method.items()
    },
    per_prompt,
    {
      name: sample.inputs_of(task, examples.values(), asked.replies)
      for name, asked in by_method.items()
    },
  )

  def begin(one: tuple[Asked, InputId]) -> list[Job]:
    asked, (example_id, variant) = one
    name = asked.method
    return [
      sample.make_job(task, examples[example_id], variant, *way, name)
      for way in ways[name].items()
    ]

  jobs = DealtJobs.of(inputs, begin, schedulers.values())
  drawn = collections.defaultdict(dict)
  label = f"evaluate {', '.join(ways)}"
  count = sum(asked.replies for asked, _ in inputs.items)
  with contextlib.ExitStack() as stack:
    progress = shown or stack.enter_context(
      program.progress(label, count, "replies", is_joint=inputs.is_shared)
    )
    for result in run_together(schedulers, jobs):
      asked = by_method[result.job.scheduler]
      example_id, variant, way = result.job.name
      found = drawn[asked, example_id, variant]
      found[way] = reply_of(task, examples[example_id], result)
      progress.advance(1, tokens=result.tokens)
      if len(found) == asked.replies:
        del drawn[asked, example_id, variant]
        samples = [found[number] for number in range(asked.n)]
        replies = Replies(samples, found.get(_GREEDY))
        yield asked, (example_id, variant), replies


def _ways(asked: Asked, sampling: Sampling) -> dict[int | str, Sampling]:
  """How each reply to an input is drawn, by its name."""
  ways = {_GREEDY: GREEDY} if asked.is_greedy else {}
  return ways | dict.fromkeys(range(asked.n), sampling)


def vote_of(samples: Sequence[Record], choice: Record | None = None) -> Record:
  """What the samples agree on, or what the model chose among them.

  Where a thought has several answers, it votes with their majority.
  """
  spent = [one.get("nested", one) for one in samples]
  result = vote([one["answer"] for one in spent])
  answer = result.winner
  if choice is not None:
    number = choice["chosen"]
    answer = None if number is None else samples[number]["answer"]
    spent.append(choice)
  found = {
    "answer": answer,
    "margin": result.margin,
    "tokens": sum(one["tokens"] for one in spent),
  }
  if all("prompt_tokens" in one for one in spent):
    found["prompt_tokens"] = sum(one["prompt_tokens"] for one in spent)
  return found


def eval_row(
  task: Task,
  example: Example,
  variant: str,
  method: str,
  samples: Sequence[Record],
) -> Record:
  """The samples of an input, and their mean scores; none without samples.

  Where thoughts have several answers, "nested" has those of their majorities.
  """
  row = {"example_id": example.id, "variant": variant, "method": method}
  cluster = cluster_of(task, example)
  if cluster is not None:
    row["cluster"] = cluster
  scores = functools.partial(_mean_scores, task, example, variant)
  row |= {"passes": list(samples), "metrics": scores(samples)}
  if any("nested" in one for one in samples):
    nested = [one.get("nested", one) for one in samples]
    row["nested"] = {"metrics": scores(nested)}
  return row


def _mean_scores(
  task: Task, example: Example, variant: str, replies: Sequence[Record]
) -> dict[str, float]:
  scores = [task.score(example, variant, one["answer"]) for one in replies]
  return {
    metric: float(np.mean([score[metric] for score in scores]))
    for metric in (scores[0] if scores else ())
  }


def reply_of(task: Task, example: Example, result: Result) -> Record:
  """What was drawn, as `one_pass` has it."""
  record = sample.reply_and_answer(task, example, result)
  return one_pass(record, sample.step_records(result))


def one_pass(record: Record, steps: Sequence[Record]) -> Record:
  """A sample as a row of eval/ has it: one thought and one answer.

  Where the thought has several answers this is the first, with its own tokens;
  their majority, with the tokens of all, is under "nested".

  Args:
    record: with the fields of `sample.reply_and_answer`.
    steps: of the sample, as `sample.step_records` has them.
  """
  found = {"text": record["reply"], "answer": record["answer"]}
  found |= {"tier": record["tier"]} | _spent(steps)
  if record.get("unended"):
    found["unended"] = True
  if long_rows.is_too_long(record):
    return found | {"too_long": record["too_long"]}
  if "answers" not in record:
    return found | _logprob(steps)
  nested = {"answer": found["answer"]} | _spent(steps)
  own = steps[: len(steps) - (len(record["answers"]) - 1)]
  return {
    "text": record["replies"][0],
    "answer": record["answers"][0],
    "tier": record["tiers"][0],
    **_spent(own),
    **_logprob(own),
    "nested": nested,
  }


def _spent(steps: Sequence[Record]) -> Record:
  found = {"tokens": sum(step["tokens"] for step in steps)}
  # A sample of an older version does not say.
  if all("prompt_tokens" in step for step in steps):
    found["prompt_tokens"] = sum(step["prompt_tokens"] for step in steps)
  return found


def _logprob(steps: Sequence[Record]) -> Record:
  """The log-probability of a reply that was had in one call."""
  return {"logprob": steps[0]["logprob"]} if len(steps) == 1 else {}


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
