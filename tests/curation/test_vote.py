from __future__ import annotations

import random

import pytest

from s2d_jax.curation.vote import vote


@pytest.mark.parametrize(
  "answers, winner, margin",
  [
    ([], None, 0.0),
    ([None, None], None, 0.0),
    (["lima"], "lima", 1.0),
    (["lima", None], "lima", 0.5),
    (["lima", "quito"], None, 0.0),
    (["lima", "quito", None, "lima", "lima"], "lima", 0.4),
    (["a", "a", "b", "b", "c"], None, 0.0),
    # None is the most frequent of all, and must not win.
    ([None, None, None, "a"], "a", 0.25),
    (["", "", "a"], "", 1 / 3),
  ],
)
def test_by_hand(answers, winner, margin):
  result = vote(answers)
  assert (result.winner, result.margin) == (winner, margin)
  assert result.samples == len(answers)


def test_counts_come_most_votes_first_then_by_answer():
  assert list(vote(["c", "b", None, "b", "a"]).counts.items()) == [
    ("b", 2),
    ("a", 1),
    ("c", 1),
  ]


def by_brute_force(answers):
  """Tries each answer as the winner: it must beat every other one."""
  said = set(answers) - {None}
  for candidate in said:
    leads = [
      answers.count(candidate) - answers.count(other)
      for other in said - {candidate}
    ]
    if all(lead > 0 for lead in leads):
      return candidate, min([answers.count(candidate), *leads]) / len(answers)
  return None, 0.0


def test_against_brute_force():
  draw = random.Random(0)
  outcomes = set()
  for _ in range(3000):
    kinds = ["a", "b", "c", "d", None][-draw.randint(1, 5) :]
    answers = draw.choices(kinds, k=draw.randint(0, 9))
    result = vote(answers)
    assert (result.winner, result.margin) == by_brute_force(answers)
    shuffled = draw.sample(answers, len(answers))
    again = vote(shuffled)
    assert list(again.counts.items()) == list(result.counts.items())
    assert again == result
    outcomes.add(result.winner)
  assert outcomes == {"a", "b", "c", "d", None}
