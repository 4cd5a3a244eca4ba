"""Samples the method's reasoning and answers for every unlabelled input.

Each sample is appended to samples/<method>/ when it ends; a stage that was
killed goes on with the samples that are missing, and draws them as it would
have drawn them before. An input whose vote is decided is sampled no further,
and one that is too long to be learnt from is not sampled (config.too_long).
"""

from __future__ import annotations

import array
import collections
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
import dataclasses
import hashlib
import itertools
import math
from typing import Generic, NamedTuple, TypeVar

from etils import epath
from ml_collections import ConfigDict
import numpy as np
import pyarrow as pa

from s2d_jax import ordered, profiling, records
from s2d_jax.answers.answer import Answer
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows, rounds
from s2d_jax.curation.adaptive import (
  AdaptiveVote,
  ExampleVotes,
  StoppingRule,
)
from s2d_jax.curation.curate import InputId, votes_of
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.curation.vote import vote
from s2d_jax.errors import UserError
from s2d_jax.generation.sampling import Sampling
from s2d_jax.ordered import Order, Part
from s2d_jax.parallel import hosts
from s2d_jax.parallel.dealing import Deal
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.records import Record
from s2d_jax.stages import batch_rows, lengths, program, setup
from s2d_jax.stages.batch_rows import Inputs
from s2d_jax.stages.begun import Begun
from s2d_jax.stages.sampling_stats import SamplingStats
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2 import methods
from s2d_jax.system2.dealt_jobs import DealtJobs
from s2d_jax.system2.program import for_chat, frame_of
from s2d_jax.system2.scheduler import Job, Result
from s2d_jax.tasks.example_files import ExampleFiles
from s2d_jax.tasks.task import (
  Example,
  Task,
  asked,
  iterate_examples,
)

T = TypeVar("T")

_SPLITS = ("train", "valid")  # that are sampled to learn from


@program.stage("sample", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Samples the train and valid splits; curation decides by the answers."""
  if config.curation.select == "label":
    return "none needed: the labels are taught"
  task = setup.task_of(config)
  long = _measure(config, workdir, task)
  examples = training_examples(workdir)
  skipped = {(row.example_id, row.variant) for row in long["train"]}
  folder, order = samples_folder(config, workdir), sample_order(examples.ids)
  with RecordShards(folder, order, config.sampling.scope) as shards:
    there = shards.count()
    _sample(config, workdir, task, examples, skipped, shards)
  if not hosts.is_lead():
    return ""
  most = most_samples(config, workdir)
  drawn = _count(by_input(_read(config, workdir, order)), most, skipped)
  full = drawn.surplus + sum(
    most[example.id]
    for example in examples
    for variant in asked(task, example)
    if (example.id, variant) not in skipped
  )
  cut = drawn.cut
  ended = f", {len(cut):,} too long at a later prompt {long_rows.listed(cut)}"
  return (
    f"{drawn.samples} samples of {config.method} over {len(examples)} examples"
    f" ({there} were there, {full - drawn.samples} of {full} not"
    f" needed){ended if cut else ''}{_unended(config, drawn)}"
    f"{lengths.summary(long)}"
  )


@dataclasses.dataclass
class _Counts:
  """Of samples.

  Attributes:
    samples: how many.
    surplus: of these what is beyond the most that inputs have: a round may take
      some over.
    cut: names of those that ended at a prompt that was too long.
    unended: names of those whose thought did not end by itself.
    closed: of these the ones that were closed by force.
  """

  samples: int = 0
  surplus: int = 0
  cut: list[str] = dataclasses.field(default_factory=list)
  unended: list[str] = dataclasses.field(default_factory=list)
  closed: int = 0


def _count(
  groups: Iterable[tuple[InputId, Sequence[Record]]],
  most: Mapping[str, int],
  skipped: Collection[InputId] = (),
) -> _Counts:
  """Counts the samples of inputs; those that are `skipped` have no surplus."""
  found = _Counts()
  for input_id, group in groups:
    found.samples += len(group)
    if input_id not in skipped:
      found.surplus += max(0, len(group) - most[input_id[0]])
    found.cut += [_name(one) for one in group if long_rows.is_cut_short(one)]
    unended = [one for one in group if one.get("unended")]
    found.unended += map(_name, unended)
    found.closed += sum(bool(one["reply"]) for one in unended)
  return found


def _unended(config: ConfigDict, drawn: _Counts) -> str:
  """Of thoughts without an end, to stand behind other words; may be empty.

  Raises:
    UserError: no thought had an end, and none was closed.
  """
  count, closed = len(drawn.unended), drawn.closed
  if count and not closed and count == drawn.samples:
    limit = f"prompts.{config.method}.max_new_tokens"
    raise UserError(
      f"none of {count:,} thoughts ended within its budget, so there is"
      f" no answer at all; raise {limit}, or set"
      f" prompts.{config.method}.budget_forcing = True, and use another"
      " --workdir"
    )
  if not count:
    return ""
  by_force = f", {closed:,} of them closed by force" if closed else ""
  return f", {without_end(drawn.unended)}{by_force}"


def without_end(names: Sequence[str]) -> str:
  """As "2 thoughts without an end (a/plain, b/plain)"."""
  thoughts = long_rows.counted(len(names), "thought")
  return f"{thoughts} without an end {long_rows.listed(names)}"


def _measure(
  config: ConfigDict, workdir: epath.Path, task: Task
) -> dict[str, list[LongRow]]:
  """Inputs with a prompt that is too long; writes those that are left out."""
  found = lengths.of_run(config, task, workdir)
  if hosts.is_lead():
    path = _left_out_path(config, workdir)
    path.unlink(missing_ok=True)  # of a start with other settings
    if found["train"]:
      records.write(path, (row._asdict() for row in found["train"]))
  return found


def left_out(config: ConfigDict, workdir: epath.Path) -> dict[InputId, str]:
  """The train inputs that were not sampled, and what they do not fit."""
  path = _left_out_path(config, workdir)
  rows = records.read(path) if path.exists() else ()
  return {(row["example_id"], row["variant"]): row["limit"] for row in rows}


def _left_out_path(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return samples_folder(config, workdir) / "too_long.jsonl"


def _name(record: Record) -> str:
  return f"{record['example_id']}/{record['variant']}/{record['sample']}"


def training_examples(workdir: epath.Path) -> ExampleFiles:
  """The examples that are sampled to learn from: train, then valid."""
  paths = (setup.examples_path(workdir, split) for split in _SPLITS)
  return ExampleFiles(*paths)


def iterate_training_examples(workdir: epath.Path) -> Iterator[Example]:
  """Yields them in their order."""
  for split in _SPLITS:
    yield from iterate_examples(setup.examples_path(workdir, split))


def samples_folder(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "samples" / config.method


def read_samples(
  config: ConfigDict,
  workdir: epath.Path,
  example_ids: Sequence[str] | None = None,
) -> Iterator[Record]:
  """Yields the samples of all hosts, in the order of the examples.

  Args:
    config: of the run.
    workdir: of the run.
    example_ids: yields those of these examples, in this order; None: all.
  """
  if example_ids is None:
    order = sample_order(training_examples(workdir).ids)
    return _read(config, workdir, order)
  return _read(config, workdir, sample_order(example_ids), only="example")


def _read(
  config: ConfigDict, workdir: epath.Path, order: Order, only: str | None = None
) -> Iterator[Record]:
  frames = PromptFrames.read(samples_folder(config, workdir))
  found = ordered.read(_parts(config, workdir), order, only)
  return map(frames.restore, found)


def fewest_samples(config: ConfigDict, workdir: epath.Path) -> int:
  """Of an input that has any; 0 if none has."""
  parts, by_input = _parts(config, workdir), ("example_id", "variant")
  sizes = ordered.group_sizes(parts, sample_order(()), by_input)
  return min(sizes, default=0)


def _parts(config: ConfigDict, workdir: epath.Path) -> list[Part]:
  found = samples_folder(config, workdir).glob("part-*.jsonl")
  return [*map(Part, sorted(found))]


def by_input(
  samples: Iterable[Record],
) -> Iterator[tuple[InputId, list[Record]]]:
  """Those of each input together, where they come in order."""
  name = lambda record: (record["example_id"], record["variant"])
  for input_id, group in itertools.groupby(samples, name):
    yield input_id, list(group)


class InStep(Generic[T]):
  """Records that come in the order of examples, taken an example at a time.

  Args:
    rows: the records, or what has one.
    record: gives that.
  """

  def __init__(
    self, rows: Iterable[T], record: Callable[[T], Record] = lambda row: row
  ):
    example_id = lambda row: record(row)["example_id"]
    self._groups = itertools.groupby(rows, example_id)
    self._next = next(self._groups, None)

  def take(self, example_id: str) -> list[T]:
    """Those of the next example; none if it has none."""
    if self._next is None or self._next[0] != example_id:
      return []
    found = list(self._next[1])
    self._next = next(self._groups, None)
    return found


def sample_order(example_ids: Sequence[str] | pa.StringArray) -> Order:
  """Of samples: by example, variant and number; unknown examples come last."""
  return Order(
    ("example_id", "variant", "sample"),
    'example NULLS LAST, example_id, variant, "sample"::BIGINT',
    {"example": {"example_id": example_ids}},
  )


class MostSamples(dict):
  """Most samples of an input of each example, by id; of most it is n."""

  def __init__(self, n: int, others: Mapping[str, int] | None = None):
    super().__init__(others or {})
    self._n = n

  def __missing__(self, example_id: str) -> int:
    return self._n


def most_samples(config: ConfigDict, workdir: epath.Path) -> MostSamples:
  """Most samples of an input of each example, by id.

  They are sampling.n, but where a round doubts more or less than the one before
  it (`rounds.most_samples`). The valid split, which compares System 2 with
  System 1, and the audited examples always have as many.
  """
  n = config.sampling.n
  before = setup.round_before(config, workdir)
  if before is None:
    return MostSamples(n)
  read = lambda name: records.read(before / "distill" / f"{name}.jsonl")
  examples = iterate_examples(setup.examples_path(workdir, "train"))
  train = {example.id for example in examples}
  most = rounds.most_samples(
    read("train"),
    itertools.chain(read("rejected"), read("undecided")),
    n,
    config.rounds.number,
  )
  return MostSamples(
    n,
    {
      name: count
      for name, count in most.items()
      if name in train and not is_audited(config, name)
    },
  )


def stopping_rule(config: ConfigDict, task: Task) -> StoppingRule:
  """When an input is sampled no further."""
  prompts = setup.prompts_of(config, task)
  several = methods.by_name(config.method).replies(prompts) > 1
  by_vote = config.curation.select == "vote"
  # The rule is about samples that have one vote each.
  one_vote = config.curation.nested or not several
  return StoppingRule(
    config.sampling.n,
    config.sampling.confidence if by_vote and one_vote else 0.0,
    setup.filter_of(config).thresholds,
  )


class _Sampled(NamedTuple):
  """An example that is being sampled."""

  example: Example
  votes: ExampleVotes


class _Votes:
  """Makes the votes of examples, each as far as it has been sampled.

  Args:
    config: of the run.
    workdir: of the run.
    task: whose examples they are.
    examples: those of all hosts.
    skipped: inputs that are too long, and left out.
  """

  def __init__(
    self,
    config: ConfigDict,
    workdir: epath.Path,
    task: Task,
    examples: ExampleFiles,
    skipped: Collection[InputId],
  ):
    self._config, self._task = config, task
    self._examples, self._skipped = examples, skipped
    self._most = most_samples(config, workdir)
    self._rule = stopping_rule(config, task)
    self._loose = config.curation.loose_votes
    # So many variants of every example fill the batch and the queue behind it.
    # Of the examples of all hosts, and not by rows that go by the devices: what
    # is drawn must not depend on how many there are.
    in_flight = 2 * (config.sampling.batch_rows or batch_rows.FIXED)
    self._wave_size = -(-in_flight // (len(examples) * config.sampling.n))

  def of(self, number: int, drawn: Sequence[Record]) -> _Sampled:
    """Those of the example of this number, with what was drawn of it."""
    config, task = self._config, self._task
    example = self._examples[number]
    answers = collections.defaultdict(dict)
    for record in drawn:
      answer = votes_of([record], True, self._loose)[0]
      answers[record["variant"]][record["sample"]] = answer
    audited = is_audited(config, example.id)
    rule = self._rule.of(self._most[example.id])
    if audited:
      rule = dataclasses.replace(rule, confidence=0.0)
    variants = asked(task, example)
    # The variant that is meant to lead astray settles most examples.
    by_bias = lambda variant: variant != task.biased
    by_variant = {
      v: AdaptiveVote(rule, answers[v])
      for v in sorted(variants, key=by_bias)
      if (example.id, v) not in self._skipped
    }
    _, end_of_train, _ = self._examples.edges
    in_waves = not audited and number < end_of_train
    needed = _needed(config, len(variants)) if in_waves else 0
    votes = ExampleVotes(
      by_variant, needed, self._wave_size, task.perturbations
    )
    return _Sampled(example, votes)


def _needed(config: ConfigDict, variants: int) -> int:
  """Of so many, those that must win with one answer, or it is given up."""
  by_vote = config.curation.select == "vote"
  if not (by_vote and config.sampling.give_up):
    return 0
  share = config.curation.min_agreement * variants
  return math.ceil(share - 1e-9)


def is_audited(config: ConfigDict, example_id: str) -> bool:
  """Whether this example is sampled in full, to check on early decisions."""
  name = f"{config.seed}\x1faudit\x1f{example_id}"
  draw = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(draw, "big") < config.sampling.audit * 2**64


def inputs_of(task: Task, examples: Iterable[Example], replies: int) -> Inputs:
  """Examples in all variants, with so many replies each."""
  fields = (
    task.fields(example, variant)
    for example in examples
    for variant in asked(task, example)
  )
  return Inputs(fields, replies)


def make_job(
  task: Task,
  example: Example,
  variant: str,
  number: int | str,
  sampling: Sampling,
  scheduler: str = "",
) -> Job:
  """A sample of one input, with a name, and so a key, of its own."""
  return Job(
    (example.id, variant, number),
    task.fields(example, variant),
    sampling,
    shared_name=(example.id, number),
    scheduler=scheduler,
  )


def reply_and_answer(task: Task, example: Example, result: Result) -> Record:
  """The fields "reply", "answer" and "tier" of a sample's record.

  The tier is that of an `Answer`, None without an answer. Several answers to
  one thought stand beside the one most of them give; "too_long", where there
  is none, as a prompt did not fit the model's window; and "unended", where the
  thought did not end by itself.
  """
  variant = result.job.name[1]
  found: list[Answer | None] = [None] * len(result.replies)
  if result.too_long is None:
    found = [task.answer(example, variant, text) for text in result.replies]
  answers = [one and one.text for one in found]
  tiers = [one and one.tier for one in found]
  answer = vote(answers).winner
  number = 0 if answer is None else answers.index(answer)
  record = {"reply": result.replies[number], "answer": answer}
  record |= {"tier": None if answer is None else tiers[number]}
  if len(answers) > 1:
    record |= {"replies": result.replies, "answers": answers, "tiers": tiers}
  if result.too_long is not None:
    record["too_long"] = result.too_long
  if result.unended:
    record["unended"] = True
  return record


def step_records(result: Result) -> list[Record]:
  """The steps of a sample, as its record has them."""
  return [
    {
      "prompt": step.prompt,
      "text": step.completion.text,
      "tokens": len(step.completion.tokens),
      "prompt_tokens": step.prompt_tokens,
      "logprob": round(step.completion.logprob, 4),
      "finish": step.completion.finish_reason,
    }
    for step in result.steps
  ]


def _record(
  task: Task, example: Example, result: Result, frames: PromptFrames
) -> Record:
  _, variant, number = result.job.name
  name = {"example_id": example.id, "variant": variant, "sample": number}
  reply = reply_and_answer(task, example, result)
  steps = [frames.split(step) for step in step_records(result)]
  return name | {"steps": steps} | reply


def prompt_frames(
  config: ConfigDict, task: Task, model: Pretrained
) -> PromptFrames:
  """What the prompts of the run's method stand in."""
  chat = setup.chat_template(config, model)
  templates = for_chat(setup.prompts_of(config, task, config.method), chat)
  return PromptFrames(frame_of(one, chat) for one in templates.values())


@dataclasses.dataclass
class _Progress:
  """How far the examples are whose samples a host has read.

  Attributes:
    decided: of each of them, whether it needs no more samples.
    begun: of each sample of those that need more, the number of its example,
      and its place: one behind the other, for `Begun`.
    cut: samples that ended at a prompt that was too long.
    stats: of what there is.
  """

  decided: np.ndarray
  begun: array.array[int]
  cut: list[LongRow]
  stats: SamplingStats


def _recovered(
  config: ConfigDict,
  task: Task,
  examples: ExampleFiles,
  votes: _Votes,
  skipped: Collection[InputId],
  shards: RecordShards,
) -> _Progress:
  """What earlier starts have drawn of this host's part of the examples."""
  numbers, ids = shards.share(range(len(examples))), shards.share(examples.ids)
  found = _Progress(
    np.zeros(len(numbers), bool),
    array.array("q"),
    [],
    SamplingStats(setup.filter_of(config), task.perturbations, shards.count()),
  )
  have_long = {example_id for example_id, _ in skipped}
  located = shards.located(sample_order(ids), only="example")
  drawn = InStep(located, record=lambda one: one[1])
  for index, number in enumerate(numbers):
    example_id = ids[index].as_py()
    there = drawn.take(example_id)
    # Those of which every input is too long have no samples, and need none.
    if not there and example_id not in have_long:
      continue
    samples = [record for _, record in there]
    example, own = votes.of(number, samples)
    found.cut += _cut_short(config, samples)
    if own.start():
      for place, _ in there:
        found.begun.extend((number, *place))
    else:
      found.decided[index] = True
      found.stats.recover(samples)
      found.stats.decide(example_id, asked(task, example))
  return found


def _dealt(
  there: _Progress, shards: RecordShards
) -> tuple[Deal[int], Begun, int]:
  """What this host gets, what was begun, and how many examples are done.

  It gets numbers of examples, those first that were begun.

  Args:
    there: what this host has read.
    shards: of the samples.
  """
  decided = shards.flags_of_all("decided", there.decided)
  begun = Begun(shards, there.begun)
  is_new = ~decided
  is_new[begun.numbers] = False
  numbers = np.concatenate([begun.numbers, np.flatnonzero(is_new)])
  return shards.deal(numbers), begun, int(decided.sum())


def _sample(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  examples: ExampleFiles,
  skipped: Collection[InputId],
  shards: RecordShards,
) -> None:
  """Draws what is missing, as far as it is dealt to this host."""
  made = _Votes(config, workdir, task, examples, skipped)
  there = _recovered(config, task, examples, made, skipped, shards)
  dealt, begun, done = _dealt(there, shards)
  if done == len(examples):
    return
  model = setup.thinker(config, workdir)
  setup.check_chats(config, model)  # it may be another than `prepare` saw
  scheduler = setup.scheduler(
    config,
    model,
    task,
    config.method,
    _first_round(config, task),
    inputs_of(task, examples, config.sampling.n),
  )
  frames = prompt_frames(config, task, model)
  if hosts.is_lead():
    frames.write(samples_folder(config, workdir))
  sampling = setup.sampling_of(config)
  stats, cut, loose = there.stats, there.cut, config.curation.loose_votes
  under_way: dict[str, _Sampled] = {}  # by the example's id
  new_jobs = lambda example, samples: [
    make_job(task, example, *sample, sampling) for sample in samples
  ]

  def begin(number: int) -> list[Job]:
    drawn = begun.samples(number)
    stats.recover(drawn)
    example, votes = made.of(number, drawn)
    under_way[example.id] = _Sampled(example, votes)
    return new_jobs(example, votes.start())

  jobs = DealtJobs.of(dealt, begin, [scheduler])
  results = scheduler.run(jobs)
  total = len(examples)
  bar = program.progress("sample", total, "examples", done, dealt.is_shared)
  curve = program.curve(workdir, "sample", stats.samples)
  with curve:
    with bar as progress:
      for result in profiling.traced("sample", results):
        example_id, variant, number = result.job.name
        example, votes = under_way[example_id]
        record = _record(task, example, result, frames)
        shards.append(record)
        stats.add(record)
        if long_rows.is_cut_short(record):
          cut += _cut_short(config, [record])
          # Those that end so end first: what is under way may fit.
          drawn = stats.samples + scheduler.in_flight
          long_rows.check(cut, drawn, "samples", config.too_long)
        answer = votes_of([record], nested=True, loose=loose)[0]
        more = votes.receive(variant, number, answer)
        # In front: what is under way is finished before more is begun.
        jobs.put_first(new_jobs(example, more))
        is_decided = votes.is_decided
        if is_decided:
          stats.decide(example_id, asked(task, example))
          del under_way[example_id]
        progress.advance(is_decided, stats.status, result.tokens)
        if stats.is_due:
          curve.append(stats.line(progress.done, total))
    if stats.has_news:
      curve.append(stats.line(progress.done, total))


def _cut_short(config: ConfigDict, samples: Iterable[Record]) -> list[LongRow]:
  """Those that ended at a prompt that was too long, and where."""
  model = setup.base_without_weights(config)
  return [
    LongRow(
      record["example_id"],
      f"{record['variant']}/{record['sample']}",
      f"prompt {len(record['steps']) + 1} of {record['too_long']} tokens and"
      " its reply",
      lengths.window_limit(model.config.max_context),
    )
    for record in samples
    if long_rows.is_cut_short(record)
  ]


def _first_round(config: ConfigDict, task: Task) -> int:
  """Samples of an input's first round: they share its prompt."""
  return max(1, stopping_rule(config, task).samples_needed([]))


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
