"""Reads the files of a run, as far as there are any."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import itertools
from typing import Any

from etils import epath

from s2d_jax import ordered, records
from s2d_jax.errors import UserError
from s2d_jax.ordered import Order, Part
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.records import Record
from s2d_jax.reporting.votes import Votes

_EVAL = ("example_id", "variant", "method", "passes", "metrics")
_DISTILL = (
  "example_id",
  "variant",
  "target",
  "votes",
  "samples",
  "winner",
  "margin",
  "agreement",
)
_STAGES = (
  "prepare",
  "sample",
  "select",
  "curate",
  "evaluate valid",
  "evaluate base",
  "retention base",
  "finetune",
  "evaluate distilled",
  "gate",
  "retention distilled",
  "contamination",
)
_SAMPLE = ("example_id", "variant", "sample", "steps", "answer")


@dataclasses.dataclass(frozen=True)
class Run:
  """The files of a workdir; those that are not there yet are empty.

  Attributes:
    config: config.json.
    model: model.json, which files the model's name stood for.
    examples: by id, of those that were evaluated.
    valid, base, distilled, gated: rows of eval/.
    gate: gate.json, the gate or why there is none.
    retention: rows of eval/retention-<model>.jsonl, by model.
    contamination: eval/contamination.json, whether the base model had read the
      test split.
    votes: the records of distill/, those of the train and the valid split and
      then the rejected ones.
    voting: metrics/voting.json, what adaptive voting has saved.
    choices: rows of selections/, what the model chose among its replies.
    finetune: lines of metrics/finetune.jsonl.
    done: stage → {"summary", "seconds", "versions", "command", "devices",
      "dtype"}, what there is of it.
  """

  workdir: epath.Path
  config: Mapping[str, Any]
  model: Mapping[str, Any]
  examples: Mapping[str, Record]
  valid: list[Record]
  base: list[Record]
  distilled: list[Record]
  gated: list[Record]
  gate: Mapping[str, Any]
  retention: Mapping[str, list[Record]]
  contamination: Mapping[str, Any]
  votes: Votes
  voting: Mapping[str, Any]
  choices: list[Record]
  finetune: list[Record]
  done: Mapping[str, Record]

  @property
  def task(self) -> str:
    return self.config.get("task", {}).get("name", "unknown")

  def setting(self, section: str, name: str) -> Any:
    """A value of the config; None where there is none."""
    return self.config.get(section, {}).get(name)


def mark_of(workdir: epath.PathLike, stage: str) -> epath.Path:
  """The file that marks a stage as complete, and tells how it was run."""
  return epath.Path(workdir) / "done" / f"{stage.replace(' ', '_')}.json"


def load(workdir: epath.PathLike) -> Run:
  """Reads a workdir; UserError if it is none, or a file of it is damaged."""
  workdir = epath.Path(workdir)
  known = ("config.json", "eval", "distill", "examples")
  if not any((workdir / name).exists() for name in known):
    raise UserError(
      f"{workdir} holds no run (none of {', '.join(known)}); give the"
      " --workdir of the other stages"
    )
  valid, base, distilled, gated = (
    rows_of(workdir, name) for name in ("valid", "base", "distilled", "gated")
  )
  evaluated = {
    row["example_id"] for row in itertools.chain(valid, base, distilled, gated)
  }
  examples, labels = {}, {}
  for split in ("train", "valid", "test"):
    path = workdir / "examples" / f"{split}.jsonl"
    for _, example in _numbered(path, ("id",)):
      if example["id"] in evaluated:
        examples[example["id"]] = example
      if isinstance(label := example.get("label"), str):
        labels[example["id"]] = label
  files = [
    workdir / "distill" / f"{name}.jsonl"
    for name in ("train", "valid", "rejected")
  ]
  config = _read_json(workdir / "config.json")
  return Run(
    workdir=workdir,
    config=config,
    model=_read_json(workdir / "model.json"),
    examples=examples,
    valid=valid,
    base=base,
    distilled=distilled,
    gated=gated,
    gate=_read_json(workdir / "gate.json"),
    retention={
      model: _read(workdir / "eval" / f"retention-{model}.jsonl", ("task",))
      for model in ("base", "distilled")
    },
    contamination=_read_json(workdir / "eval" / "contamination.json"),
    votes=Votes({path: _numbered(path, _DISTILL) for path in files}, labels),
    voting=_read_json(workdir / "metrics" / "voting.json"),
    choices=_read(
      workdir / "selections" / f"{config.get('method')}.jsonl", ("chosen",)
    ),
    finetune=_read(
      workdir / "metrics" / "finetune.jsonl", ("step",), growing=True
    ),
    done={
      stage: mark
      for stage in _STAGES
      if (mark := _read_json(mark_of(workdir, stage)))
    },
  )


def rows_of(workdir: epath.Path, name: str) -> list[Record]:
  """Rows of eval/; none where the file is not there yet."""
  return _read(workdir / "eval" / f"{name}.jsonl", _EVAL)


def samples_of(
  workdir: epath.Path, names: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[Record]]:
  """The samples of these (example id, variant), by their number."""
  found: dict[tuple[str, str], list[Record]] = {name: [] for name in names}
  order = Order(
    ("example_id", "variant", "sample"),
    'place, "sample"::BIGINT',
    {
      "place": {
        "example_id": [example_id for example_id, _ in found],
        "variant": [variant for _, variant in found],
      }
    },
  )
  for folder in _files(workdir / "samples", "*"):
    paths = _files(folder, "part-*.jsonl")
    rows = ordered.read([*map(Part, paths)], order, only="place")
    frames = PromptFrames.read(folder)
    for number, record in enumerate(rows, start=1):
      _check(record, number, _SAMPLE, folder)
      name = record["example_id"], record["variant"]
      found[name].append(frames.restore(record))
  return found


def _files(folder: epath.Path, pattern: str) -> list[epath.Path]:
  return sorted(folder.glob(pattern)) if folder.exists() else []


def _read(
  path: epath.Path, needed: Collection[str], growing: bool = False
) -> list[Record]:
  return [row for _, row in _numbered(path, needed, growing)]


def _numbered(
  path: epath.Path, needed: Collection[str], growing: bool = False
) -> Iterator[tuple[int, Record]]:
  """The records of a file with the numbers of their lines."""
  if path.exists():
    for number, row in records.numbered(path, growing):
      _check(row, number, needed, path)
      yield number, row


def _check(
  record: Record, number: int, needed: Collection[str], path: epath.Path
) -> None:
  for name in needed:
    if name not in record:
      raise UserError(
        f"{path}, record {number} has no {name!r}; delete the file and run its"
        " stage again"
      )


def _read_json(path: epath.Path) -> Mapping[str, Any]:
  if not path.exists():
    return {}
  return records.read_json(path, "fix or delete it")
