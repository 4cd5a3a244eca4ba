"""Does thinking pay? System 2 against System 1 of the same budget.

A vote of n against a vote of n, with and without the worked examples that
System 2 has in its prompts: what only voting or only the form of the prompt
brings is not due to thinking.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Literal

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way
from s2d_jax.evaluation.paired import FEWEST, Comparison, compare
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

_BEST_FIRST: tuple[Drawn, ...] = ("vote", "greedy", "sample")
_FLOOR = 0.05  # right, at most; the ceiling is as far from all


@dataclasses.dataclass(frozen=True)
class Thinking:
  """System 2 against ways to ask System 1; None is what was not measured.

  Attributes:
    reply: what is compared: votes of n where System 2 has one, else greedy
      replies, else single samples.
    single: System 2 against one reply of System 1: a sample, or the greedy one
      where there are none; as `own` where `reply` is no vote.
    own: System 2 against System 1 of the same budget.
    shots: the same behind the worked examples of System 2.
    greedy: the greedy reply of System 2 against that of System 1.
    greedy_shots: the same behind the worked examples.
    has_shots: whether System 2 has worked examples, so that System 1 must have
      them, too.
  """

  reply: Drawn
  single: Comparison | None
  own: Comparison | None
  shots: Comparison | None
  greedy: Comparison | None
  greedy_shots: Comparison | None
  has_shots: bool = True

  @property
  def best(self) -> Comparison | None:
    """System 2 against the System 1 of equal budget that is best."""
    rivals = [one for one in (self.own, self.shots) if one is not None]
    return max(rivals, key=lambda one: one.second, default=None)

  @property
  def lacks_control(self) -> bool:
    """Whether a System 1 of equal budget was not asked that had to be."""
    return self.own is None or (self.has_shots and self.shots is None)

  @property
  def outcome(self) -> Pays:
    """What the comparisons show.

    Thinking pays if System 2 is clearly better than each System 1 of its
    budget. As all of these tests must succeed, none needs a correction for
    their number (Berger 1982).
    """
    rivals = [one for one in (self.own, self.shots) if one is not None]
    if rivals and all(one.outcome == "better" for one in rivals):
      return "no control" if self.lacks_control else "thinking pays"
    if self._is_saturated:
      return "saturated"
    gains = self.single is not None and self.single.outcome == "better"
    if gains and not rivals:
      return "no control"
    if gains and self.reply == "vote" and _does_as_well(self.own):
      return "the vote"
    if gains and _does_as_well(self.shots):
      return "the form"
    best = self.best or self.single
    return "unclear" if best is None or gains else _without_gain(best)

  @property
  def _is_saturated(self) -> bool:
    found = [one for one in (self.single, self.own, self.shots) if one]
    shares = [share for one in found for share in (one.first, one.second)]
    enough = bool(found) and min(one.n for one in found) >= FEWEST
    return enough and (max(shares) <= _FLOOR or min(shares) >= 1 - _FLOOR)


def _does_as_well(rival: Comparison | None) -> bool:
  """Whether System 2 is better by less than ten points, if at all."""
  return rival is not None and rival.outcome in ("no better", "worse")


def _without_gain(best: Comparison) -> Pays:
  return best.outcome if best.outcome in ("worse", "no better") else "unclear"


def thinking(
  groups: Groups, method: str, split: str, has_shots: bool = True
) -> Thinking | None:
  """Compares the methods of the base model on one split.

  Args:
    groups: `results.by_group` of rows of the base model.
    method: System 2.
    split: a variant.
    has_shots: whether System 2 has worked examples.

  Returns:
    None where System 2 was not asked, or there are no labels.
  """

  def group(name: str, drawn: Drawn) -> Mapping[str, Score]:
    return groups.get((str(Way(name, drawn)), split), {})

  reply = next((way for way in _BEST_FIRST if group(method, way)), None)
  if reply is None:
    return None

  def against(
    name: str, drawn: Drawn = reply, own: Drawn = reply
  ) -> Comparison | None:
    return compare(group(method, own), group(name, drawn))

  own = against(SYSTEM1)
  one = against(SYSTEM1, "sample") or against(SYSTEM1, "greedy")
  found = Thinking(
    reply=reply,
    single=one if reply == "vote" else own,
    own=own,
    shots=against(SHOTS),
    greedy=against(SYSTEM1, "greedy", "greedy"),
    greedy_shots=against(SHOTS, "greedy", "greedy"),
    has_shots=has_shots,
  )
  return found if found.single or found.own or found.shots else None
