"""Which stage is chosen, on agreements that were made up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from s2d_jax.evaluation.internalisation import agreement, choose
from s2d_jax.evaluation.results import Score
from s2d_jax.records import Record


def _agreement(
  same: Sequence[int], clusters: Sequence[object] | None = None
) -> dict[str, Score]:
  """Of inputs 0, 1, …; of those in `same` the answer is the vote's."""
  names = range(100)
  return {
    str(i): Score(
      {"agreement": float(i in same)},
      2.0,
      ("",),
      None,
      str(i) if clusters is None else clusters[i],
    )
    for i in names
  }


def _row(name: str, method: str, answer: str | None, **more) -> Record:
  one = {"text": "", "answer": answer, "tier": "strict", "tokens": 2}
  return {
    "example_id": name,
    "variant": "plain",
    "method": method,
    "passes": [one],
    "metrics": {},
  } | {key: one | {"answer": x, "metrics": {}} for key, x in more.items()}


def test_agreement_is_with_the_vote_where_it_has_an_answer():
  thought = [
    _row("a", "cot", "no", vote="yes"),
    _row("b", "cot", "no", vote="no"),
    _row("c", "cot", "no", vote=None),
    _row("d", "cot", "no", vote="no"),
  ]
  student = [
    _row("a", "system1", "no", greedy="yes"),
    _row("b", "system1", "no", greedy="yes"),
    _row("c", "system1", "no", greedy=None),
    _row("d", "system1", "no", greedy=None),
  ]
  found = agreement(student, thought, "cot")
  same = {name: one.metrics["agreement"] > 0 for name, one in found.items()}
  assert same == {"a/plain": True, "b/plain": False, "d/plain": False}


def test_agreement_is_beyond_chance():
  """The kappa of Cohen's own example, 0.492: what one and the other say."""
  said = {("1", "1"): 88, ("1", "2"): 14, ("1", "3"): 18, ("2", "1"): 10,
          ("2", "2"): 40, ("2", "3"): 10, ("3", "1"): 2, ("3", "2"): 6,
          ("3", "3"): 12}  # fmt: skip
  student, thought = [], []
  for (one, other), count in said.items():
    for number in range(count):
      name = f"{one}/{other}/{number}"
      student.append(_row(name, "system1", one, greedy=one))
      thought.append(_row(name, "cot", other, vote=other))
  found = [
    score.metrics["agreement"]
    for score in agreement(student, thought, "cot").values()
  ]
  assert sum(found) / len(found) == pytest.approx(0.492, abs=0.0005)


def test_who_always_says_the_same_agrees_by_chance():
  thought = [_row(str(i), "cot", "no", vote="no") for i in range(8)]
  thought += [_row(f"y{i}", "cot", "yes", vote="yes") for i in range(2)]
  student = [
    _row(row["example_id"], "system1", "no", greedy="no") for row in thought
  ]
  found = agreement(student, thought, "cot").values()
  assert sum(score.metrics["agreement"] for score in found) == pytest.approx(0)


def test_the_shortest_within_a_standard_error_is_chosen():
  """Of 100 inputs; the difference of n that are lost has the error √n / 100.

  Nearly: √(n (1 - n / 100)) / 99, by the jackknife's residuals.
  """
  best = _agreement(range(90))
  one_less = _agreement(range(89))  # 0.01 below, 0.01 of error
  two_less = _agreement(range(88))  # 0.02 below, 0.014 of error
  assert choose([best, one_less], None).use == 1
  assert choose([best, two_less], None).use == 0
  assert choose([best, two_less, one_less, two_less], None).use == 2
  found = choose([two_less, best, one_less], None)
  assert (found.best, found.use) == (1, 2)
  assert found.kappas == (0.88, 0.9, 0.89)
  assert found.over_best.gain.value == pytest.approx(-0.01)
  assert found.over_direct is None and found.is_direct_as_good is None


def test_of_equals_the_later_is_the_best():
  alike = _agreement(range(80))
  found = choose([alike, alike, _agreement(range(20))], None)
  assert (found.best, found.use) == (1, 1)


def test_what_gains_and_loses_alike_is_within_the_error():
  shifted = _agreement(range(2, 91))  # loses two, gains one
  assert choose([_agreement(range(90)), shifted], None).use == 1


def test_inputs_of_one_cluster_are_one():
  """Three of one cluster lost: as uncertain as one of three."""
  alone = [_agreement(range(n)) for n in (90, 87)]
  clusters = [f"{i // 3}" for i in range(100)]
  together = [_agreement(range(n), clusters) for n in (90, 87)]
  assert choose(alone, None).use == 0
  assert choose(together, None).use == 1


@pytest.mark.parametrize(("right", "is_good"), [(95, True), (88, True)])
def test_the_control_is_compared_with_the_stage_to_use(right, is_good):
  stages = [_agreement(range(90)), _agreement(range(89))]
  found = choose(stages, _agreement(range(right)))
  assert found.is_direct_as_good is is_good
  assert found.over_direct.second == right / 100
  assert found.over_direct.first == 0.89


def test_a_control_that_is_worse_is_not_as_good():
  found = choose([_agreement(range(90))], _agreement(range(60)))
  assert found.is_direct_as_good is False
  assert found.over_direct.outcome == "better"


def test_without_votes_nothing_is_chosen():
  assert choose([{}, {}], None) is None
