"""Samples the method's reasoning and answers for every unlabelled input.

Each sample is appended to samples/<method>/ when it ends; a stage that was
killed goes on with the samples that are missing, and draws them as it would
have drawn them before. An input whose vote is decided is sampled no further,
and one that is too long to be learnt from is not sampled (config.too_long).
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
import dataclasses
import hashlib
import math

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import profiling, records
from s2d_jax.answers.answer import Answer
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows, rounds
from s2d_jax.curation.adaptive import (
  AdaptiveVote,
  ExampleVotes,
  SampleId,
  StoppingRule,
)
from s2d_jax.curation.curate import InputId, votes_of
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.curation.vote import vote
from s2d_jax.errors import UserError
from s2d_jax.generation.sampling import Sampling
from s2d_jax.parallel import hosts
from s2d_jax.records import Record
from s2d_jax.stages import lengths, program, setup
from s2d_jax.stages.sampling_stats import SamplingStats
from s2d_jax.stages.shards import RecordShards, SortKey, read_shards
from s2d_jax.system2 import methods
from s2d_jax.system2.scheduler import Job, Result
from s2d_jax.tasks.task import Example, Task, asked, read_examples


@program.stage("sample", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Samples the train and valid splits; curation decides by the answers."""
  if config.curation.select == "label":
    return "none needed: the labels are taught"
  task = setup.task_of(config)
  long = _measure(config, workdir, task)
  examples = training_examples(workdir)
  folder = samples_folder(config, workdir)
  sort_key = _sort_key(examples)
  with RecordShards(folder, sort_key, config.sampling.scope) as shards:
    most = most_samples(config, workdir)
    votes = _votes(config, workdir, task, examples, long["train"], most, shards)
    missing = {name: example.start() for name, example in votes.items()}
    if any(missing.values()):
      _sample(config, workdir, task, examples, votes, missing, shards)
  samples = read_samples(config, workdir)
  inputs = {(e.id, v) for e in examples.values() for v in asked(task, e)}
  inputs -= {(row.example_id, row.variant) for row in long["train"]}
  drawn, full = len(samples), in_full(most, inputs, samples)
  cut = [_name(record) for record in samples if long_rows.is_cut_short(record)]
  ended = f", {len(cut):,} too long at a later prompt {long_rows.listed(cut)}"
  return (
    f"{drawn} samples of {config.method} over {len(examples)} examples"
    f" ({len(shards.recovered)} were there, {full - drawn} of {full} not"
    f" needed){ended if cut else ''}{_unended(config, samples)}"
    f"{lengths.summary(long)}"
  )


def _unended(config: ConfigDict, samples: Sequence[Record]) -> str:
  """Of thoughts without an end, to stand behind other words; may be empty.

  Raises:
    UserError: no thought had an end, and none was closed.
  """
  unended = [record for record in samples if record.get("unended")]
  closed = sum(bool(record["reply"]) for record in unended)
  if unended and not closed and len(unended) == len(samples):
    limit = f"prompts.{config.method}.max_new_tokens"
    raise UserError(
      f"none of {len(samples):,} thoughts ended within its budget, so there is"
      f" no answer at all; raise {limit}, or set"
      f" prompts.{config.method}.budget_forcing = True, and use another"
      " --workdir"
    )
  if not unended:
    return ""
  by_force = f", {closed:,} of them closed by force" if closed else ""
  return f", {without_end([*map(_name, unended)])}{by_force}"


def without_end(names: Sequence[str]) -> str:
  """As "2 thoughts without an end (a/plain, b/plain)"."""
  thoughts = long_rows.counted(len(names), "thought")
  return f"{thoughts} without an end {long_rows.listed(names)}"


def _measure(
  config: ConfigDict, workdir: epath.Path, task: Task
) -> dict[str, list[LongRow]]:
  """Inputs with a prompt that is too long; writes those that are left out."""
  found = lengths.check_prompts(
    config,
    task,
    {
      split: read_examples(setup.examples_path(workdir, split))
      for split in ("train", "valid", "test")
    },
  )
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


def training_examples(workdir: epath.Path) -> dict[str, Example]:
  """The examples that are sampled to learn from, by id: train, then valid."""
  return {
    example.id: example
    for split in ("train", "valid")
    for example in read_examples(setup.examples_path(workdir, split))
  }


def samples_folder(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "samples" / config.method


def read_samples(config: ConfigDict, workdir: epath.Path) -> list[Record]:
  """The samples of all hosts, in the order of the examples."""
  found = samples_folder(config, workdir).glob("part-*.jsonl")
  return read_shards(sorted(found), _sort_key(training_examples(workdir)))


def _sort_key(examples: Mapping[str, Example]) -> SortKey:
  order = {example_id: number for number, example_id in enumerate(examples)}

  def sort_key(record: Record) -> tuple[int, str, str, int]:
    example_id = record["example_id"]
    number = order.get(example_id, len(order))
    return number, example_id, record["variant"], record["sample"]

  return sort_key


def most_samples(config: ConfigDict, workdir: epath.Path) -> dict[str, int]:
  """Most samples of an input of each example, by id.

  They are sampling.n, but where a round doubts more or less than the one before
  it (`rounds.most_samples`). The valid split, which compares System 2 with
  System 1, and the audited examples always have as many.
  """
  n = config.sampling.n
  found = dict.fromkeys(training_examples(workdir), n)
  before = setup.round_before(config, workdir)
  if before is None:
    return found
  read = lambda name: list(records.read(before / "distill" / f"{name}.jsonl"))
  train = {e.id for e in read_examples(setup.examples_path(workdir, "train"))}
  most = rounds.most_samples(
    read("train"),
    read("rejected") + read("undecided"),
    n,
    config.rounds.number,
  )
  return found | {
    name: count
    for name, count in most.items()
    if name in train and not is_audited(config, name)
  }


def in_full(
  most: Mapping[str, int],
  inputs: Collection[InputId],
  samples: Sequence[Record],
) -> int:
  """Samples of these inputs if no vote were decided early.

  No fewer than there are: a round may take some over.

  Args:
    most: samples of an input of each example, as `most_samples` has them.
    inputs: all that are asked.
    samples: those that there are.
  """
  drawn = collections.Counter((r["example_id"], r["variant"]) for r in samples)
  return sum(max(most[name[0]], drawn[name]) for name in inputs)


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


def _votes(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  examples: Mapping[str, Example],
  long: Sequence[LongRow],
  most: Mapping[str, int],
  shards: RecordShards,
) -> dict[str, ExampleVotes]:
  """This host's examples, each as far as it has been sampled.

  Those variants are left out that are `long`, and each other has `most` samples
  of its example at most.
  """
  answers = collections.defaultdict(dict)
  loose = config.curation.loose_votes
  for record in shards.recovered:
    input_id = record["example_id"], record["variant"]
    answer = votes_of([record], nested=True, loose=loose)[0]
    answers[input_id][record["sample"]] = answer
  valid = {e.id for e in read_examples(setup.examples_path(workdir, "valid"))}
  skipped = {(row.example_id, row.variant) for row in long}
  rule = stopping_rule(config, task)
  # The variant that is meant to lead astray settles most examples.
  by_bias = lambda variant: variant != task.biased
  # So many variants of every example fill the batch and the queue behind it.
  # Of the examples of all hosts: what is drawn must not depend on their number.
  in_flight = 2 * config.sampling.batch_rows
  wave_size = -(-in_flight // (len(examples) * config.sampling.n))

  def votes(example_id: str) -> ExampleVotes:
    audited = is_audited(config, example_id)
    own = rule.of(most[example_id])
    if audited:
      own = dataclasses.replace(own, confidence=0.0)
    variants = asked(task, examples[example_id])
    by_variant = {
      v: AdaptiveVote(own, answers[example_id, v])
      for v in sorted(variants, key=by_bias)
      if (example_id, v) not in skipped
    }
    in_waves = not audited and example_id not in valid
    needed = _needed(config, len(variants)) if in_waves else 0
    return ExampleVotes(by_variant, needed, wave_size, task.perturbations)

  return {name: votes(name) for name in shards.share(list(examples))}


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


def make_job(
  task: Task,
  example: Example,
  variant: str,
  number: int | str,
  sampling: Sampling,
) -> Job:
  """A sample of one input, with a name, and so a key, of its own."""
  return Job(
    (example.id, variant, number),
    task.fields(example, variant),
    sampling,
    shared_name=(example.id, number),
  )


def reply_and_answer(task: Task, example: Example, result: Result) -> Record:
  """The fields "reply", "answer" and "tier" of a sample's record.

  The tier is "strict" or "loose", None without an answer. Several answers to
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


def _record(task: Task, example: Example, result: Result) -> Record:
  _, variant, number = result.job.name
  name = {"example_id": example.id, "variant": variant, "sample": number}
  reply = reply_and_answer(task, example, result)
  return name | {"steps": step_records(result)} | reply


def _sample(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  examples: Mapping[str, Example],
  votes: Mapping[str, ExampleVotes],
  missing: Mapping[str, list[SampleId]],
  shards: RecordShards,
) -> None:
  model = setup.thinker(config, workdir)
  setup.check_chats(config, model)  # it may be another than `prepare` saw
  scheduler = setup.scheduler(
    config, model, task, config.method, _first_round(config, task)
  )
  sampling = setup.sampling_of(config)
  new_jobs = lambda example_id, samples: [
    make_job(task, examples[example_id], *sample, sampling)
    for sample in samples
  ]
  jobs = collections.deque(
    job
    for example_id, samples in missing.items()
    for job in new_jobs(example_id, samples)
  )
  decided = {name for name, samples in missing.items() if not samples}
  rule = setup.filter_of(config)
  variants = {name: asked(task, examples[name]) for name in votes}
  stats = SamplingStats(
    rule, variants, task.perturbations, shards.recovered, decided, len(votes)
  )
  cut = [_cut(model, r) for r in shards.recovered if long_rows.is_cut_short(r)]
  results = scheduler.run(jobs)
  bar = program.progress("sample", len(votes), "examples", len(decided))
  curve = program.curve(workdir, "sample", stats.samples)
  with bar as progress, curve:
    for result in profiling.traced("sample", results):
      example_id, variant, number = result.job.name
      record = _record(task, examples[example_id], result)
      shards.append(record)
      if long_rows.is_cut_short(record):
        cut.append(_cut(model, record))
        # Those that end so end first: what is under way may fit.
        begun = stats.samples + 1 + scheduler.in_flight
        long_rows.check(cut, begun, "samples", config.too_long)
      answer = votes_of([record], nested=True, loose=rule.loose_votes)[0]
      more = votes[example_id].receive(variant, number, answer)
      # In front: what is under way is finished before more is begun.
      jobs.extendleft(reversed(new_jobs(example_id, more)))
      is_decided = votes[example_id].is_decided
      stats.add(record, is_decided)
      progress.advance(is_decided, stats.status, result.tokens)
      if stats.is_due:
        curve.append(stats.line())


def _cut(model: Pretrained, record: Record) -> LongRow:
  return LongRow(
    record["example_id"],
    f"{record['variant']}/{record['sample']}",
    f"prompt {len(record['steps']) + 1} of {record['too_long']} tokens and its"
    " reply",
    lengths.window_limit(model.config.max_context),
  )


def _first_round(config: ConfigDict, task: Task) -> int:
  """Samples of an input's first round: they share its prompt."""
  return max(1, stopping_rule(config, task).samples_needed([]))


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
