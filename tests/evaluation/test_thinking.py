from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.controls import Way
from s2d_jax.evaluation.paired import compare
from s2d_jax.evaluation.results import Score, by_group
from s2d_jax.evaluation.thinking import thinking
from tests.evaluation.synthetic_run import Skill, rows

METHODS = ("system1", "system1_shots", "s2a")
RUNS = 200


def judged(skills, **options):
  made = rows(dict(zip(METHODS, skills, strict=False)), **options)
  return thinking(by_group(made), "s2a", "suggests_wrong")


LOW, HALF, HIGH = Skill(0.3), Skill(0.55), Skill(0.8)
SPREAD = Skill(0.8, 0.4)  # 32 % of samples, but a vote finds half of all


@pytest.mark.parametrize(
  "skills, outcome, decisive",
  [
    ((LOW, LOW, HIGH), "thinking pays", "system1"),
    ((LOW, HALF, HIGH), "thinking pays", "system1_shots"),
    ((SPREAD, LOW, HALF), "the vote", "system1_vote"),
    ((LOW, HIGH, HIGH), "the form", "system1_shots"),
    ((LOW, Skill(0.9), HIGH), "the form", "system1_shots"),  # and better
    ((HIGH, LOW, LOW), "worse", "system1"),
    ((HIGH, HIGH, LOW), "worse", "system1"),
    ((HIGH, HIGH, HIGH), "no better", "system1"),
    ((Skill(0.02), Skill(0.0), Skill(0.03)), "saturated", "system1"),
    ((Skill(0.98), Skill(1.0), Skill(0.99)), "saturated", "system1_shots"),
    # Better than one sample, but not clearly than a vote of as many.
    ((Skill(0.75, 0.4), Skill(0.3), HALF), "unclear", "system1_vote"),
  ],
)
def test_outcomes(skills, outcome, decisive):
  found = judged(skills)
  assert found.outcome == outcome
  assert found.reply == "vote" and len(found.rivals) == 6
  assert found.decisive.method == Way.of(decisive).method
  if outcome in ("the vote", "unclear"):
    assert str(found.decisive) == decisive


def test_without_examples_of_system_2_none_is_needed():
  made = rows({"system1": LOW, "s2a": HIGH})
  wanted = {True: "no control", False: "thinking pays"}
  for has_shots, outcome in wanted.items():
    found = thinking(by_group(made), "s2a", "suggests_wrong", has_shots)
    assert found.outcome == outcome
    assert [str(way) for way in found.missing] == (
      ["system1_shots_vote"] if has_shots else []
    )


def test_controls_that_are_off_leave_it_open():
  """System 1 asked greedily alone, System 2 by its vote."""
  made = rows({"system1": LOW, "s2a": HIGH})
  bare = [
    row | {"passes": [], "metrics": {}, "vote": None}
    if row["method"] == "system1"
    else row
    for row in made
  ]
  found = thinking(by_group(bare), "s2a", "suggests_wrong", has_shots=False)
  assert [str(way) for way in found.rivals] == ["system1_greedy"]
  assert found.outcome == "no control"
  assert str(found.single) == "system1_greedy"


def test_a_better_greedy_reply_of_system_1_is_cheaper_than_its_vote():
  """Samples are drawn hot; greedily System 1 knows as much as System 2."""
  made = rows({"system1": LOW, "system1_shots": LOW, "s2a": HIGH})
  right = {
    row["example_id"]: row["greedy"] for row in made if row["method"] == "s2a"
  }
  for row in made:
    if row["method"] == "system1":
      row["greedy"] = right[row["example_id"]]
  found = thinking(by_group(made), "s2a", "suggests_wrong")
  assert found.outcome == "no better"
  assert str(found.decisive) == "system1_greedy"


def test_one_reply_is_not_compared_with_a_vote():
  made = rows({"system1": LOW, "system1_shots": LOW, "s2a": HIGH})
  groups = by_group(made)
  found = thinking(groups, "s2a", "suggests_wrong", replies=["greedy"])
  assert found.reply == "greedy"
  assert {way.drawn for way in found.rivals} == {"greedy", "sample"}
  assert found.outcome == "thinking pays"
  one = rows(
    {"system1": LOW, "system1_shots": LOW, "s2a": HIGH}, samples=1, greedy=False
  )
  found = thinking(by_group(one), "s2a", "suggests_wrong")
  assert (found.reply, found.outcome) == ("sample", "thinking pays")
  assert thinking({}, "s2a", "suggests_wrong") is None


def test_clusters_make_it_unclear():
  skills = (LOW, LOW, Skill(0.45))
  assert judged(skills, n=160, seed=1).outcome == "thinking pays"
  assert judged(skills, n=160, seed=1, size=16).outcome == "unclear"


def groups_of(right, clusters):
  """Scores of methods, by example: 0 or 1 of the vote, without any text."""
  return {
    (f"{method}_vote", "suggests_wrong"): {
      str(i): Score({"accuracy": float(hit)}, 9.0, ["a"], 40.0, str(c))
      for i, (hit, c) in enumerate(zip(hits, clusters, strict=True))
    }
    for method, hits in right.items()
  }


def claims(chances, n, size):
  """How often thinking is said to pay, in runs of such chances."""
  rng = np.random.default_rng(0)
  clusters = np.arange(n) // size
  found = 0
  for _ in range(RUNS):
    levels = {m: rng.random(n // size)[clusters] for m in METHODS}
    right = {
      method: levels[method] < chance
      for method, chance in zip(METHODS, chances, strict=True)
    }
    outcome = thinking(groups_of(right, clusters), "s2a", "suggests_wrong")
    found += outcome.outcome == "thinking pays"
  return found


@pytest.mark.parametrize(
  "chances, size",
  [((0.5, 0.5, 0.5), 1), ((0.1, 0.6, 0.6), 1), ((0.6, 0.1, 0.6), 3)],
)
def test_thinking_that_gains_nothing_is_seldom_said_to_pay(chances, size):
  """Also where only one of the controls is as good, and the others far below.

  At most 5 % of the runs, with room for chance.
  """
  assert claims(chances, 90, size) <= stats.binom(RUNS, 0.05).ppf(0.999)


@pytest.mark.parametrize("size", [1, 3])
def test_thinking_that_gains_much_is_mostly_seen(size):
  assert claims((0.2, 0.3, 0.8), 90, size) > 0.9 * RUNS


@pytest.mark.parametrize("better, worse", [(0.1, 0.0), (0.3, 0.2)])
def test_a_gain_of_ten_points_is_seldom_called_none(better, worse):
  """In at most 5 % of the runs, with room for chance."""
  rng = np.random.default_rng(1)
  names = [str(index) for index in range(48)]
  wrong = 0
  for _ in range(RUNS):
    level = rng.random(len(names))
    new = level < better
    old = (level > better) & (level < better + worse)
    first, second = (
      {
        name: Score({"accuracy": float(hit)}, 9.0, ["a"], 40.0, name)
        for name, hit in zip(names, hits, strict=True)
      }
      for hits in (new, old)
    )
    wrong += compare(first, second).outcome in ("no better", "worse")
  assert wrong <= stats.binom(RUNS, 0.05).ppf(0.999)
