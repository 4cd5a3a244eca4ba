"""Measures what the fine-tune did to what it did not teach.

Before and after it: the answers to other tasks (config.retention.tasks), the
replies to everyday questions, and the perplexity of a text. After it also how
far the model has moved: the KL divergence of the next token, on the base
model's own replies, on the text, and on what was taught. Writes
eval/retention-base.jsonl and eval/retention-distilled.jsonl;
config.retention.n=0 leaves both out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import UserError
from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.evaluation.perplexity import perplexity
from s2d_jax.generation.sampling import GREEDY
from s2d_jax.ordered import Order
from s2d_jax.parallel import mesh as meshes
from s2d_jax.parallel.dealing import Deal
from s2d_jax.records import Record
from s2d_jax.stages import (
  evaluate,
  everyday,
  movement,
  program,
  sample,
  setup,
)
from s2d_jax.stages.batch_rows import Inputs
from s2d_jax.stages.everyday import EVERYDAY
from s2d_jax.stages.movement import MOVEMENT, TEXT
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2.dealt_jobs import DealtJobs
from s2d_jax.system2.scheduler import Job, Result, run_together
from s2d_jax.tasks.task import Example, Task, asked, chance_of

# An input of a task is an example and a variant; of everyday questions a name.
Input = tuple[str, str] | str
# What tells a row from the others.
_NAME = ("task", "of", "example_id", "variant")
_PACKAGED = resources.files("s2d_jax.evaluation") / "retention_text.txt"


@program.stage("retention base", on="all")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """The base model, before anything is learnt."""
  if not config.retention.n:
    return "off"
  measured = _Measured.of(config)
  with _shards(config, workdir, "base", measured) as shards:
    _measure(config, setup.base_model(config), measured, shards)
  return _summary(workdir, "base")


@program.stage("retention distilled", on="all")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model on the same, and how far it is from the base model."""
  if not config.retention.n:
    return "off"
  measured = _Measured.of(config)
  with _shards(config, workdir, "distilled", measured) as shards:
    passages = _missing_passages(config, workdir, measured, shards)
    distilled = _measure_distilled(config, workdir, measured, passages, shards)
    # Only now the base model: it takes the place of the distilled one.
    if any(passages.values()):
      base = setup.base_model(config)
      for row in movement.rows(config, base, passages, distilled):
        shards.append(row)
  return _summary(workdir, "distilled")


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """The base model, and the distilled one once there is a checkpoint."""
  run_base(config, workdir)
  if (workdir / "checkpoints").exists():
    run_distilled(config, workdir)
  else:
    print("retention distilled: there is no checkpoint yet", flush=True)


class _Asked(NamedTuple):
  """A task, its examples by id, and their variants."""

  task: Task
  examples: Mapping[str, Example]
  inputs: Sequence[tuple[str, str]]


class _Measured(NamedTuple):
  """What both models are asked and read."""

  tasks: Mapping[str, _Asked]  # by label
  questions: Mapping[str, str]
  text: str

  @classmethod
  def of(cls, config: ConfigDict) -> _Measured:
    settings = config.retention
    return cls(
      {
        label: _asked(task, settings.n)
        for label, task in setup.retention_tasks(config).items()
      },
      everyday.questions(settings.questions),
      _read_text(settings.text),
    )


def _asked(task: Task, most: int) -> _Asked:
  """Plainly, and where the task leads astray, so as well."""
  examples = {e.id: e for e in task.examples()["test"][:most]}
  variants = dict.fromkeys((task.plain, task.biased))
  inputs = [
    (name, variant)
    for name, example in examples.items()
    for variant in variants
    if variant in asked(task, example)
  ]
  return _Asked(task, examples, inputs)


def _shards(
  config: ConfigDict, workdir: epath.Path, name: str, measured: _Measured
) -> RecordShards:
  """Rows in the order in which they are measured."""
  path = workdir / "eval" / f"retention-{name}.jsonl"
  order = _order(measured)
  return RecordShards.merged_into(path, order, config.sampling.scope)


def _order(measured: _Measured) -> Order:
  names = [
    (label, "", *one)
    for label, part in measured.tasks.items()
    for one in part.inputs
  ]
  names += [(EVERYDAY, "", name, "") for name in measured.questions]
  place = {field: [name[i] for name in names] for i, field in enumerate(_NAME)}
  return Order(
    _NAME,
    # Windows of a text are numbered.
    f"""place NULLS LAST, "task" = '{MOVEMENT}', length("example_id"), """
    + ", ".join(f'"{field}"' for field in _NAME),
    {"place": place},
  )


def _measure(
  config: ConfigDict,
  model: Pretrained,
  measured: _Measured,
  shards: RecordShards,
) -> None:
  """What is measured of one model alone."""
  done = shards.names()
  questions = [
    (EVERYDAY, name)
    for name in measured.questions
    if (EVERYDAY, "", name, "") not in done
  ]
  inputs = [
    (label, one)
    for label, part in measured.tasks.items()
    for one in part.inputs
    if (label, "", *one) not in done
  ]
  if shards.share([TEXT]) and (TEXT, "", "", "") not in done:
    shards.append(_perplexity(config, model, measured.text))
  if questions or inputs:
    dealt = shards.deal(questions + inputs)  # those first that take longest
    _ask(_direct(config, measured), model, measured, dealt, shards)


def _measure_distilled(
  config: ConfigDict,
  workdir: epath.Path,
  measured: _Measured,
  passages: movement.Passages,
  shards: RecordShards,
) -> Mapping[str, Sequence]:
  """Also what is kept of the model, which nobody holds when this returns."""
  model = setup.distilled_model(config, workdir)
  _measure(config, model, measured, shards)
  return movement.log_probs(config, model, passages)


def _missing_passages(
  config: ConfigDict,
  workdir: epath.Path,
  measured: _Measured,
  shards: RecordShards,
) -> movement.Passages:
  """Those of this host that have no row."""
  done = shards.names()
  found = movement.passages(config, workdir, measured.text)
  return {
    kind: [
      passage
      for passage in shards.share(part)
      if (MOVEMENT, kind, passage.name, "") not in done
    ]
    for kind, part in found.items()
  }


def _read_text(name: str) -> str:
  path = epath.Path(name) if name else _PACKAGED
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f"config.retention.text={name!r} cannot be read ({error}); name a text"
      " file, or none for the packaged one"
    ) from None


def _ask(
  config: ConfigDict,
  model: Pretrained,
  measured: _Measured,
  inputs: Deal[tuple[str, Input]],
  shards: RecordShards,
) -> None:
  """Asks tasks, with their own templates, and everyday questions in one batch.

  Args:
    config: without the run's own method and prompts.
    model: that is asked.
    measured: what both models are asked.
    inputs: of all hosts, each with the label of its task; of everyday questions
      the names.
    shards: of the rows.
  """
  asked = {EVERYDAY: everyday.Chat()}
  asked |= {label: part.task for label, part in measured.tasks.items()}

  def begin(one: tuple[str, Input]) -> list[Job]:
    label, name = one
    if label == EVERYDAY:
      return [everyday.job(name, measured.questions[name])]
    part, (example_id, variant) = measured.tasks[label], name
    example = part.examples[example_id]
    return [sample.make_job(part.task, example, variant, 0, GREEDY, label)]

  # A prompt is read once: what is shared would not pay for its own programs,
  # and without it those of System 1 are there.
  methods = {label: (task, SYSTEM1) for label, task in asked.items()}
  schedulers = setup.schedulers(
    config, model, methods, 1, _inputs(measured), share_prefixes=False
  )
  jobs = DealtJobs.of(inputs, begin, schedulers.values())
  bar = program.progress(
    "retention", len(inputs.items), "replies", is_joint=inputs.is_shared
  )
  with bar as progress:
    for result in run_together(schedulers, jobs):
      progress.advance(1, tokens=result.tokens)
      label = result.job.scheduler
      if label == EVERYDAY:
        shards.append(everyday.record(result))
      else:
        shards.append(_row(label, measured.tasks[label], result))


def _inputs(measured: _Measured) -> dict[str, Inputs]:
  """What each is asked about, whatever is there already."""
  found = {
    label: Inputs(
      [
        part.task.fields(part.examples[example_id], variant)
        for example_id, variant in part.inputs
      ],
      1,
    )
    for label, part in measured.tasks.items()
  }
  fields = [everyday.job(*one).fields for one in measured.questions.items()]
  return found | {EVERYDAY: Inputs(fields, 1)}


def _row(label: str, part: _Asked, result: Result) -> Record:
  """Of a greedy reply to an input of a task."""
  example_id, variant, _ = result.job.name
  example, chance = part.examples[example_id], chance_of(part.task)
  reply = evaluate.reply_of(part.task, example, result)
  row = evaluate.eval_row(part.task, example, variant, SYSTEM1, [reply])
  known = {} if chance is None else {"chance": chance}
  return {"task": label} | known | row


def _direct(config: ConfigDict, measured: _Measured) -> ConfigDict:
  """The config without the method and the prompts of its own task.

  The batch is no larger than there are questions, as empty rows cost as much,
  and a power of two, so that it may be one that is compiled already.
  """
  changed = config.copy_and_resolve_references()
  counts = [len(part.inputs) for part in measured.tasks.values()]
  count = sum(counts) + len(measured.questions)
  with changed.unlocked():
    changed.method = SYSTEM1
    changed.prompts = ConfigDict()
    rows = config.sampling.batch_rows  # 0: chosen, by the same questions
    changed.sampling.batch_rows = min(rows, 1 << (count - 1).bit_length())
  return changed


def _perplexity(config: ConfigDict, model: Pretrained, text: str) -> Record:
  setup.enable_compilation_cache()
  network = setup.network(config, model)
  mesh = setup.sampling_mesh(config, model.config)
  with meshes.use(mesh):
    found = perplexity(
      network,
      model.params,
      model.tokenizer,
      text,
      rows=meshes.batch_shards(mesh),
    )
  return {"task": TEXT, "perplexity": found.value, "tokens": found.tokens}


def _summary(workdir: epath.Path, name: str) -> str:
  rows = list(records.read(workdir / "eval" / f"retention-{name}.jsonl"))
  answers = [row for row in rows if "passes" in row]
  tasks = len({row["task"] for row in answers})
  replies = sum(row["task"] == EVERYDAY for row in rows)
  (text,) = (row for row in rows if row["task"] == TEXT)
  return (
    f"{tasks} other task{'' if tasks == 1 else 's'}, {replies} everyday"
    f" questions, perplexity {text['perplexity']:.2f} over {text['tokens']}"
    f" tokens{evaluate.not_answered(answers)}"
  )


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
