"""Which round to use, and the sentence that says why."""

from __future__ import annotations

import dataclasses

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


def _rounds(*signs: Signs, is_unfinished: bool = False) -> Rounds:
  return Rounds([Row(None, one, None) for one in signs], is_unfinished)


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
  found = _rounds(_FIRST, _ALIKE, bad)
  answer = found.answer.replace("\N{NO-BREAK SPACE}", " ")
  assert answer == f"Round 3 stops the rounds: {said}. Use round 2."
  assert found.use == 2


@pytest.mark.parametrize(
  ("taught", "use"),
  [
    ([(70, 70), (70, 70)], 1),  # as much, so nothing speaks for later ones
    ([(73, 70), (70, 73)], 1),  # may be chance
    ([(90, 70), (90, 90)], 2),
    ([(70, 70), (90, 70)], 3),
    ([(80, 70), (90, 80)], 3),
    ([None, None], 1),  # too few inputs to say
  ],
)
def test_a_later_round_must_teach_clearly_more(taught, use):
  later = [
    dataclasses.replace(
      _ALIKE, number=number, fewer_taught=pair and _change(*pair)
    )
    for number, pair in enumerate(taught, start=2)
  ]
  found = _rounds(_FIRST, *later)
  assert (found.use, found.good, found.stopped) == (use, 3, None)
  more = ": no later one teaches clearly more" if use < 3 else ""
  assert found.answer == f"No sign is bad in 3 rounds. Use round {use}{more}."


def test_what_a_bad_round_teaches_does_not_count():
  second = dataclasses.replace(_ALIKE, fewer_taught=_change(70, 70))
  third = dataclasses.replace(
    _ALIKE, number=3, entropy=0.1, fewer_taught=_change(95, 70)
  )
  assert _rounds(_FIRST, second, third).use == 1


def test_without_a_bad_sign_the_last_round_is_used():
  assert _rounds(_FIRST).answer == "No sign is bad in one round. Use round 1."
  found = _rounds(_FIRST, _ALIKE, is_unfinished=True)
  assert found.use == 2 and found.stopped is None
  assert found.answer == (
    "Round 3 is not finished, or kept too little to learn from. No sign is bad"
    " in 2 rounds. Use round 2."
  )
