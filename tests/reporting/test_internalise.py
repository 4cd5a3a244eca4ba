"""What the page says of an internalisation, for each way it may end."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import pytest

from s2d_jax.evaluation.internalisation import choose
from s2d_jax.evaluation.results import Score
from s2d_jax.reporting import plots
from s2d_jax.reporting.comparison import FinishedRun
from s2d_jax.reporting.internalise import Internalisation, Row
from s2d_jax.reporting.table import Kind, Table
from tests.reporting.test_plots import axes_of

_TABLE = Table(("plain",), "plain", (), True)
_THOUGHTS = (27, 18, 9, 0)


def _row(name: str, thought: int) -> Row:
  run = FinishedRun(name, {}, {}, {}, _TABLE, [])
  return Row(run, thought, None, None)


def _agreement(right: int, n: int = 100) -> dict[str, Score]:
  return {
    str(i): Score({"agreement": float(i < right)}, 2.0, ("",), None, str(i))
    for i in range(n)
  }


def _found(
  rights: Sequence[int], direct: int | None = 30, n: int = 100
) -> Internalisation:
  """Of so many of n validation inputs each stage says what the vote says."""
  rows = [_row(str(i), _THOUGHTS[i]) for i in range(len(rights))]
  control = None if direct is None else _agreement(direct, n)
  return Internalisation(
    3,
    rows,
    None if direct is None else _row("direct", 0),
    choose([_agreement(right, n) for right in rights], control),
    (),
  )


_WORSE = (
  "The direct control, taught answers alone for as many epochs, has 0.30 ("
)


@pytest.mark.parametrize(
  ("rights", "told", "use"),
  [
    (
      (90, 91, 90, 60),
      "Internalised to 9 tokens: taught the last 9 of a thought, stage 2"
      " agrees with System 2’s vote on 100 validation inputs with κ = 0.90,"
      " where stage 1, the best, has 0.91 (−1 points, 95 % interval −3 to 0,"
      " p = 1).",
      "2",
    ),
    (
      (80, 91, 60, 60),
      "Internalised to 18 tokens: taught the last 18 of a thought, stage 1"
      " agrees with System 2’s vote on 100 validation inputs with κ = 0.91.",
      "1",
    ),
    (
      (90, 90, 70, 92),
      "Internalised in whole: taught no token of a thought any more, stage 3"
      " agrees with System 2’s vote on 100 validation inputs with κ = 0.92.",
      "3",
    ),
    (
      (90, 80, 84, 60),
      "Nothing can be internalised, the whole thought is needed: taught whole"
      " thoughts, stage 0 agrees with System 2’s vote on 100 validation inputs"
      " with κ = 0.90, and of the others stage 2 comes nearest with 0.84.",
      "0",
    ),
  ],
)
def test_how_short_a_thought_may_be_is_said(rights, told, use):
  found = _found(rights)
  said = found.answer.replace("\N{NO-BREAK SPACE}", " ")
  first, rest = said[: len(told)], said[len(told) :].strip()
  assert first == told
  assert rest.startswith(_WORSE) and rest.endswith(f"Use stages/{use}.")
  assert found.use == use


def test_a_control_that_does_as_well_is_used():
  found = _found((90, 91, 90, 60), direct=90)
  assert found.use == "direct"
  said = found.answer.replace("\N{NO-BREAK SPACE}", " ")
  assert said.endswith(
    "The direct control, taught answers alone for as many epochs, does as well"
    " with 0.90, so the stages buy nothing. Use stages/direct."
  )


def test_a_control_that_may_do_as_well_is_not_used():
  """Of 50 it has six that the stage lacks, and lacks eight that it has."""
  stage, direct = _agreement(40, 50), _agreement(46, 50)
  for name in map(str, range(8)):
    direct[name] = dataclasses.replace(direct[name], metrics={"agreement": 0.0})
  choice = choose([stage], direct)
  assert choice.is_direct_as_good and not choice.buys_nothing
  found = dataclasses.replace(_found((40,), direct=40), choice=choice)
  assert found.use == "0"
  assert "may do as well with" in found.answer
  assert "more validation inputs would tell (" in found.answer


def test_few_inputs_are_too_few_to_tell():
  found = _found((9, 9, 9, 3), direct=2, n=12)
  assert "Internalised to 9 tokens (12 inputs are too few to tell)" in (
    found.answer
  )


def test_a_stage_that_may_have_lost_ten_points_is_not_for_certain():
  """Of 40 that the best has, it loses ten and gains seven others."""
  best, other = _agreement(40, 50), _agreement(47, 50)
  for name in map(str, range(10)):
    other[name] = dataclasses.replace(other[name], metrics={"agreement": 0.0})
  choice = choose([best, other, _agreement(0, 50)], None)
  assert choice.use == 1 and choice.over_best.gain.value == pytest.approx(-0.06)
  lacks_direct = _found((40, 40, 40, 0), direct=None)
  found = dataclasses.replace(lacks_direct, choice=choice)
  assert "Internalised to 18 tokens, not for certain: taught the" in (
    found.answer
  )


def test_what_is_not_finished_is_said():
  assert _found((90, 91), direct=None).answer.startswith(
    "Stage 2 is not finished, or had too little to learn from. Internalised"
  )
  only = _found((90,), direct=None)
  assert only.answer.endswith(
    "Nothing is internalised yet: taught whole thoughts, stage 0 agrees"
    " with System 2’s vote on 100 validation inputs with κ = 0.90."
    " Use stages/0."
  )
  assert _found((90, 91, 90, 60), direct=None).answer.startswith(
    "The direct control is not finished. Internalised to 9 tokens"
  )


def test_without_votes_no_stage_is_named():
  found = dataclasses.replace(_found((90, 91, 90, 60)), choice=None)
  assert found.use is None
  assert found.answer == (
    "Which stage to use is not known, as System 2’s vote has no answer to any"
    " validation input."
  )


def test_the_picture_has_the_stages_the_control_and_the_ways():
  stages = [("all", 30.0, 0.8), ("9", 12.0, 0.75), ("none", 2.0, 0.4)]
  ways = [
    (Kind("system1", "greedy"), 3.0, 0.3),
    (Kind("system2", "vote"), 160.0, 0.85),
  ]
  axes = axes_of(plots.internalisation(stages, (2.0, 0.35), ways))
  line, control, *others = axes.lines
  assert list(line.get_xdata()) == [30.0, 12.0, 2.0]
  assert list(line.get_ydata()) == [0.8, 0.75, 0.4]
  assert [text.get_text() for text in axes.texts] == ["all", "9", "none"]
  assert (control.get_xdata()[0], control.get_ydata()[0]) == (2.0, 0.35)
  assert [one.get_label() for one in others] == [
    "System 1, greedy",
    "System 2, vote",
  ]
  low, high = axes.get_xlim()
  assert low < 2.0 and high > 160.0
