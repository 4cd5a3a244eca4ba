"""Keeps the answers that the samples agree on, and drops the thinking.

Writes distill/train.jsonl and distill/valid.jsonl (prompt and target) and
distill/rejected.jsonl (with the reason), and what adaptive voting has saved to
metrics/voting.json. Labels are not read, but for curation.select="label".
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import json

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.curation import refine
from s2d_jax.curation.adaptive import StoppingRule, stopping_time
from s2d_jax.curation.curate import Formatter, curate, supervised, votes_of
from s2d_jax.curation.curve import explain_empty
from s2d_jax.errors import UserError
from s2d_jax.records import Record
from s2d_jax.stages import program, sample, select, setup
from s2d_jax.tasks.task import Example, Task, read_examples


@program.stage("curate")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Decides over the samples of the train and valid splits."""
  task = setup.task_of(config)
  chosen = select.read_choices(config, workdir)
  samples = sample.read_samples(config, workdir)
  rejected, counts = [], {}
  for split in ("train", "valid"):
    examples = {
      example.id: example
      for example in read_examples(setup.examples_path(workdir, split))
    }
    formatter = _formatter(config, task, examples)
    if config.curation.select == "label":
      accepted, dropped = _from_labels(task, examples, formatter), []
    else:
      accepted, dropped = curate(
        [record for record in samples if record["example_id"] in examples],
        list(examples),
        task.variants,
        formatter,
        setup.filter_of(config),
        chosen,
      )
    accepted, refined = _refine(config, accepted, is_train=split == "train")
    dropped += refined
    if not accepted:
      raise UserError(
        f"curation kept nothing of the {split} split;"
        f" {explain_empty(dropped, config.curation.min_agreement)}"
      )
    records.write(workdir / "distill" / f"{split}.jsonl", accepted)
    rejected += dropped
    counts[split] = len(accepted), len(accepted) + len(dropped)
  records.write(workdir / "distill" / "rejected.jsonl", rejected)
  if samples:
    _write_savings(config, workdir, task, samples)
  kept = ", ".join(
    f"kept {kept} of {total} {split} inputs ({kept / total:.0%})"
    for split, (kept, total) in counts.items()
  )
  return f"{kept}; {_forms(samples)}" if samples else kept


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


def _formatter(
  config: ConfigDict, task: Task, examples: Mapping[str, Example]
) -> Formatter:
  prompts = setup.prompts_of(config, task, "system1")

  def prompt(example_id: str, variant: str):
    fields = task.fields(examples[example_id], variant)
    return list(prompts["system1"].messages(**fields))

  def target(example_id: str, variant: str, answer: str) -> str | None:
    return task.target(examples[example_id], variant, answer)

  return Formatter(prompt, target)


def _from_labels(
  task: Task, examples: Mapping[str, Example], formatter: Formatter
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
  return supervised(labels, task.variants, formatter)


def _refine(
  config: ConfigDict, accepted: list[Record], is_train: bool
) -> tuple[list[Record], list[Record]]:
  taught = config.curation.variants
  if taught:
    accepted = [r for r in accepted if r["variant"] in taught]
  dropped = []
  if config.curation.deduplicate:
    accepted, dropped = refine.deduplicate(accepted)
  if config.curation.balance and is_train:
    accepted, more = refine.balance(accepted)
    dropped = dropped + more
  return accepted, dropped


def _write_savings(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  samples: Sequence[Record],
) -> None:
  """Samples that were not needed, and how the audited inputs compare."""
  groups = collections.defaultdict(list)
  for record in samples:
    groups[record["example_id"], record["variant"]].append(record)
  total = config.sampling.n
  rule = sample.stopping_rule(config, task)
  audited = [
    _decides_alike(
      rule,
      votes_of(group, nested=True, loose=config.curation.loose_votes),
    )
    for (example_id, _), group in groups.items()
    if sample.is_audited(config, example_id)
  ]
  lengths = [len(group) for group in groups.values()]
  inputs = len({name for name, _ in groups}) * len(task.variants)
  saving = {
    "confidence": rule.confidence,
    "inputs": inputs,
    "passes": sum(lengths),
    "full": total * inputs,
    "decided_early": sum(length < total for length in lengths),
    "given_up": inputs - len(groups),
    "audited": len(audited),
    "agree": sum(audited),
  }
  records.write_text(
    workdir / "metrics" / "voting.json", json.dumps(saving) + "\n"
  )


def _decides_alike(rule: StoppingRule, answers: list[str | None]) -> bool:
  """Whether stopping early would have given the result of the full vote."""
  early = answers[: stopping_time(answers, rule)]
  return rule.accepted_answer(early) == rule.accepted_answer(answers)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
