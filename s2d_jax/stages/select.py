"""Has the model itself pick the reply that agrees best with the others.

Universal self-consistency (Chen et al. 2023), for replies in free form, where
a vote finds no two that are equal. The model is asked with the replies in
several orders, and what it names in most of them is chosen. Writes
selections/<method>.jsonl; does nothing unless curation.select is "usc".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows
from s2d_jax.curation.choice import (
  choices_of,
  position_bias,
  same_words,
  survivor,
)
from s2d_jax.curation.curate import InputId
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.generation.sampling import GREEDY
from s2d_jax.ordered import Order
from s2d_jax.parallel import hosts
from s2d_jax.parallel.dealing import Deal
from s2d_jax.stages import program, sample, setup
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2.consistency import chosen, number_responses, orders
from s2d_jax.system2.dealt_jobs import DealtJobs
from s2d_jax.system2.scheduler import Job, Result
from s2d_jax.tasks.task import Example, Task


@program.stage("select", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Asks for every input that was sampled, in several orders."""
  if config.curation.select != "usc":
    return "not needed: answers are chosen without the model"
  task = setup.task_of(config)
  inputs = [
    input_id
    for input_id, group in sample.by_input(sample.read_samples(config, workdir))
    if not all(map(long_rows.is_too_long, group))
  ]
  path, scope = _path(config, workdir), config.sampling.scope
  with RecordShards.merged_into(path, _order(inputs), scope) as shards:
    there = shards.names()
    left = [one for one in inputs if one not in there]
    if left:
      replies = _replies_in_order(config, workdir, left)
      model = setup.base_model(config)
      choose(config, model, task, shards.deal(left), replies, shards.append)
  choices = list(records.read(path))
  count = sum(choice["chosen"] is not None for choice in choices)
  summary = f"{count} of {len(choices)} inputs have a chosen reply"
  summary += _too_long(config, choices)
  bias = position_bias(choices)
  if bias is None:
    return summary
  if bias.is_chance and hosts.is_lead():
    print(
      "select: warning: the model's choices are no better than chance; give"
      " the task answers that can be voted on, or take a larger model",
      flush=True,
    )
  return f"{summary}; {bias}"


class ToChoose(NamedTuple):
  """The replies to an input of an example."""

  example: Example
  texts: Sequence[str]


def _replies_in_order(
  config: ConfigDict, workdir: epath.Path, inputs: Sequence[InputId]
) -> Callable[[InputId], ToChoose]:
  """Gives the replies to one of these inputs, and then only to later ones."""
  ids = list(dict.fromkeys(example_id for example_id, _ in inputs))
  drawn = sample.by_input(sample.read_samples(config, workdir, ids))
  examples = sample.iterate_training_examples(workdir)
  example = next(examples)

  def replies(input_id: InputId) -> ToChoose:
    nonlocal example
    while example.id != input_id[0]:
      example = next(examples)
    found = next(group for name, group in drawn if name == input_id)
    return ToChoose(example, [record["reply"] for record in found])

  return replies


def _order(inputs: Sequence[InputId]) -> Order:
  """Of rows: as the inputs are."""
  place = {
    "example_id": [example_id for example_id, _ in inputs],
    "variant": [variant for _, variant in inputs],
  }
  return Order(tuple(place), "place", {"place": place})


def _too_long(config: ConfigDict, choices: Sequence[records.Record]) -> str:
  """What becomes of replies that are too long together to be shown."""
  long = [
    LongRow(
      row["example_id"],
      row["variant"],
      f"its replies, a prompt of {row['too_long']} tokens,",
      "the model's window",
    )
    for row in choices
    if long_rows.is_too_long(row)
  ]
  long_rows.check(
    long, len(choices), "prompts to choose a reply", config.too_long
  )
  names = long_rows.listed(row.name for row in long)
  return f"; too long to choose: {len(long):,} {names}" if long else ""


def _path(config: ConfigDict, workdir: epath.Path) -> epath.Path:
  return workdir / "selections" / f"{config.method}.jsonl"


def read_choices(
  config: ConfigDict, workdir: epath.Path
) -> dict[InputId, list[int | None]]:
  """The numbers of the samples that were chosen, one an order, by input."""
  if config.curation.select != "usc":
    return {}
  return {
    (record["example_id"], record["variant"]): choices_of(record)
    for record in records.read(_path(config, workdir))
  }


class _Begun(NamedTuple):
  """An input that the model is being asked about.

  Attributes:
    texts: the replies to choose from.
    orders: in which they are shown.
    results: so far, by the number of the order.
  """

  texts: Sequence[str]
  orders: Sequence[Sequence[int]]
  results: dict[int, Result]


def choose(
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  inputs: Deal[InputId],
  replies_to: Callable[[InputId], ToChoose],
  write: Callable[[records.Record], None],
) -> None:
  """Asks the model, greedily, for the most consistent reply to each input.

  Args:
    config: of the run.
    model: that is asked.
    task: whose examples they are.
    inputs: of all hosts.
    replies_to: gives those to one, in the order in which they are dealt.
    write: takes the row of one.
  """
  begun: dict[InputId, _Begun] = {}

  def begin(input_id: InputId) -> list[Job]:
    example, texts = replies_to(input_id)
    shown = orders(len(texts), config.seed, *input_id)
    begun[input_id] = _Begun(texts, shown, {})
    example_id, variant = input_id
    fields = task.fields(example, variant)
    jobs = []
    for number, order in enumerate(shown):
      responses = number_responses([texts[index] for index in order])
      name = example_id, variant, "usc", number
      jobs.append(Job(name, {**fields, "responses": responses}, GREEDY))
    return jobs

  scheduler = setup.scheduler(config, model, task, "usc", 1, inputs=None)
  jobs = DealtJobs.of(inputs, begin, [scheduler])
  bar = program.progress(
    "select", len(inputs.items), "inputs", is_joint=inputs.is_shared
  )
  with bar as progress:
    for result in scheduler.run(jobs):
      example_id, variant, _, number = result.job.name
      input_id = example_id, variant
      texts, shown, results = begun[input_id]
      results[number] = result
      is_whole = len(results) == len(shown)
      if is_whole:
        del begun[input_id]
        in_order = [one for _, one in sorted(results.items())]
        write(_row(input_id, texts, shown, in_order))
      progress.advance(is_whole, tokens=result.tokens)


def _row(
  input_id: InputId,
  texts: Sequence[str],
  shown: Sequence[Sequence[int]],
  results: Sequence[Result],
) -> records.Record:
  """What the model chose in each of the orders, and over all of them."""
  example_id, variant = input_id
  replies = [result.replies[0] for result in results]
  named = [chosen(reply, len(texts)) for reply in replies]
  row = {
    "example_id": example_id,
    "variant": variant,
    "replies": replies,
    "orders": shown,
    "choices": [
      None if at is None else order[at]
      for order, at in zip(shown, named, strict=True)
    ],
    "same_as": same_words(texts),
    "tokens": sum(result.tokens for result in results),
    "prompt_tokens": sum(result.prompt_tokens for result in results),
  }
  too_long = [r.too_long for r in results if r.too_long is not None]
  if too_long:
    row["too_long"] = max(too_long)
  return row | {"chosen": survivor(choices_of(row))}


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
