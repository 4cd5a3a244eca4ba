"""The signs of the rounds of a run, from their files: no label is read.

A round is compared with the one before it on the first samples of each input,
as many as every input has in both: where one has fewer, fewer agree by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
import itertools

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.curation.curate import Formatter, curate
from s2d_jax.evaluation.retention import retention
from s2d_jax.evaluation.signs import (
  Decided,
  Decisions,
  Signs,
  Taught,
  signs,
)
from s2d_jax.records import Record
from s2d_jax.stages import sample, setup
from s2d_jax.stages.movement import TEXT
from s2d_jax.tasks.task import asked


class _Round:
  """The samples of a finished round."""

  def __init__(self, config: ConfigDict, workdir: epath.Path):
    self._config, self._workdir = config, workdir

  @property
  def fewest(self) -> int:
    """Samples that every input may have."""
    most = sample.most_samples(self._config, self._workdir)
    examples = sample.iterate_training_examples(self._workdir)
    return min(most[example.id] for example in examples)

  @property
  def thought(self) -> float:
    """Tokens of a sample, their mean."""
    samples = sample.read_samples(self._config, self._workdir)
    return float(np.fromiter(map(_tokens, samples), int).mean())

  @property
  def taught(self) -> Taught:
    """Of which inputs something is believed, and not dropped."""
    return {
      (row["example_id"], row["variant"]): name != "rejected"
      for name in ("train", "valid", "rejected")
      for row in records.read(self._workdir / "distill" / f"{name}.jsonl")
    }

  @property
  def movement(self) -> float | None:
    """Of the model that it made; None where that was not measured."""
    folder = self._workdir / "eval"
    base = folder / "retention-base.jsonl"
    distilled = folder / "retention-distilled.jsonl"
    if not (base.exists() and distilled.exists()):
      return None
    moved = retention([*records.read(base)], [*records.read(distilled)]).moved
    return moved[TEXT].kl.value if TEXT in moved else None

  def decisions(self, most: int | None = None) -> Decisions:
    """By all samples, or by the first `most` of each input."""
    task = setup.task_of(self._config)
    rule = setup.filter_of(self._config)
    not_asked = sample.left_out(self._config, self._workdir)
    drawn = sample.InStep(sample.read_samples(self._config, self._workdir))
    found = {}
    for example in sample.iterate_training_examples(self._workdir):
      rows = curate(
        [
          one
          for one in drawn.take(example.id)
          if most is None or one["sample"] < most
        ],
        {example.id: asked(task, example)},
        Formatter(lambda *_: [], lambda *_: "-"),  # of no interest here
        rule,
        not_asked=not_asked,
        perturbations=task.perturbations,
      )
      found |= {
        (row["example_id"], row["variant"]): Decided(
          row["winner"], row["agreement"], "reason" not in row
        )
        for row in itertools.chain(*rows)
      }
    return found


def of_rounds(
  configs: Sequence[ConfigDict], workdirs: Sequence[epath.Path]
) -> list[Signs]:
  """The signs of finished rounds, from the first on."""
  found: list[Signs] = []
  before: _Round | None = None
  for config, workdir in zip(configs, workdirs, strict=True):
    now, pair = _Round(config, workdir), None
    if before is not None:
      most = min(now.fewest, before.fewest)
      pair = now.decisions(most), before.decisions(most)
    found.append(
      signs(
        config.rounds.number,
        now.decisions(),
        now.taught,
        now.thought,
        now.movement,
        pair,
        before and before.taught,
      )
    )
    before = now
  return found


def _tokens(record: Record) -> int:
  return sum(step["tokens"] for step in record["steps"])
