"""What sampling comes to while it goes on."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence
import time

from s2d_jax.curation.curate import Filter, Formatter, curate
from s2d_jax.records import Record

_SECONDS_A_LINE = 10.0  # of the curve


class Tally:
  """What has become of this host's examples so far, as curation will see it.

  Attributes:
    passes: so far, with those of earlier starts.

  Args:
    rule: of curation.
    variants: of every example.
    recovered: the passes of earlier starts, of all hosts.
    decided: the examples of this host that need no more.
    total: examples of this host.
  """

  def __init__(
    self,
    rule: Filter,
    variants: Sequence[str],
    recovered: Sequence[Record],
    decided: Collection[str],
    total: int,
  ):
    self._rule, self._variants = rule, variants
    self._total = total
    self._under_way = collections.defaultdict(list)
    for record in recovered:
      self._under_way[record["example_id"]].append(record)
    self.passes = len(recovered)
    self._examples = self._believed = 0
    for example_id in decided:
      self._decide(example_id)
    self._new_line()

  def add(self, record: Record, is_over: bool) -> None:
    """Takes a pass; `is_over` says that its example needs no more."""
    self._under_way[record["example_id"]].append(record)
    self.passes += 1
    self._since["passes"] += 1
    self._since["tokens"] += sum(step["tokens"] for step in record["steps"])
    if is_over:
      self._decide(record["example_id"])

  def _decide(self, example_id: str) -> None:
    drawn = self._under_way.pop(example_id)
    formatter = Formatter(lambda *_: [], lambda *_: "-")  # of no interest here
    accepted, _ = curate(
      drawn, [example_id], self._variants, formatter, self._rule
    )
    self._believed += len(accepted)
    self._examples += 1

  @property
  def kept(self) -> float | None:
    """Share of the inputs of decided examples whose answer is believed.

    None before the first, and where the model is still to choose among its
    replies.
    """
    if not self._examples or self._rule.select == "usc":
      return None
    return self._believed / (self._examples * len(self._variants))

  @property
  def status(self) -> str:
    """For the bar."""
    kept = "" if self.kept is None else f"kept {self.kept:.0%}  "
    return f"{kept}{self.passes:,} passes"

  @property
  def is_due(self) -> bool:
    """Whether it is time for a line: every few seconds, and at the end."""
    is_end = self._examples == self._total
    return is_end or time.monotonic() - self._line > _SECONDS_A_LINE

  def line(self) -> Record:
    """For the curve: over all passes, counts since the line before."""
    line = {"step": self.passes, "examples": self._examples}
    line |= {"of": self._total, "kept": self.kept, **self._since}
    self._new_line()
    return line

  def _new_line(self) -> None:
    self._line = time.monotonic()
    self._since = {"passes": 0, "tokens": 0}
