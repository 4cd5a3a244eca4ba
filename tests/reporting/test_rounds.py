"""Which round to use, and the sentence that says why."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.paired import compare
from s2d_jax.evaluation.results import Score
from s2d_jax.evaluation.signs import Signs
from s2d_jax.reporting.rounds import Rounds, Row


def _change(now: int, before: int):
  """Of a hundred inputs so many have it now, and had it before."""
  scores = [
    {str(i): Score({"accuracy": float(i < n)}, 0, (), None, str(i))
     for i in range(100)}
    for n in (now, before)
  ]  # fmt: skip
  return compare(*scores)


_FIRST = Signs(1, 0.7, 0.7, 0.9, 0.69, 20.0, 0.004)
_ALIKE = dataclasses.replace(
  _FIRST,
  number=2,
  fewer_kept=_change(70, 70),
  fewer_taught=_change(80, 60),
  less_agreement=_change(90, 90),
  changed=Interval(0.1, 0.05, 0.2),
)


def _rounds(*signs: Signs, over_first=(), is_unfinished=False) -> Rounds:
  """`over_first`: right of a hundred, of later rounds and of the first."""
  gains = [None, *itertools.starmap(_change, over_first)]
  rows = itertools.zip_longest(signs, gains)
  return Rounds([Row(None, one, None, gain) for one, gain in rows],
                is_unfinished)  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (
      {"fewer_kept": _change(41, 70)},
      "of the same inputs the share that its samples decide fell from 70 % to"
      " 41 %",
    ),
    (
      {"fewer_taught": _change(41, 70)},
      "the share of the inputs that is taught fell from 70 % to 41 %",
    ),
    (
      {"less_agreement": _change(50, 90)},
      "the share of the forms of an input that have its answer fell from 90 %"
      " to 50 %",
    ),
    (
      {"changed": Interval(0.56, 0.49, 0.63)},
      "56 % of the inputs that it and the round before decide have another"
      " answer, so one of the two is often wrong",
    ),
    (
      {"entropy": 0.2},
      "its answers are more and more the same, with 0.20 nats of entropy, where"
      " it was 0.69 in the first round",
    ),
    (
      {"thought": 4.4},
      "a thought takes 4 tokens, where it took 20 in the first round",
    ),
    (
      {"movement": 0.1},
      "its model moved by 0.100 nats a token on a text that is unrelated to the"
      " task, where it was 0.004 in the first round",
    ),
  ],
)
def test_a_sign_that_stops_is_said_with_its_figures(changes, said):
  bad = dataclasses.replace(_ALIKE, number=3, **changes)
  found = _rounds(_FIRST, _ALIKE, bad, over_first=[(90, 70), (90, 70)])
  answer = found.answer.replace("\N{NO-BREAK SPACE}", " ")
  assert answer == f"Round 3 stops the rounds: {said}. Use round 2."
  assert found.use == 2


@pytest.mark.parametrize(
  ("gains", "use"),
  [
    ([(70, 70), (70, 70)], 1),  # as good, so nothing speaks for later ones
    ([(73, 70), (72, 70)], 1),  # may be chance
    ([(90, 70), (72, 70)], 2),
    ([(70, 70), (90, 70)], 3),
    ([(90, 70), (91, 70)], 3),
  ],
)
def test_a_later_round_is_used_if_it_is_clearly_better(gains, use):
  later = [dataclasses.replace(_ALIKE, number=n) for n in (2, 3)]
  found = _rounds(_FIRST, *later, over_first=gains)
  assert (found.use, found.good, found.stopped) == (use, 3, None)
  why = ": no later one is clearly better on the test inputs"
  said = "" if use == 3 else why
  assert found.answer == f"No sign is bad in 3 rounds. Use round {use}{said}."


def test_a_bad_round_is_not_used_however_good_it_is():
  third = dataclasses.replace(_ALIKE, number=3, entropy=0.1)
  found = _rounds(_FIRST, _ALIKE, third, over_first=[(70, 70), (95, 70)])
  assert found.use == 1 and found.good == 2


def test_without_labels_no_round_is_better():
  found = _rounds(_FIRST, _ALIKE, is_unfinished=True)
  assert found.use == 1 and found.stopped is None
  assert _rounds(_FIRST).answer == "No sign is bad in one round. Use round 1."
  assert found.answer == (
    "Round 3 is not finished, or kept too little to learn from. No sign is bad"
    " in 2 rounds. Use round 1: without labels nothing tells whether a later"
    " one is better."
  )
