"""Signs of rounds on rows that were made up, against hand computations."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from s2d_jax.evaluation import signs as module
from s2d_jax.evaluation.signs import Decided, Signs, signs, stopping_sign


def _decisions(kept, winners=None, agreement=1.0):
  """By example: whether each is kept, and its winner."""
  winners = winners or ["yes"] * len(kept)
  return {
    (str(number), "plain"): Decided(winner, agreement, bool(is_kept))
    for number, (is_kept, winner) in enumerate(zip(kept, winners, strict=True))
  }


def _round(
  number, kept, before=None, thought=20.0, movement=0.01, dropped=0, **more
):
  """Taught is what is decided, without the first so many inputs."""
  now = _decisions(kept, **more)
  taught = _decided(now) | {(str(i), "plain"): False for i in range(dropped)}
  if before is None:
    return signs(number, now, taught, thought, movement)
  pair = now, before
  return signs(number, now, taught, thought, movement, pair, _decided(before))


def _decided(decisions):
  return {name: one.is_kept for name, one in decisions.items()}


_HALVES = ["yes", "no"] * 20
_ONE_SIDED = ["yes"] * 37 + ["no"] * 3


@pytest.fixture
def first() -> Signs:
  return _round(1, [1] * 30 + [0] * 10, winners=_HALVES)


def test_entropy_is_that_of_scipy():
  rng = np.random.default_rng(0)
  winners = [*rng.choice(["a", "b", "c"], 50, p=[0.6, 0.3, 0.1]), None, None]
  counts = [winners.count(name) for name in "abc"]
  wanted = scipy.stats.entropy(counts)
  assert module.entropy(winners) == pytest.approx(wanted)
  assert module.entropy(["a"] * 5) == module.entropy([None]) == 0
  assert module.entropy(_HALVES) == pytest.approx(math.log(2))


def test_figures_of_a_round_by_hand(first):
  assert (first.number, first.kept, first.agreement) == (1, 0.75, 1.0)
  assert first.entropy == pytest.approx(math.log(2))
  assert first.fewer_kept is first.less_agreement is first.changed is None
  before = _decisions([1, 1, 1, 0] * 10, ["a", "b", "c", "d"] * 10, 0.5)
  now = _decisions([1, 1, 0, 1] * 10, ["a", "x", "y", "z"] * 10, 0.75)
  taught = {name: name[0] != "0" for name in now}
  found = signs(2, now, taught, 8.0, None, (now, before), _decided(before))
  assert found.taught == 39 / 40
  fewer = found.fewer_taught
  assert (fewer.first, fewer.second, fewer.changed) == (39 / 40, 0.75, 11)
  # Of twenty that both decided, ten; the interval is Wilson's.
  wilson = scipy.stats.binomtest(10, 20).proportion_ci(method="wilson")
  changed = found.changed
  assert (changed.value, changed.low, changed.high) == pytest.approx(
    (0.5, wilson.low, wilson.high)
  )
  assert (found.fewer_kept.first, found.fewer_kept.second) == (0.75, 0.75)
  assert found.fewer_kept.changed == 20
  assert found.less_agreement.gain.value == pytest.approx(0.25)


def test_nothing_stops_rounds_that_are_alike(first):
  before = _decisions([1] * 30 + [0] * 10, _HALVES)
  later = [1] * 29 + [0, 1] + [0] * 9
  second = _round(2, later, before, winners=_HALVES)
  assert second.fewer_kept.gain.value == 0
  assert stopping_sign([first]) is stopping_sign([first, second]) is None


@pytest.mark.parametrize(
  ("sign", "changes"),
  [
    ("kept", {"kept": [1] * 15 + [0] * 25}),
    ("taught", {"dropped": 15}),
    ("agreement", {"agreement": 0.75}),
    ("changed", {"winners": ["no", "yes"] * 20}),
    ("entropy", {"kept": [0] * 20 + [1] * 20, "winners": _ONE_SIDED}),
    ("thought", {"thought": 9.9}),
    ("movement", {"movement": 0.031}),
  ],
)
def test_each_sign_stops_the_rounds(first, sign, changes):
  kept = [1] * 30 + [0] * 10
  before = _decisions(kept, _HALVES)
  given = {"kept": kept, "winners": _HALVES} | changes
  second = _round(2, before=before, **given)
  third = _round(3, kept, before, winners=_HALVES)
  assert stopping_sign([first, second]) == (2, sign)
  assert stopping_sign([first, third, second]) == (2, sign)  # by its number
  assert stopping_sign([first, second, third]) == (2, sign)


def test_on_the_edge_of_a_sign_the_rounds_go_on(first):
  # p = 0.893 has half of the entropy of a coin.
  assert scipy.stats.entropy([0.893, 0.107]) < math.log(2) / 2
  assert scipy.stats.entropy([0.887, 0.113]) > math.log(2) / 2
  at_edge = dataclasses.replace(
    first,
    number=2,
    entropy=first.entropy / 2,
    thought=first.thought / 2,
    movement=first.movement * 3,
  )
  assert stopping_sign([first, at_edge]) is None
  # What is not measured is no sign.
  unknown = dataclasses.replace(at_edge, movement=None)
  assert stopping_sign([first, unknown]) is None


@pytest.mark.parametrize(
  ("inputs", "fallen", "stops"),
  [
    (16, 16, False),  # too few inputs to say anything
    (40, 2, False),  # may be chance
    (400, 10, False),  # is clear, and too little to stop for
    (400, 30, True),
  ],
)
def test_a_fall_must_be_clear_and_large(inputs, fallen, stops):
  before = _decisions([1] * inputs)
  rounds = [
    _round(1, [1] * inputs),
    _round(2, [0] * fallen + [1] * (inputs - fallen), before),
  ]
  found = stopping_sign(rounds)
  assert found == ((2, "kept") if stops else None)


def test_forms_of_an_example_are_no_examples_of_their_own():
  """Four forms each of ten examples are as good as ten."""

  def forms(is_kept):
    return {
      (str(name), form): Decided("yes", 1.0, is_kept)
      for name in range(10)
      for form in "abcd"
    }

  now, before = forms(False), forms(True)
  taught = _decided(now)
  found = signs(2, now, taught, 1.0, None, (now, before), _decided(before))
  assert found.fewer_kept.gain.value == -1 and found.fewer_kept.units == 10
  assert (
    stopping_sign([signs(1, before, _decided(before), 1.0, None), found])
    is None
  )
