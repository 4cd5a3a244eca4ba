"""Keeps the answers that the samples agree on, and drops the thinking.

Writes distill/train.jsonl and distill/valid.jsonl (prompt and target) and
distill/rejected.jsonl (with the reason; too long is what does not fit a row of
the fine-tune, see config.too_long), and what adaptive voting has saved to
metrics/voting.json. A round (config.rounds) keeps what was believed before it
where it decides nothing, and writes to distill/undecided.jsonl where that is.
Labels are not read, but for curation.select="label".
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
import json

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.curation import long_rows, refine, rounds, thoughts
from s2d_jax.curation.adaptive import StoppingRule, stopping_time
from s2d_jax.curation.curate import (
  Formatter,
  InputId,
  curate,
  supervised,
  votes_of,
)
from s2d_jax.curation.curve import explain_empty
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.errors import KeptTooLittle, UserError
from s2d_jax.records import Record
from s2d_jax.stages import lengths, program, sample, select, setup
from s2d_jax.system2 import methods
from s2d_jax.system2.cot import reasoning, statement
from s2d_jax.tasks.task import (
  Example,
  Task,
  asked,
  read_examples,
  sentence_of,
  without_perturbations,
)


@program.stage("curate")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Decides over the samples of the train and valid splits."""
  task = setup.task_of(config)
  chosen = select.read_choices(config, workdir)
  samples = sample.read_samples(config, workdir)
  not_asked = sample.left_out(config, workdir)
  _tell_of_changed_limit(config, not_asked)
  rejected, undecided, counts = [], [], {}
  for split in ("train", "valid"):
    examples = {
      example.id: example
      for example in read_examples(setup.examples_path(workdir, split))
    }
    formatter = make_formatter(config, task, examples)
    if config.curation.select == "label":
      accepted = _from_labels(config, task, examples, formatter, samples)
      dropped = []
    else:
      accepted, dropped = curate(
        [record for record in samples if record["example_id"] in examples],
        {name: asked(task, example) for name, example in examples.items()},
        formatter,
        setup.filter_of(config),
        chosen,
        not_asked,
        task.perturbations,
      )
    if config.rounds.number:
      earlier = _believed_before(config, workdir, split)
      found = rounds.join(accepted, dropped, earlier, config.rounds.number)
      accepted, dropped = _in_order(found.accepted, examples), found.rejected
      undecided += found.undecided
    accepted, refined = _refine(config, accepted, split)
    dropped += refined
    if not accepted:
      raise KeptTooLittle(
        f"curation kept nothing of the {split} split;"
        f" {explain_empty(dropped, config.curation.min_agreement)}"
      )
    records.write(workdir / "distill" / f"{split}.jsonl", accepted)
    rejected += dropped
    counts[split] = len(accepted), len(accepted) + len(dropped)
  records.write(workdir / "distill" / "rejected.jsonl", rejected)
  if config.rounds.number:
    records.write(workdir / "distill" / "undecided.jsonl", undecided)
  long = [
    f"{record['example_id']}/{record['variant']}"
    for record in rejected
    if record["reason"] == long_rows.REASON
  ]
  if samples:
    variants = {
      name: asked(task, example)
      for name, example in sample.training_examples(workdir).items()
    }
    saving = _savings(config, workdir, variants, samples, not_asked)
    saving["too_long"] = len(long)
    path = workdir / "metrics" / "voting.json"
    records.write_text(path, json.dumps(saving) + "\n")
  summary = ", ".join(
    f"kept {kept} of {total} {split} inputs ({kept / total:.0%})"
    for split, (kept, total) in counts.items()
  )
  if undecided:
    summary += f"; {len(undecided):,} of them are believed since earlier rounds"
  if long:
    summary += f"; {len(long):,} too long {long_rows.listed(long)}"
  return f"{summary}; {_forms(samples)}" if samples else summary


def _believed_before(
  config: ConfigDict, workdir: epath.Path, split: str
) -> list[Record]:
  """What the round before taught of a split; nothing in the first."""
  before = setup.round_before(config, workdir)
  if before is None:
    return []
  return list(records.read(before / "distill" / f"{split}.jsonl"))


def _in_order(
  accepted: Sequence[Record], examples: Mapping[str, Example]
) -> list[Record]:
  """As curation orders them: by example, then by variant."""
  order = {name: number for number, name in enumerate(examples)}
  by_input = lambda row: (order[row["example_id"]], row["variant"])
  return sorted(accepted, key=by_input)


def _forms(samples: Sequence[Record]) -> str:
  """How surely the answers of the samples were read."""
  tiers = collections.Counter(
    tier for s in samples for tier in s.get("tiers", [s.get("tier")])
  )
  strict, loose, none = (
    f"{tiers[tier] / tiers.total():.0%}" for tier in ("strict", "loose", None)
  )
  return (
    f"of the samples' answers {strict} strict, {loose} loose (read out of a"
    f" sentence), {none} none"
  )


def _tell_of_changed_limit(
  config: ConfigDict, not_asked: Mapping[InputId, str]
) -> None:
  """Rows may have become longer since inputs were left out for them."""
  before = [limit for limit in not_asked.values() if "row_length" in limit]
  limit = lengths.row_limit(config)
  if set(before) - {limit}:
    print(
      f"curate: {long_rows.counted(len(before), 'input')} not sampled for"
      f" {before[0]}; delete done/sample.json and done/select.json to sample"
      f" what fits {limit}",
      flush=True,
    )


def make_formatter(
  config: ConfigDict, task: Task, examples: Mapping[str, Example]
) -> Formatter:
  """Of the student's prompts and targets, for these examples by id."""
  prompts = setup.prompts_of(config, task, "system1")
  method = methods.by_name(config.method)
  thinks_aloud = method.thinks_aloud

  def prompt(example_id: str, variant: str):
    fields = task.fields(examples[example_id], variant)
    return list(prompts["system1"].messages(**fields))

  def target(example_id: str, variant: str, answer: str) -> str | None:
    return task.target(examples[example_id], variant, answer)

  def own_words(
    example_id: str, variant: str, answer: str, reply: str
  ) -> str | None:
    text = statement(reply) if thinks_aloud else reply
    found = task.answer(examples[example_id], variant, text)
    is_plain = found and (found.strict or not thinks_aloud)
    return text if is_plain and found.text == answer else None

  def sentence(example_id: str, variant: str, answer: str) -> str | None:
    return sentence_of(task, examples[example_id], answer)

  def thought(sample: Record) -> thoughts.Thought:
    if thinks_aloud:
      read_last = reasoning
    else:  # all that the steps say, but for a reply that is given as it is
      read_last = None if method.final_prompt else str
    return thoughts.of_steps(sample["steps"], read_last)

  return Formatter(
    prompt, target, own_words, config.curation.target, sentence, thought
  )


def _from_labels(
  config: ConfigDict,
  task: Task,
  examples: Mapping[str, Example],
  formatter: Formatter,
  samples: Sequence[Record],
) -> list[Record]:
  labels = {
    example.id: example.label
    for example in examples.values()
    if isinstance(example.label, str)
  }
  if not labels:
    raise UserError(
      f"curation.select='label', but the examples of {task.name} have no"
      " label; choose another way, or a data set that has labels"
    )
  variants = {
    name: without_perturbations(task, examples[name]) for name in labels
  }
  loose = config.curation.loose_votes
  return supervised(labels, variants, formatter, samples, loose)


def _refine(
  config: ConfigDict, accepted: list[Record], split: str
) -> tuple[list[Record], list[Record]]:
  taught = config.curation.variants
  if taught:
    accepted = [r for r in accepted if r["variant"] in taught]
  if config.curation.shuffle_targets:
    # Before lengths are measured, since targets are as long as they are.
    accepted = refine.shuffle_targets(accepted, config.seed)
  accepted, dropped = _drop_long(config, accepted, split)
  if config.curation.deduplicate:
    accepted, more = refine.deduplicate(accepted)
    dropped = dropped + more
  if config.curation.balance and split == "train":
    accepted, more = refine.balance(accepted)
    dropped = dropped + more
  return accepted, dropped


def _drop_long(
  config: ConfigDict, accepted: list[Record], split: str
) -> tuple[list[Record], list[Record]]:
  """Keeps what fits a row of the fine-tune, and the model's window."""
  model = setup.base_without_weights(config)
  window, row_length = model.config.max_context, config.finetune.row_length
  if row_length <= window:
    most, limit = row_length, lengths.row_limit(config)
  else:
    most, limit = window, lengths.window_limit(window)
  chat = setup.chat_template(config, model)
  tokens = lengths.of_targets(chat, accepted)
  kept, dropped = refine.drop_long(accepted, tokens, most)
  long = [
    LongRow(
      record["example_id"],
      record["variant"],
      f"prompt and target of {record['too_long']} tokens",
      limit,
    )
    for record in dropped
  ]
  long_rows.check(long, len(accepted), f"kept {split} inputs", config.too_long)
  return kept, dropped


def _savings(
  config: ConfigDict,
  workdir: epath.Path,
  variants: Mapping[str, Sequence[str]],
  samples: Sequence[Record],
  not_asked: Collection[InputId],
) -> Record:
  """Samples that were not needed, and how the audited inputs compare."""
  groups = collections.defaultdict(list)
  for record in samples:
    groups[record["example_id"], record["variant"]].append(record)
  most = sample.most_samples(config, workdir)
  rule = sample.stopping_rule(config, setup.task_of(config))
  audited = [
    _decides_alike(
      rule,
      votes_of(group, nested=True, loose=config.curation.loose_votes),
    )
    for (example_id, _), group in groups.items()
    if sample.is_audited(config, example_id)
  ]
  sampled = {name for name, _ in groups}
  inputs = {(name, v) for name in sampled for v in variants[name]}
  inputs -= set(not_asked)
  found = {
    "confidence": rule.confidence,
    "inputs": len(inputs),
    "passes": len(samples),
    "full": sample.in_full(most, inputs, samples),
    "decided_early": sum(
      len(group) < most[name] for (name, _), group in groups.items()
    ),
    "given_up": len(inputs) - len(groups),
    "audited": len(audited),
    "agree": sum(audited),
    "cut_short": sum(map(long_rows.is_cut_short, samples)),
  }
  if config.rounds.number:
    allotted = [most[name] for name, _ in inputs]
    found["more"] = sum(count > config.sampling.n for count in allotted)
    found["fewer"] = sum(count < config.sampling.n for count in allotted)
  return found


def _decides_alike(rule: StoppingRule, answers: list[str | None]) -> bool:
  """Whether stopping early would have given the result of the full vote."""
  early = answers[: stopping_time(answers, rule)]
  return rule.accepted_answer(early) == rule.accepted_answer(answers)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
