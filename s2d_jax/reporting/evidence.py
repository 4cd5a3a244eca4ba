"""The comparisons that the verdict rests on, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way
from s2d_jax.evaluation.paired import Comparison
from s2d_jax.evaluation.thinking import Thinking
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting.retention import points_within
from s2d_jax.reporting.sentences import p_value, rounded_up
from s2d_jax.reporting.table import DRAWN, WHO

HEAD = (
  *("who", "against", "right", "the other", "points"),
  *("p", "inputs", "needed", "finding"),
)
_STUDENT = "Distilled, greedy"


def lines(verdict: Verdict) -> list[list[str]]:
  """A row a comparison on test inputs, the head first; empty without any."""
  rows = [
    *_rivals(verdict.thinking),
    *_rivals(verdict.greedy, only="greedy"),
    *_rivals(verdict.overall, ", all forms", only="vote"),
    *_student(verdict),
  ]
  return [list(HEAD), *rows] if rows else []


def _rivals(
  found: Thinking | None, more: str = "", only: Drawn | None = None
) -> Iterator[list[str]]:
  """System 2 against each way to ask System 1, or those with `only` a reply."""
  if found is None:
    return
  who = f"{WHO['system2']}, {DRAWN[found.reply]}{more}"
  for way, rival in found.rivals.items():
    if only is None or way.drawn == only:
      yield row(who, _called(way), rival)


def _student(verdict: Verdict) -> Iterator[list[str]]:
  before = _called(Way(SYSTEM1, "greedy"))
  others = {
    before: verdict.distilled,
    _called(Way(SYSTEM1, "vote")): verdict.distilled_own_vote,
    _called(Way(SHOTS, "greedy")): verdict.distilled_shots,
    _called(Way(SHOTS, "vote")): verdict.distilled_shots_vote,
    f"{WHO['system2']}, {DRAWN['greedy']}": verdict.distilled_greedy,
    f"{WHO['system2']}, {DRAWN['sample']}": verdict.distilled_single,
  }
  if verdict.is_system2:
    others[f"{WHO['system2']}, {DRAWN['vote']}"] = verdict.distilled_vote
  for name, found in others.items():
    if found is not None:
      yield row(_STUDENT, name, found)
  if found := verdict.distilled_overall:
    yield row(f"{_STUDENT}, all forms", before, found)


def _called(way: Way) -> str:
  return f"{WHO[way.method]}, {DRAWN[way.drawn]}"


def row(who: str, against: str, found: Comparison) -> list[str]:
  """A line of the table, as `HEAD` says."""
  gain = found.gain
  units = f" ({found.units:,})" if found.units < found.n else ""
  is_open = found.outcome == "unclear" and (found.needed or 0) > found.n
  return [
    who,
    against,
    f"{100 * found.first:.0f}",
    f"{100 * found.second:.0f}",
    points_within(gain),
    p_value(found.p),
    f"{found.n:,}{units}",
    _needed(found) if is_open else "",
    found.outcome,
  ]


def _needed(found: Comparison) -> str:
  members = found.members_needed
  of = f" ({rounded_up(members)})" if members else ""
  return f"{rounded_up(found.needed)}{of}"
