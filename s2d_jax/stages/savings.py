"""What adaptive voting has saved: metrics/voting.json."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.answers.answer import UNSURE
from s2d_jax.curation import long_rows
from s2d_jax.curation.adaptive import stopping_time
from s2d_jax.curation.curate import InputId, votes_of
from s2d_jax.records import Record
from s2d_jax.stages import sample
from s2d_jax.tasks.task import Example, Task, asked

_COUNTED = (
  "inputs", "passes", "full", "decided_early", "given_up", "audited", "agree",
  "cut_short",
)  # fmt: skip


class Savings:
  """Counts over the samples of a run, one example after another."""

  def __init__(
    self,
    config: ConfigDict,
    workdir: epath.Path,
    task: Task,
    not_asked: Collection[InputId],
  ):
    self._config, self._task, self._not_asked = config, task, not_asked
    self._most = sample.most_samples(config, workdir)
    self._rule = sample.stopping_rule(config, task)
    self._tiers: collections.Counter[str | None] = collections.Counter()
    self._counts = dict.fromkeys(_COUNTED, 0)
    self._more = self._fewer = 0

  def add(self, example: Example, samples: Sequence[Record]) -> None:
    """Adds an example with all of its samples; one that has none saves none."""
    if not samples:
      return
    for one in samples:
      for tier in one.get("tiers", (one.get("tier"),)):
        self._tiers[tier] += 1
    most, counts = self._most[example.id], self._counts
    counts["passes"] += len(samples)
    counts["cut_short"] += sum(map(long_rows.is_cut_short, samples))
    groups = dict(sample.by_input(samples))
    inputs = {(example.id, v) for v in asked(self._task, example)}
    inputs -= self._not_asked.keys()
    counts["inputs"] += len(inputs)
    counts["full"] += sum(
      max(most, len(groups.get(input_id, ()))) for input_id in inputs
    )
    counts["given_up"] += len(inputs) - len(groups)
    is_audited = sample.is_audited(self._config, example.id)
    for group in groups.values():
      counts["decided_early"] += len(group) < most
      if is_audited:
        counts["audited"] += 1
        counts["agree"] += self._decides_alike(group)
    n = self._config.sampling.n
    self._more += len(inputs) * (most > n)
    self._fewer += len(inputs) * (most < n)

  @property
  def samples(self) -> int:
    """How many there are."""
    return self._counts["passes"]

  def _decides_alike(self, group: Sequence[Record]) -> bool:
    """Whether stopping early would have given the result of the full vote."""
    loose = self._config.curation.loose_votes
    votes = votes_of(group, nested=True, loose=loose)
    early = votes[: stopping_time(votes, self._rule)]
    accepted = self._rule.accepted_answer
    return accepted(early) == accepted(votes)

  @property
  def forms(self) -> str:
    """How surely the answers of the samples were read."""
    total = self._tiers.total()
    strict, loose, unsure, none = (
      f"{self._tiers[tier] / total:.0%}"
      for tier in ("strict", "loose", UNSURE, None)
    )
    no_vote = f" {unsure} unsure (no vote)," if self._tiers[UNSURE] else ""
    return (
      f"of the samples' answers {strict} strict, {loose} loose (read out of a"
      f" sentence),{no_vote} {none} none"
    )

  def to_record(self) -> Record:
    """Samples that were not needed, and how the audited inputs compare."""
    found = {"confidence": self._rule.confidence, **self._counts}
    if self._config.rounds.number:
      found |= {"more": self._more, "fewer": self._fewer}
    return found
