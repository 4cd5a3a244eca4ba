"""Writes the report: report/index.html, results.md, two .json files, plots.

s2d report --config=FILE --workdir=FOLDER     the report of a run, made again;
                                              of several, all side by side
s2d report --compare runs/a runs/b …          finished runs side by side
                                              (--out=FILE: compare/index.html)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools
import sys
import tempfile
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.conversation import Message
from s2d_jax.errors import UserError
from s2d_jax.evaluation import contamination
from s2d_jax.records import Record
from s2d_jax.reporting import report, terminal
from s2d_jax.stages import program, setup
from s2d_jax.tasks.task import (
  Example,
  Task,
  cluster_of,
  iterate_examples,
  read_examples,
  without_perturbations,
)


@program.stage("report")
def build(config: ConfigDict, workdir: epath.Path) -> str:
  """Builds the report from the files of the run."""
  task = setup.task_of(config)
  path = report.build(
    workdir,
    task.plain,
    task.biased,
    _seen(config, workdir, task),
    setup.why_no_shots(config, task),
    setup.has_shots(config, task),
  )
  return str(path)


def _seen(
  config: ConfigDict, workdir: epath.Path, task: Task
) -> contamination.Seen | None:
  """What of the test split was trained on; None where nothing was yet."""
  taught = workdir / "distill" / "train.jsonl"
  paths = [setup.examples_path(workdir, split) for split in ("train", "test")]
  if not all(path.exists() for path in (taught, *paths)):
    return None
  test = read_examples(paths[1])
  prompt = setup.prompts_of(config, task, "system1")["system1"]

  def asked(example: Example, variant: str) -> str:
    return _text(prompt.messages(**task.fields(example, variant)))

  def answered(example: Example, answers: Any) -> contamination.Answered:
    return contamination.Answered(_texts(answers), cluster_of(task, example))

  prompts = [
    asked(example, variant)
    for example in test
    for variant in without_perturbations(task, example)
  ]
  plain = [asked(example, task.plain) for example in test]
  with tempfile.TemporaryDirectory() as folder:
    trained = _Prompts(folder)

    def learnt() -> Iterator[contamination.Answered]:
      for example, rows in _taught(taught, paths[0]):
        texts = {row["variant"]: _text(row["prompt"]) for row in rows}
        in_plain_words = texts.get(task.plain) or asked(example, task.plain)
        for row in rows:
          trained.add(texts[row["variant"]], in_plain_words)
          yield answered(example, row["winner"])

    answers = contamination.answers_taught(
      learnt(), [answered(example, example.label) for example in test]
    )
    if not trained.count:
      return None
    return contamination.Seen(
      prompts=contamination.overlap(trained.asked, prompts),
      questions=contamination.overlap(trained.in_plain_words, plain)
      if prompts != plain or trained.is_reworded
      else None,
      answers=answers,
    )


def _taught(
  taught: epath.Path, examples: epath.Path
) -> Iterator[tuple[Example, list[Record]]]:
  """Yields the examples that are taught, each with its records.

  Raises:
    UserError: they are not in the order of the examples, as curation leaves
      them.
  """
  in_order = iterate_examples(examples)
  by_example = lambda row: row["example_id"]
  for example_id, rows in itertools.groupby(records.read(taught), by_example):
    example = next((one for one in in_order if one.id == example_id), None)
    if example is None:
      raise UserError(
        f"{taught} has {example_id!r} where {examples} has no such example, or"
        " has it before; delete done/curate.json to have it made again"
      )
    yield example, list(rows)


class _Prompts:
  """The prompts that are taught: on the disk, to be gone through repeatedly.

  Attributes:
    count: how many.
    is_reworded: whether any is not its question in plain words.
    asked: the prompts as they are.
    in_plain_words: the questions, each as often as it is asked.
  """

  def __init__(self, folder: str):
    self._path = epath.Path(folder) / "prompts.jsonl"
    self._file = self._path.open("wb")
    self.count, self.is_reworded = 0, False
    self.asked, self.in_plain_words = _Texts(self, 0), _Texts(self, -1)

  def add(self, asked: str, in_plain_words: str) -> None:
    is_plain = asked == in_plain_words
    forms = [asked] if is_plain else [asked, in_plain_words]
    self._file.write(f"{records.dumps(forms)}\n".encode())
    self.count += 1
    self.is_reworded |= not is_plain

  def __iter__(self) -> Iterator[list[str]]:
    self._file.flush()
    with self._path.open("rb") as lines:
      yield from map(records.loads, lines)


@dataclasses.dataclass(frozen=True)
class _Texts:
  """One form of the prompts."""

  prompts: _Prompts
  form: int

  def __iter__(self) -> Iterator[str]:
    return (forms[self.form] for forms in self.prompts)


def _text(messages: Sequence[Message]) -> str:
  return "\n".join(message["content"] for message in messages)


def _texts(answers: Any) -> tuple[str, ...]:
  """Of one answer or several; none where they are no texts."""
  if isinstance(answers, str):
    return (answers,)
  several = answers if isinstance(answers, list | tuple) else ()
  return tuple(answer for answer in several if isinstance(answer, str))


def show(config: ConfigDict, workdir: epath.Path) -> None:
  """Prints the table of results."""
  terminal.print_results(workdir, setup.task_of(config).biased)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Builds the report, again if it is there already, and prints its table."""
  program.unmark(workdir, "report")
  build(config, workdir)
  show(config, workdir)


def main() -> None:
  """One run, or several where the line has --compare."""
  names = {argument.lstrip("-").partition("=")[0] for argument in sys.argv[1:]}
  if "compare" not in names:
    from s2d_jax.stages import several  # runs that end with this stage

    start = functools.partial(several.report, report_run=run)
    program.main(start, __doc__, is_one_run=False)
    return
  from s2d_jax.stages import compare  # whose flags are others

  sys.argv = compare.join_workdirs(sys.argv)
  compare.main()


if __name__ == "__main__":
  main()
