"""Keeps the answers that the samples agree on, and drops the thinking.

Writes distill/train.jsonl and distill/valid.jsonl (prompt and target) and
distill/rejected.jsonl (with the reason; too long is what does not fit a row of
the fine-tune, see config.too_long), and what adaptive voting has saved to
metrics/voting.json. A round (config.rounds) keeps what was believed before it
where it decides nothing, and writes to distill/undecided.jsonl where that is.
Labels are not read, but for curation.select="label".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import itertools
import json
import tempfile

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import ordered, records
from s2d_jax.curation import long_rows, refine, rounds, thoughts
from s2d_jax.curation.curate import (
  Formatter,
  InputId,
  check_sampled,
  decide,
  supervised,
)
from s2d_jax.curation.curve import explain_empty
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.errors import KeptTooLittle, UserError
from s2d_jax.int_set import IntSet
from s2d_jax.ordered import Order, Part
from s2d_jax.records import Record
from s2d_jax.stages import lengths, program, sample, seen, select, setup
from s2d_jax.stages.savings import Savings
from s2d_jax.system2 import methods
from s2d_jax.system2.cot import reasoning, statement
from s2d_jax.tasks.task import (
  Example,
  Task,
  asked,
  iterate_examples,
  sentence_of,
  without_perturbations,
)

# What became of the inputs of a split that are not taught, in the order of
# distill/rejected.jsonl.
_STEPS = ("decided", "long", "duplicate", "balance")
_TOGETHER = 1000  # records that are looked at together


@program.stage("curate")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Decides over the samples of the train and valid splits."""
  task = setup.task_of(config)
  not_asked = sample.left_out(config, workdir)
  _tell_of_changed_limit(config, not_asked)
  savings = Savings(config, workdir, task, not_asked)
  counts = {}
  with tempfile.TemporaryDirectory() as folder:
    undecided = _Spool(folder, "undecided")
    drawn = sample.InStep(sample.read_samples(config, workdir))
    spools = []
    for split in ("train", "valid"):
      rejected = {step: _Spool(folder, f"{split}-{step}") for step in _STEPS}
      decided = _decided(
        config, workdir, task, split, drawn, not_asked, savings, undecided
      )
      taught = _refined(config, decided, split, rejected)
      kept = _Counted(taught)
      records.write(
        workdir / "distill" / f"{split}.jsonl",
        _or_nothing_kept(config, split, kept, rejected),
      )
      spools += rejected.values()
      dropped = sum(spool.count for spool in rejected.values())
      counts[split] = kept.count, kept.count + dropped
    _write(workdir / "distill" / "rejected.jsonl", spools)
    if config.rounds.number:
      _write(workdir / "distill" / "undecided.jsonl", [undecided])
  seen.of_run(config, workdir, task)  # for the report, which finds it there
  long = [name for spool in spools for name in spool.long]
  if savings.samples:
    saved = savings.to_record() | {"too_long": len(long)}
    path = workdir / "metrics" / "voting.json"
    records.write_text(path, json.dumps(saved) + "\n")
  summary = ", ".join(
    f"kept {kept} of {total} {split} inputs ({kept / total:.0%})"
    for split, (kept, total) in counts.items()
  )
  if undecided.count:
    summary += (
      f"; {undecided.count:,} of them are believed since earlier rounds"
    )
  if long:
    summary += f"; {len(long):,} too long {long_rows.listed(long)}"
  return f"{summary}; {savings.forms}" if savings.samples else summary


class _Spool:
  """Records that lie on the disk until it is their turn.

  Attributes:
    count: how many.
    long: names of those that are too long.
  """

  def __init__(self, folder: str, name: str):
    self._path = epath.Path(folder) / f"{name}.jsonl"
    self._file = self._path.open("wb")
    self.count, self.long = 0, []

  def add(self, row: Record) -> None:
    self._file.write(f"{records.dumps(row)}\n".encode())
    self.count += 1
    if row["reason"] == long_rows.REASON:
      self.long.append(f"{row['example_id']}/{row['variant']}")

  def __iter__(self) -> Iterator[Record]:
    self._file.close()
    return records.read(self._path)


def _write(path: epath.Path, spools: Iterable[_Spool]) -> None:
  records.write(path, itertools.chain.from_iterable(spools))


class _Counted:
  """Records, which are counted as they go."""

  def __init__(self, rows: Iterable[Record]):
    self.count, self._rows = 0, rows

  def __iter__(self) -> Iterator[Record]:
    for row in self._rows:
      self.count += 1
      yield row


def _decided(
  config: ConfigDict,
  workdir: epath.Path,
  task: Task,
  split: str,
  drawn: sample.InStep,
  not_asked: Mapping[InputId, str],
  savings: Savings,
  undecided: _Spool,
) -> Iterator[Record]:
  """What was decided over a split; what is rejected has a "reason"."""
  path = setup.examples_path(workdir, split)
  earlier = sample.InStep(_believed_before(config, workdir, split))
  if config.curation.select == "label":
    judge = _Labels(config, task)
  else:
    judge = _Votes(config, workdir, task, not_asked)
  for example in iterate_examples(path):
    samples = drawn.take(example.id)
    savings.add(example, samples)
    found = judge.decide(example, samples)
    if not config.rounds.number:
      yield from found
      continue
    joined = rounds.join(
      [row for row in found if "reason" not in row],
      [row for row in found if "reason" in row],
      earlier.take(example.id),
      config.rounds.number,
    )
    yield from sorted(joined.accepted, key=lambda row: row["variant"])
    yield from joined.rejected
    for row in joined.undecided:
      undecided.add(row)
  judge.check()


class _Votes:
  """Decides by the samples, one example at a time."""

  def __init__(
    self,
    config: ConfigDict,
    workdir: epath.Path,
    task: Task,
    not_asked: Mapping[InputId, str],
  ):
    self._task, self._not_asked = task, not_asked
    self._format = formatters(config, task)
    self._rule = setup.filter_of(config)
    self._chosen = select.read_choices(config, workdir)
    self._may_be_empty = {example_id for example_id, _ in not_asked}
    self._empty: list[str] = []

  def decide(self, example: Example, samples: Sequence[Record]) -> list[Record]:
    groups = dict(sample.by_input(samples))
    if not samples and example.id not in self._may_be_empty:
      self._empty.append(example.id)
    return decide(
      example.id,
      {
        variant: groups.get((example.id, variant), [])
        for variant in asked(self._task, example)
      },
      self._format(example),
      self._rule,
      self._chosen,
      self._not_asked,
      self._task.perturbations,
    )

  def check(self) -> None:
    check_sampled(self._empty)


class _Labels:
  """Takes the labels, one example at a time."""

  def __init__(self, config: ConfigDict, task: Task):
    self._task = task
    self._format = formatters(config, task)
    self._loose = config.curation.loose_votes
    self._is_labelled = False

  def decide(self, example: Example, samples: Sequence[Record]) -> list[Record]:
    if not isinstance(example.label, str):
      return []
    self._is_labelled = True
    return supervised(
      {example.id: example.label},
      {example.id: without_perturbations(self._task, example)},
      self._format(example),
      samples,
      self._loose,
    )

  def check(self) -> None:
    if not self._is_labelled:
      raise UserError(
        f"curation.select='label', but the examples of {self._task.name} have"
        " no label; choose another way, or a data set that has labels"
      )


def _believed_before(
  config: ConfigDict, workdir: epath.Path, split: str
) -> Iterator[Record]:
  """What the round before taught of a split; nothing in the first."""
  before = setup.round_before(config, workdir)
  if before is None:
    return iter(())
  examples = iterate_examples(setup.examples_path(workdir, split))
  ids = [example.id for example in examples]
  order = Order(
    ("example_id", "variant"), "place, variant", {"place": {"example_id": ids}}
  )
  path = before / "distill" / f"{split}.jsonl"
  return ordered.read([Part(path)], order, only="place")


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


def formatters(
  config: ConfigDict, task: Task
) -> Callable[[Example], Formatter]:
  """How the student's prompts and targets are written, of each example."""
  prompts = setup.prompts_of(config, task, "system1")
  method = methods.by_name(config.method)
  thinks_aloud = method.thinks_aloud

  def thought(sample: Record) -> thoughts.Thought:
    if thinks_aloud:
      read_last = reasoning
    else:  # all that the steps say, but for a reply that is given as it is
      read_last = None if method.final_prompt else str
    return thoughts.of_steps(sample["steps"], read_last)

  def formatter(example: Example) -> Formatter:
    def prompt(_: str, variant: str):
      fields = task.fields(example, variant)
      return list(prompts["system1"].messages(**fields))

    def target(_: str, variant: str, answer: str) -> str | None:
      return task.target(example, variant, answer)

    def own_words(_: str, variant: str, answer: str, reply: str) -> str | None:
      text = statement(reply) if thinks_aloud else reply
      found = task.answer(example, variant, text)
      is_plain = found and (found.strict or not thinks_aloud)
      return text if is_plain and found.text == answer else None

    def sentence(_: str, variant: str, answer: str) -> str | None:
      return sentence_of(task, example, answer)

    return Formatter(
      prompt, target, own_words, config.curation.target, sentence, thought
    )

  return formatter


def _refined(
  config: ConfigDict,
  decided: Iterable[Record],
  split: str,
  rejected: Mapping[str, _Spool],
) -> Iterator[Record]:
  """What is taught of a split; the rest is spooled by the step it fell to."""
  rows = _accepted(config, decided, rejected["decided"])
  if config.curation.shuffle_targets:
    # Before lengths are measured, since targets are as long as they are.
    rows = refine.shuffle_targets(list(rows), config.seed)
  rows = _fitting(config, rows, split, rejected["long"])
  if config.curation.deduplicate:
    rows = _deduplicated(rows, rejected["duplicate"])
  if config.curation.balance and split == "train":
    rows, dropped = refine.balance(list(rows))
    for row in dropped:
      rejected["balance"].add(row)
  yield from rows


def _accepted(
  config: ConfigDict, decided: Iterable[Record], rejected: _Spool
) -> Iterator[Record]:
  """What is accepted, of the variants that are taught."""
  taught = config.curation.variants
  for row in decided:
    if "reason" in row:
      rejected.add(row)
    elif not taught or row["variant"] in taught:
      yield row


def _fitting(
  config: ConfigDict, rows: Iterable[Record], split: str, rejected: _Spool
) -> Iterator[Record]:
  """What fits a row of the fine-tune, and the model's window."""
  model = setup.base_without_weights(config)
  window, row_length = model.config.max_context, config.finetune.row_length
  if row_length <= window:
    most, limit = row_length, lengths.row_limit(config)
  else:
    most, limit = window, lengths.window_limit(window)
  chat = setup.chat_template(config, model)
  total, long = 0, []
  rows = iter(rows)
  for together in iter(lambda: [*itertools.islice(rows, _TOGETHER)], []):
    total += len(together)
    tokens = lengths.of_targets(chat, together, most)
    kept, dropped = refine.drop_long(together, tokens, most)
    for row in dropped:
      rejected.add(row)
      size = f"prompt and target of {row['too_long']} tokens"
      long.append(LongRow(row["example_id"], row["variant"], size, limit))
    yield from kept
  long_rows.check(long, total, f"kept {split} inputs", config.too_long)


def _deduplicated(rows: Iterable[Record], rejected: _Spool) -> Iterator[Record]:
  """Each prompt once."""
  known = IntSet()
  for row in rows:
    kept, dropped = refine.deduplicate([row], known)
    for one in dropped:
      rejected.add(one)
    yield from kept


def _or_nothing_kept(
  config: ConfigDict,
  split: str,
  rows: _Counted,
  rejected: Mapping[str, _Spool],
) -> Iterator[Record]:
  """The rows, if there are any.

  Raises:
    KeptTooLittle: there are none.
  """
  yield from rows
  if not rows.count:
    dropped = [*itertools.chain.from_iterable(rejected.values())]
    raise KeptTooLittle(
      f"curation kept nothing of the {split} split;"
      f" {explain_empty(dropped, config.curation.min_agreement)}"
    )


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
