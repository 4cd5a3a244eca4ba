"""Looks beside the task: what the fine-tune did to what it did not teach.

Asks plain questions of other tasks directly and greedily, and measures the
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
from s2d_jax.errors import UserError
from s2d_jax.evaluation.perplexity import perplexity
from s2d_jax.parallel import mesh as meshes
from s2d_jax.records import Record
from s2d_jax.stages import evaluate, program, setup
from s2d_jax.stages.parts import Parts, Place
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
  asked = {
    task.name: {e.id: e for e in task.examples()["test"][: config.retention.n]}
    for task in tasks
  }
  path = workdir / "eval" / f"retention-{name}.jsonl"
  with Parts.into(path, _place(asked), config.sampling.scope) as parts:
    done = {(row["task"], row.get("example_id")) for row in parts.recovered}
    for task in tasks:
      examples = asked[task.name]
      missing = [
        (example_id, task.plain)
        for example_id in parts.share(list(examples))
        if (task.name, example_id) not in done
      ]
      if missing:
        _ask(config, model, task, examples, missing, parts)
    if parts.share([TEXT]) and (TEXT, None) not in done:
      parts.append(_perplexity(config, model, text))
  *_, read = (row for row in records.read(path) if row["task"] == TEXT)
  return (
    f"{len(tasks)} other tasks, perplexity {read['perplexity']:.2f} over"
    f" {read['tokens']} tokens"
  )


def _place(asked: Mapping[str, Mapping[str, Example]]) -> Place:
  """Rows in the order of tasks and examples; the text behind them."""
  names = [(task, name) for task in asked for name in asked[task]]
  order = {name: number for number, name in enumerate(names)}

  def place(row: Record) -> tuple[int, str, str]:
    name = row["task"], row.get("example_id", "")
    return order.get(name, len(order)), *name

  return place


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
  task: Task,
  examples: Mapping[str, Example],
  wanted: Sequence[evaluate.Name],
  parts: Parts,
) -> None:
  """In the plain variant, with the task's own template."""
  label = f"retention {task.name}"
  way = evaluate.DIRECTLY
  for (example_id, variant), passes in evaluate.passes(
    label, _direct(config), model, task, way, examples, wanted
  ):
    example = examples[example_id]
    row = evaluate.row(task, example, variant, way.method, passes)
    parts.append({"task": task.name} | row)


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
