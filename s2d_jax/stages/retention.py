"""Evaluates other tasks: what the fine-tune did to what it did not teach.

Answers plain questions of other tasks directly and greedily, and measures the
perplexity of a text. Writes eval/retention-base.jsonl before the fine-tune and
eval/retention-distilled.jsonl after it; config.retention.n=0 leaves both out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation.curate import InputId
from s2d_jax.errors import UserError
from s2d_jax.evaluation.perplexity import perplexity
from s2d_jax.parallel import mesh as meshes
from s2d_jax.records import Record
from s2d_jax.stages import evaluate, program, setup
from s2d_jax.stages.shards import RecordShards, SortKey
from s2d_jax.tasks.registry import make_task
from s2d_jax.tasks.task import Example, Task

TEXT = "text"  # stands for a task in the record of the perplexity
_PACKAGED = resources.files("s2d_jax.evaluation") / "retention_text.txt"


@program.stage("retention base", on="all")
def run_base(config: ConfigDict, workdir: epath.Path) -> str:
  """The base model, before anything is learnt."""
  if not config.retention.n:
    return "off"
  model = setup.base_model(config)
  return _measure(config, workdir, "base", model)


@program.stage("retention distilled", on="all")
def run_distilled(config: ConfigDict, workdir: epath.Path) -> str:
  """The distilled model on the same questions and the same text."""
  if not config.retention.n:
    return "off"
  model = setup.distilled_model(config, workdir)
  return _measure(config, workdir, "distilled", model)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """The base model, and the distilled one once there is a checkpoint."""
  run_base(config, workdir)
  if (workdir / "checkpoints").exists():
    run_distilled(config, workdir)
  else:
    print("retention distilled: there is no checkpoint yet", flush=True)


def _measure(
  config: ConfigDict, workdir: epath.Path, name: str, model: Pretrained
) -> str:
  text = _read_text(config.retention.text)
  others = [t for t in config.retention.tasks if t != config.task.name]
  tasks = [make_task(other, {"seed": config.seed}) for other in others]
  by_task = {
    task.name: {e.id: e for e in task.examples()["test"][: config.retention.n]}
    for task in tasks
  }
  path = workdir / "eval" / f"retention-{name}.jsonl"
  sort_key, scope = _sort_key(by_task), config.sampling.scope
  with RecordShards.merged_into(path, sort_key, scope) as shards:
    done = {(row["task"], row.get("example_id")) for row in shards.recovered}
    for task in tasks:
      examples = by_task[task.name]
      missing = [
        (example_id, task.plain)
        for example_id in shards.share(list(examples))
        if (task.name, example_id) not in done
      ]
      if missing:
        _evaluate(config, model, task, examples, missing, shards)
    if shards.share([TEXT]) and (TEXT, None) not in done:
      shards.append(_perplexity(config, model, text))
  *answers, found = records.read(path)  # that of the text is the last
  return (
    f"{len(tasks)} other tasks, perplexity {found['perplexity']:.2f} over"
    f" {found['tokens']} tokens{evaluate.not_answered(answers)}"
  )


def _sort_key(by_task: Mapping[str, Mapping[str, Example]]) -> SortKey:
  """Rows in the order of tasks and examples; the text behind them."""
  names = [(task, name) for task in by_task for name in by_task[task]]
  order = {name: number for number, name in enumerate(names)}

  def sort_key(row: Record) -> tuple[int, str, str]:
    name = row["task"], row.get("example_id", "")
    return order.get(name, len(order)), *name

  return sort_key


def _read_text(name: str) -> str:
  path = epath.Path(name) if name else _PACKAGED
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f"config.retention.text={name!r} cannot be read ({error}); name a text"
      " file, or none for the packaged one"
    ) from None


def _evaluate(
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  examples: Mapping[str, Example],
  inputs: Sequence[InputId],
  shards: RecordShards,
) -> None:
  """In the plain variant, with the task's own template."""
  label = f"retention {task.name}"
  asked = evaluate.DIRECT
  for (example_id, variant), replies in evaluate.draw_replies(
    label, _direct(config), model, task, asked, examples, inputs
  ):
    example, once = examples[example_id], [replies.greedy]
    row = evaluate.eval_row(task, example, variant, asked.method, once)
    shards.append({"task": task.name} | row)


def _direct(config: ConfigDict) -> ConfigDict:
  """The config without the method and the prompts of its own task.

  The batch is no larger than a task has questions: empty rows cost as much.
  """
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.method = "system1"
    changed.prompts = ConfigDict()
    rows = min(config.sampling.batch_rows, config.retention.n)
    changed.sampling.batch_rows = rows
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


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
