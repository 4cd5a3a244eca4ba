"""Runs that share what another one has made: what they take over of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.errors import KeptTooLittle
from s2d_jax.parallel import hosts
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import gate, pipeline, program


class Part(NamedTuple):
  """What a stage leaves in a workdir: patterns of its files."""

  stage: str
  files: tuple[str, ...]


EXAMPLES = Part("prepare", ("examples/*.jsonl",))
CURATION = Part("curate", ("distill/*.jsonl", "metrics/voting.json"))
EVALUATION_OF_BASE = Part("evaluate base", ("eval/base.jsonl",))
RETENTION_OF_BASE = Part("retention base", ("eval/retention-base.jsonl",))


def samples(method: str) -> tuple[Part, Part]:
  """What was drawn to learn from."""
  return (
    Part("sample", (f"samples/{method}/*.jsonl",)),
    Part("evaluate valid", ("eval/valid.jsonl",)),
  )


def selections(method: str) -> Part:
  return Part("select", (f"selections/{method}.jsonl",))


def take_over(
  source: epath.Path, target: epath.Path, parts: Iterable[Part]
) -> None:
  """Copies what two runs have in common, the marks of its stages last."""
  if not (target / "model.json").exists():
    copy(source / "model.json", target)
  for part in parts:
    if program.is_done(target, part.stage):
      continue
    for pattern in part.files:
      folder, _, name = pattern.rpartition("/")
      there = source / folder
      for path in sorted(there.glob(name)) if there.exists() else ():
        copy(path, target / folder)
    copy(mark_of(source, part.stage), target / "done")


def copy(path: epath.Path, folder: epath.Path) -> None:
  records.write_bytes(folder / path.name, path.read_bytes())


def is_finished(config: ConfigDict, workdir: epath.Path) -> bool:
  """Whether a run is, with a gate by these settings; it says so."""
  if not program.is_done(workdir, "report"):
    return False
  if program.is_done(workdir, "gate") and not gate.is_current(config, workdir):
    return False
  print(f"{workdir}: done already", flush=True)
  return True


def learn_from(
  config: ConfigDict, workdir: epath.Path, take_over: program.Stage
) -> None:
  """A run that goes on from what it takes over of another one, if it is new."""
  if is_finished(config, workdir):
    return
  if hosts.is_lead():
    take_over(config, workdir)
  hosts.barrier("shared")
  _learn(config, workdir)


def _learn(config: ConfigDict, workdir: epath.Path) -> None:
  """As the pipeline; where too little is kept, it says so and returns."""
  try:
    for stage in pipeline.CURATION:
      stage(config, workdir)
  except KeptTooLittle as error:
    hosts.barrier("curate")  # where the others wait for the lead
    print(f"{workdir}: {error}", flush=True)
  if not hosts.lead_value("curated", program.is_done(workdir, "curate")):
    return
  try:
    for stage in pipeline.LEARNING:
      stage(config, workdir)
  except KeptTooLittle as error:  # of the fine-tune: on all hosts
    print(f"{workdir}: {error}", flush=True)
