"""What of the test split was trained on: looked up once, as curation ends.

Of a million questions that takes a quarter of a minute, and reports are made
again and again. So what was found is kept, with a digest of all that it was
made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import json
import tempfile
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.conversation import Message
from s2d_jax.errors import UserError
from s2d_jax.evaluation import contamination
from s2d_jax.evaluation.contamination import Seen
from s2d_jax.records import Record
from s2d_jax.stages import made_from, setup
from s2d_jax.system2.program import Template
from s2d_jax.tasks.task import (
  Example,
  Task,
  cluster_of,
  iterate_examples,
  read_examples,
  without_perturbations,
)

_FILE = "metrics/seen.json"


def of_run(config: ConfigDict, workdir: epath.Path, task: Task) -> Seen | None:
  """What of the test split was trained on; None where nothing was yet."""
  files = [
    workdir / "distill" / "train.jsonl",
    *(setup.examples_path(workdir, split) for split in ("train", "test")),
  ]
  if not all(path.exists() for path in files):
    return None
  prompt = setup.prompts_of(config, task, "system1")["system1"]
  path, digest = workdir / _FILE, _digest(config, prompt, files)
  known = records.read_json(path, "delete it") if path.exists() else {}
  if known.get("of") == digest:
    return contamination.seen_of(known["seen"])
  found = _look_up(task, prompt, *files)
  if found is not None:
    known = {"of": digest, "seen": dataclasses.asdict(found)}
    records.write_text(path, records.dumps(known) + "\n")
  return found


def _digest(
  config: ConfigDict, prompt: Template, files: Sequence[epath.Path]
) -> str:
  """Of what is compared, and of the settings, which say of what task it is."""
  settings = json.loads(config.to_json())
  return made_from.digest({"settings": settings, "prompt": repr(prompt)}, files)


def _look_up(
  task: Task,
  prompt: Template,
  taught: epath.Path,
  train: epath.Path,
  test: epath.Path,
) -> Seen | None:
  """The same, from the files."""
  examples = read_examples(test)

  def asked(example: Example, variant: str) -> str:
    return _text(prompt.messages(**task.fields(example, variant)))

  def answered(example: Example, answers: Any) -> contamination.Answered:
    return contamination.Answered(_texts(answers), cluster_of(task, example))

  prompts = [
    asked(example, variant)
    for example in examples
    for variant in without_perturbations(task, example)
  ]
  plain = [asked(example, task.plain) for example in examples]
  with tempfile.TemporaryDirectory() as folder:
    trained = _Prompts(folder)

    def learnt() -> Iterator[contamination.Answered]:
      for example, rows in _taught(taught, train):
        texts = {row["variant"]: _text(row["prompt"]) for row in rows}
        in_plain_words = texts.get(task.plain) or asked(example, task.plain)
        for row in rows:
          trained.add(texts[row["variant"]], in_plain_words)
          yield answered(example, row["winner"])

    answers = contamination.answers_taught(
      learnt(), [answered(example, example.label) for example in examples]
    )
    if not trained.count:
      return None
    return Seen(
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
