"""Thinks: passes of the method over every unlabelled input.

Each pass is appended to samples/<method>/ when it ends; a stage that was
killed goes on with the passes that are missing, and draws them as it would
have drawn them before. An input whose vote is decided is sampled no further.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import dataclasses
import hashlib
import math

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import profiling
from s2d_jax.curation.adaptive import (
  AdaptiveVote,
  ExampleVotes,
  SampleId,
  StoppingRule,
)
from s2d_jax.curation.curate import votes_of
from s2d_jax.curation.vote import vote
from s2d_jax.records import Record
from s2d_jax.stages import program, setup
from s2d_jax.stages.parts import Parts, Place, read
from s2d_jax.stages.tally import Tally
from s2d_jax.system2.scheduler import Job, Result
from s2d_jax.tasks.task import Example, Task, read_examples


@program.stage("sample", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Samples the train and valid splits; curation decides by the answers."""
  if config.curation.select == "label":
    return "none needed: the labels are taught"
  task = setup.task_of(config)
  examples = learned(workdir)
  folder = samples_folder(config, workdir)
  with Parts(folder, _place(examples), config.sampling.scope) as parts:
    polls = _polls(config, workdir, task, examples, parts)
    passes = {example_id: poll.start() for example_id, poll in polls.items()}
    if any(passes.values()):
      _sample(config, workdir, task, examples, polls, passes, parts)
  made = len(read_samples(config, workdir))
  full = config.sampling.n * len(task.variants) * len(examples)
  return (
    f"{made} passes of {config.method} over {len(examples)} examples"
    f" ({len(parts.recovered)} were there, {full - made} of {full} not needed)"
  )


def learned(workdir: epath.Path) -> dict[str, Example]:
  """The examples that are learned from, by id: train, then valid."""
  return {
    example.id: example
    for split in ("train", "valid")
    for example in read_examples(setup.examples_path(workdir, split))
  }


def samples_folder(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "samples" / config.method


def read_samples(config: ConfigDict, workdir: epath.Path) -> list[Record]:
  """The passes of all hosts, in the order of the examples."""
  found = samples_folder(config, workdir).glob("part-*.jsonl")
  return read(sorted(found), _place(learned(workdir)))


def _place(examples: Mapping[str, Example]) -> Place:
  order = {example_id: number for number, example_id in enumerate(examples)}

  def place(record: Record) -> tuple[int, str, str, int]:
    example_id = record["example_id"]
    number = order.get(example_id, len(order))
    return number, example_id, record["variant"], record["sample"]

  return place


def stopping(config: ConfigDict, task: Task) -> StoppingRule:
  """When an input is sampled no further."""
  prompts = setup.prompts_of(config, task)
  several = max(prompt.n for prompt in prompts.values()) > 1
  by_vote = config.curation.select == "vote"
  # The rule is about passes that have one vote each.
  one_vote = config.curation.nested or not several
  return StoppingRule(
    config.sampling.n,
    config.sampling.confidence if by_vote and one_vote else 0.0,
    setup.filter_of(config).thresholds,
  )


def _polls(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  examples: Mapping[str, Example],
  parts: Parts,
) -> dict[str, ExampleVotes]:
  """This host's examples, each as far as it has been sampled."""
  done = collections.defaultdict(dict)
  for record in parts.recovered:
    name = record["example_id"], record["variant"]
    done[name][record["sample"]] = votes_of([record], nested=True)[0]
  valid = {e.id for e in read_examples(setup.examples_path(workdir, "valid"))}
  rule = stopping(config, task)
  in_full = dataclasses.replace(rule, confidence=0.0)
  # The variant that is meant to lead astray settles most examples.
  order = sorted(task.variants, key=lambda variant: variant != task.biased)
  needed = _needed(config, task)
  # So many variants of every example fill the batch and the queue behind it.
  # Of the examples of all hosts: what is drawn must not depend on their number.
  room = 2 * config.sampling.batch_rows
  together = -(-room // (len(examples) * config.sampling.n))

  def poll(example_id: str) -> ExampleVotes:
    checks = audited(config, example_id)
    own = in_full if checks else rule
    inputs = {v: AdaptiveVote(own, done[example_id, v]) for v in order}
    in_waves = not checks and example_id not in valid
    return ExampleVotes(inputs, needed if in_waves else 0, together)

  return {name: poll(name) for name in parts.share(list(examples))}


def _needed(config: ConfigDict, task: Task) -> int:
  """Variants that must win with one answer, or the example is given up."""
  by_vote = config.curation.select == "vote"
  if not (by_vote and config.sampling.give_up):
    return 0
  share = config.curation.min_agreement * len(task.variants)
  return math.ceil(share - 1e-9)


def audited(config: ConfigDict, example_id: str) -> bool:
  """Whether this example is sampled in full, to check on early decisions."""
  name = f"{config.seed}\x1faudit\x1f{example_id}"
  lot = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(lot, "big") < config.sampling.audit * 2**64


def job(task: Task, example: Example, variant: str, number: int) -> Job:
  """A pass over one input, with a name, and so a key, of its own."""
  return Job((example.id, variant, number), task.fields(example, variant))


def said(task: Task, example: Example, result: Result) -> Record:
  """What a pass comes to: its reply and answer.

  Several answers to one thought stand beside the one most of them give.
  """
  variant = result.job.name[1]
  answers = [task.answer(example, variant, reply) for reply in result.replies]
  answer = vote(answers).winner
  number = 0 if answer is None else answers.index(answer)
  record = {"reply": result.replies[number], "answer": answer}
  if len(answers) > 1:
    record |= {"replies": result.replies, "answers": answers}
  return record


def _record(task: Task, example: Example, result: Result) -> Record:
  _, variant, number = result.job.name
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
  name = {"example_id": example.id, "variant": variant, "sample": number}
  return name | {"steps": steps} | said(task, example, result)


def _sample(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  examples: Mapping[str, Example],
  polls: Mapping[str, ExampleVotes],
  passes: Mapping[str, list[SampleId]],
  parts: Parts,
) -> None:
  model = setup.base_model(config)
  scheduler = setup.scheduler(
    config, model, task, config.method, _at_once(config, task)
  )
  new_jobs = lambda example_id, drawn: [
    job(task, examples[example_id], *one) for one in drawn
  ]
  jobs = collections.deque(
    one
    for example_id, drawn in passes.items()
    for one in new_jobs(example_id, drawn)
  )
  decided = {name for name, drawn in passes.items() if not drawn}
  rule = setup.filter_of(config)
  tally = Tally(rule, task.variants, parts.recovered, decided, len(polls))
  results = scheduler.run(jobs, setup.sampling_of(config))
  bar = program.progress("sample", len(polls), "examples", len(decided))
  with bar as progress, program.curve(workdir, "sample", tally.passes) as curve:
    for result in profiling.traced("sample", results):
      example_id, variant, number = result.job.name
      record = _record(task, examples[example_id], result)
      parts.append(record)
      answer = votes_of([record], nested=True)[0]
      following = polls[example_id].receive(variant, number, answer)
      # In front: what is under way is finished before more is begun.
      jobs.extendleft(reversed(new_jobs(example_id, following)))
      is_over = polls[example_id].is_decided
      tally.add(record, is_over)
      progress.advance(is_over, tally.status, result.tokens)
      if tally.is_due:
        curve.append(tally.line())


def _at_once(config: ConfigDict, task: Task) -> int:
  """Passes of the first round over an input: they share its prompt."""
  return max(1, stopping(config, task).samples_needed([]))


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
