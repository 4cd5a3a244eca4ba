from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from s2d_jax.evaluation.verdict import verdict


def rows(method, right, n=1, variant="wrong", margin=None, label=True):
  """A row an example: in `right` a 0 or 1, for every pass and the vote."""
  found = []
  for index, is_right in enumerate(right):
    agreeing = n if margin is None else margin[index]
    answers = ["a"] * agreeing + [f"other{i}" for i in range(n - agreeing)]
    metrics = {"accuracy": float(is_right)} if label else {}
    record = {
      "example_id": str(index),
      "variant": variant,
      "method": method,
      "passes": [{"text": "t", "answer": a, "tokens": 9} for a in answers],
      "metrics": metrics,
    }
    if n > 1:
      vote = {"answer": "a", "tokens": 9 * n, "margin": 1.0}
      record["vote"] = vote | {"metrics": metrics}
    found.append(record)
  return found


def share(count, n):
  return [1] * count + [0] * (n - count)


def judged(system1, system2, n):
  valid = rows("system1", share(system1, n), 3)
  valid += rows("s2a", share(system2, n), 3)
  return verdict(valid, [], [], "wrong")


@pytest.mark.parametrize(
  "system1, system2, n, outcome",
  [
    (20, 60, 100, "better"),
    (60, 20, 100, "worse"),
    (60, 60, 100, "no better"),
    (60, 62, 100, "no better"),
    (60, 65, 200, "no better"),
    # No claim: too wide, too few that differ, too few at all.
    (60, 64, 50 + 20, "unclear"),
    (10, 15, 20, "unclear"),
    (0, 19, 19, "unclear"),
    (10, 10, 20, "unclear"),
    (0, 1, 1, "unclear"),
  ],
)
def test_claims_need_evidence(system1, system2, n, outcome):
  found = judged(system1, system2, n)
  assert found.vote.outcome == found.single.outcome == outcome
  assert found.votes.outcome == outcome
  assert found.vote.n == n
  assert found.vote.changed == abs(system1 - system2)
  assert found.vote.gain.value == pytest.approx((system2 - system1) / n)


@pytest.mark.parametrize("n, differing", [(20, 0.3), (60, 0.05), (200, 0.3)])
def test_two_equal_ways_are_seldom_told_apart(n, differing):
  rng = np.random.default_rng(0)
  claims = 0
  for _ in range(60):
    old = rng.binomial(1, 0.5, n)
    new = np.where(rng.random(n) < differing, rng.binomial(1, 0.5, n), old)
    valid = rows("system1", old) + rows("cot", new, 2)
    claims += verdict(valid, [], [], "wrong").vote.outcome in (
      "better",
      "worse",
    )
  # As in a test at the 5 % level, with room for its own chance.
  assert claims <= stats.binom(60, 0.05).ppf(0.999)


def test_six_differences_are_what_the_sign_test_asks_for():
  for changed, is_clear in ((5, False), (6, True)):
    test = stats.binomtest(changed, changed, 0.5)
    assert (test.pvalue < 0.05) == is_clear
    outcome = judged(10, 10 + changed, 30).vote.outcome
    assert (outcome == "better") == is_clear


def concluded(before, thinking, after, n=100):
  """System 1 has a vote of as many; there are no worked examples."""
  base = rows("system1", share(before, n), 3)
  base += rows("cot", share(thinking, n), 3)
  valid = rows("system1", share(before, n), 3)
  valid += rows("cot", share(thinking, n), 3)
  after = rows("system1", share(after, n))
  return verdict(valid, base, after, "wrong", has_shots=False)


def test_gsm8k_of_the_paper_is_not_kept():
  found = concluded(8, 53, 7)
  assert found.vote.outcome == "better"
  assert found.distilled_vote.outcome == "worse"
  assert found.distilled_single.outcome == "worse"
  assert found.conclusion == "not kept"


@pytest.mark.parametrize(
  "before, thinking, after, conclusion, is_level",
  [
    (30, 60, 60, "kept", True),
    (30, 60, 45, "kept", False),  # better, though below System 2
    (50, 50, 50, "not distillable", True),
    (50, 30, 40, "not distillable", True),
    (30, 60, 31, "not kept", False),
  ],
)
def test_conclusions(before, thinking, after, conclusion, is_level):
  found = concluded(before, thinking, after)
  assert found.conclusion == conclusion
  assert found.distilled_vote.is_level == is_level


def test_before_the_fine_tune_the_validation_split_decides_alone():
  assert judged(50, 50, 100).conclusion == "not distillable"
  assert judged(20, 60, 100).conclusion == "unclear"  # not learnt yet
  assert judged(20, 60, 100).distilled is None


def test_the_test_split_tells_where_the_validation_split_cannot():
  base = rows("system1", share(10, 60)) + rows("s2a", share(40, 60), 3)
  few = rows("system1", share(3, 8), 3) + rows("s2a", share(5, 8), 3)
  found = verdict(few, base, [], "wrong")
  assert found.vote.outcome == "unclear"
  assert found.teacher_gain is found.on_test
  assert found.teacher_gain.outcome == "better"
  assert verdict(few, [], [], "wrong").teacher_gain.outcome == "unclear"
  assert verdict([], [], [], "wrong").teacher_gain is None


def test_single_passes_where_there_is_no_vote():
  base = rows("system1", share(10, 60)) + rows("s2a", share(40, 60))
  found = verdict(base, base, [], "wrong")
  assert found.vote is None
  assert found.teacher_gain == found.single == found.on_test
  assert found.teacher_gain.outcome == "better"


def test_pairs_are_made_by_example_and_split():
  valid = rows("system1", share(20, 40)) + rows("s2a", share(20, 40)[::-1], 2)
  valid += rows("s2a", [1] * 40, 2, variant="plain")
  found = verdict(valid[::-1], [], [], "wrong")
  assert found.vote.changed == 40
  assert found.vote.gain.value == 0


def test_margins_by_hand():
  """Over the first three passes of each, the fewest that any input has."""
  n = 30
  valid = rows("system1", [0] * n, 5, margin=[2] * n, label=False)
  valid += rows("s2a", [0] * n, 3, margin=[3] * n, label=False)
  found = verdict(valid, [], [], "wrong")
  assert found.margin_samples == 3
  assert found.margins.first == 1
  assert found.margins.second == pytest.approx((2 - 1) / 3)
  assert found.margins.outcome == "better"
  assert found.teacher_gain is None and found.conclusion is None


def test_agreement_with_the_vote_needs_no_label():
  n = 30
  base = rows("system1", [0] * n, label=False)
  for row in base[:20]:
    row["passes"][0]["answer"] = None
  base += rows("s2a", [0] * n, 3, label=False)
  base[-1]["vote"]["answer"] = None  # nothing to agree with
  after = rows("system1", [0] * n, label=False)
  found = verdict([], base, after, "wrong").agreement
  assert (found.n, found.first) == (29, 1)
  assert found.second == pytest.approx(9 / 29)
  assert found.outcome == "better"


def test_system_1_may_be_its_own_teacher():
  valid = rows("system1", share(30, 60), 3)
  for row in valid[30:50]:
    row["vote"]["metrics"] = {"accuracy": 1.0}
  found = verdict(valid, rows("system1", share(30, 60)), [], "wrong")
  assert not found.is_system2
  assert found.vote.outcome == "better"
  assert found.single is found.votes is found.margins is None


def in_clusters(found, size):
  return [
    row | {"cluster": str(int(row["example_id"]) // size)} for row in found
  ]


@pytest.mark.parametrize(
  "size, outcome", [(1, "better"), (2, "better"), (4, "unclear")]
)
def test_clusters_must_be_many_enough(size, outcome):
  """Of 60 inputs, all of which became right; 15 clusters are too few."""
  base = in_clusters(rows("system1", [0] * 60), size)
  after = in_clusters(rows("system1", [1] * 60), size)
  found = verdict([], base, after, "wrong").distilled
  assert (found.n, found.units) == (60, 60 // size)
  assert found.outcome == outcome
  # What is needed are enough clusters of this size.
  assert found.needed == 20 * size
  assert found.is_too_small == (size == 4)


def test_a_clear_result_may_be_that_of_few_clusters():
  """16 of 80 gained: all in 4 of 20 clusters, which could be chance."""
  new = share(16, 80)
  alone = verdict([], rows("system1", [0] * 80), rows("system1", new), "wrong")
  assert alone.distilled.outcome == "better"
  found = verdict(
    [],
    in_clusters(rows("system1", [0] * 80), 4),
    in_clusters(rows("system1", new), 4),
    "wrong",
  ).distilled
  assert found.outcome == "unclear"
  assert found.p == pytest.approx(2 / 2**4)
  assert found.gain.value == alone.distilled.gain.value
  assert found.needed > alone.distilled.needed


def test_splits_are_corrected_for_their_number():
  """A gain of 6 to 0 is clear alone (p = 0.031), but not as one of two."""
  base, after = [], []
  for variant in ("wrong", "plain"):
    base += rows("system1", share(20, 60), variant=variant)
    after += rows("system1", share(26, 60), variant=variant)
  found = verdict([], base, after, "wrong")
  assert found.distilled.p == pytest.approx(2 / 2**6)
  assert found.distilled.outcome == "better"
  assert [one.p for one in found.splits.values()] == [2 * 2 / 2**6] * 2
  assert found.splits["plain"].outcome == "unclear"
  # Both forms of an example are one cluster.
  assert (found.distilled_overall.n, found.distilled_overall.units) == (120, 60)
  assert found.distilled_overall.p == pytest.approx(2 / 2**6)


def test_the_student_must_beat_worked_examples_too():
  base = rows("system1", share(20, 100), 3) + rows("s2a", share(80, 100), 3)
  for row in rows("system1_shots", share(50, 100), 3):
    greedy = row["passes"][0] | {"metrics": row["metrics"]}
    base.append(row | {"greedy": greedy})
  for right, conclusion in ((80, "kept"), (50, "not kept"), (20, "not kept")):
    after = rows("system1", share(right, 100))
    found = verdict([], base, after, "wrong")
    assert found.thinking.outcome == "thinking pays"
    assert found.has_gained == (right == 80)
    assert found.conclusion == conclusion
