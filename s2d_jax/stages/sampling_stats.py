"""Statistics of sampling while it runs: samples, tokens, the share kept."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence
import time

from s2d_jax.curation.curate import Filter, Formatter, curate
from s2d_jax.records import Record

_LINE_SECONDS = 10.0  # between lines of the curve


class SamplingStats:
  """What this host has sampled, and what curation would keep of it.

  Attributes:
    samples: so far, with those of earlier starts.

  Args:
    rule: of curation.
    perturbations: those that are never kept.
    samples: of earlier starts, of all hosts.
  """

  def __init__(
    self,
    rule: Filter,
    perturbations: Collection[str],
    samples: int,
  ):
    self._rule, self._perturbations = rule, perturbations
    self._undecided = collections.defaultdict(list)  # samples by example
    self.samples = samples
    self._examples = self._inputs = self._inputs_kept = 0
    self._new_line()

  def recover(self, samples: Sequence[Record]) -> None:
    """Adds those that earlier starts have drawn of an example."""
    for record in samples:
      self._undecided[record["example_id"]].append(record)

  def add(self, record: Record) -> None:
    """Adds a sample that was drawn now."""
    self.recover([record])
    self.samples += 1
    self._since["passes"] += 1
    self._since["tokens"] += sum(step["tokens"] for step in record["steps"])

  def decide(self, example_id: str, asked: Sequence[str]) -> None:
    """An example needs no more samples in the variants in which it is asked."""
    self._examples += 1
    self._inputs += len(set(asked) - set(self._perturbations))
    samples = self._undecided.pop(example_id, None)
    if samples is None:  # it is too long
      return
    formatter = Formatter(lambda *_: [], lambda *_: "-")  # of no interest here
    accepted, _ = curate(
      samples,
      {example_id: asked},
      formatter,
      self._rule,
      perturbations=self._perturbations,
    )
    self._inputs_kept += len(accepted)

  @property
  def kept(self) -> float | None:
    """Share of the inputs of decided examples that are kept.

    None before the first, and where the model is still to choose among its
    replies.
    """
    if not self._examples or self._rule.select == "usc":
      return None
    return self._inputs_kept / self._inputs

  @property
  def status(self) -> str:
    """For the progress bar."""
    kept = "" if self.kept is None else f"kept {self.kept:.0%}  "
    return f"{kept}{self.samples:,} samples"

  @property
  def is_due(self) -> bool:
    """Whether it is time for a line: every few seconds."""
    return time.monotonic() - self._line > _LINE_SECONDS

  @property
  def has_news(self) -> bool:
    """Whether there are samples since the last line."""
    return self._since["passes"] > 0

  def line(self, done: int, total: int) -> Record:
    """Of the curve: by number of samples, counts since the line before.

    Args:
      done: examples of all hosts.
      total: of them.
    """
    line = {"step": self.samples, "examples": done, "of": total}
    line |= {"kept": self.kept, **self._since}
    self._new_line()
    return line

  def _new_line(self) -> None:
    self._line = time.monotonic()
    self._since = {"passes": 0, "tokens": 0}
