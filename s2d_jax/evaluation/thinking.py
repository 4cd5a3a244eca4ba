"""Does thinking pay? System 2 against System 1 of the same budget.

A vote of n against all that n replies of System 1 can give, with and without
the worked examples that System 2 has in its prompts: what only voting or only
the form of the prompt brings is not due to thinking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Literal

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way
from s2d_jax.evaluation.paired import Comparison, compare
from s2d_jax.evaluation.results import Groups, Score

Pays = Literal[
  "thinking pays",
  "the vote",  # System 1's own vote does as well
  "the form",  # System 1 behind the same worked examples does as well
  "worse",
  "no better",
  "saturated",  # all right or all wrong: can show nothing
  "no control",  # better, but than nothing of the same budget
  "unclear",
]

BEST_FIRST: tuple[Drawn, ...] = ("vote", "greedy", "sample")
_FLOOR = 0.05  # right, at most; the ceiling is as far from all


@dataclasses.dataclass(frozen=True)
class Thinking:
  """System 2 against the ways to ask System 1, on test inputs.

  Attributes:
    reply: of System 2: its vote of n, else the greedy reply, else single
      samples.
    rivals: against each way to ask System 1 that was measured: greedily, in
      single samples and by a vote of n, and each behind the worked examples of
      System 2. None takes more replies than System 2.
    has_shots: whether System 2 has worked examples, so that System 1 must have
      them, too.
  """

  reply: Drawn
  rivals: Mapping[Way, Comparison]
  has_shots: bool = True

  @property
  def single(self) -> Way | None:
    """One reply of System 1: a sample, or the greedy one without samples."""
    ways = Way(SYSTEM1, "sample"), Way(SYSTEM1, "greedy")
    return next((way for way in ways if way in self.rivals), None)

  @property
  def missing(self) -> list[Way]:
    """Those of equal budget that had to be asked, and were not."""
    methods = (SYSTEM1, SHOTS) if self.has_shots else (SYSTEM1,)
    ways = [Way(method, self.reply) for method in methods]
    return [way for way in ways if way not in self.rivals]

  @property
  def decisive(self) -> Way:
    """The rival that the outcome rests on: the best, or what explains it."""
    outcome = self.outcome
    if outcome == "the vote":
      return Way(SYSTEM1, "vote")
    ways = [*self.rivals]
    if outcome == "the form":
      ways = [w for w in ways if w.method == SHOTS and self._is_matched_by(w)]
    return max(ways, key=lambda way: self.rivals[way].second)

  @property
  def outcome(self) -> Pays:
    """What the comparisons show.

    Thinking pays if System 2 is clearly better than every rival. As all of
    these tests must succeed, none needs a correction for their number (Berger
    1982).
    """
    if all(one.outcome == "better" for one in self.rivals.values()):
      return "no control" if self.missing else "thinking pays"
    if self._is_saturated:
      return "saturated"
    if self.gains:
      if self._is_matched_by(Way(SYSTEM1, "vote")):
        return "the vote"
      if any(self._is_matched_by(Way(SHOTS, drawn)) for drawn in BEST_FIRST):
        return "the form"
    best = max(self.rivals.values(), key=lambda one: one.second)
    return best.outcome if best.outcome in ("worse", "no better") else "unclear"

  @property
  def gains(self) -> bool:
    """Whether System 2 beats one reply of System 1, or one of equal budget."""
    found = map(self.rivals.get, (self.single, Way(SYSTEM1, self.reply)))
    return any(one is not None and one.outcome == "better" for one in found)

  def _is_matched_by(self, way: Way) -> bool:
    """Whether System 2 is better by less than ten points, if at all."""
    rival = self.rivals.get(way)
    return rival is not None and rival.outcome in ("no better", "worse")

  @property
  def _is_saturated(self) -> bool:
    found = self.rivals.values()
    shares = [share for one in found for share in (one.first, one.second)]
    is_flat = max(shares) <= _FLOOR or min(shares) >= 1 - _FLOOR
    return is_flat and not any(one.is_too_small for one in found)


def thinking(
  groups: Groups,
  method: str,
  split: str,
  has_shots: bool = True,
  replies: Sequence[Drawn] = BEST_FIRST,
) -> Thinking | None:
  """Compares the methods of the base model on one split.

  Args:
    groups: `results.by_group` of rows of the base model.
    method: System 2.
    split: a variant.
    has_shots: whether System 2 has worked examples.
    replies: of System 2; the first that there is is compared.

  Returns:
    None where System 2 or System 1 was not asked, or there are no labels.
  """

  def group(way: Way) -> Mapping[str, Score]:
    return groups.get((str(way), split), {})

  ways = [Way(method, drawn) for drawn in replies]
  own = next((way for way in ways if group(way)), None)
  if own is None:
    return None
  # A vote has the budget of every way; one reply has not that of a vote.
  drawn = BEST_FIRST if own.drawn == "vote" else BEST_FIRST[1:]
  rivals = [Way(name, each) for name in (SYSTEM1, SHOTS) for each in drawn]
  found = {way: compare(group(own), group(way)) for way in rivals}
  found = {way: one for way, one in found.items() if one is not None}
  return Thinking(own.drawn, found, has_shots) if found else None
