from __future__ import annotations

import pytest

from s2d_jax.evaluation.results import headline, results


def row(example, variant, method, right, tokens, vote=None):
  """`right`: one 0 or 1 a pass; `vote`: 0 or 1 of the answer agreed on."""
  record = {
    "example_id": example,
    "variant": variant,
    "method": method,
    "passes": [
      {"text": "t", "answer": "a", "tokens": n}
      for n in (tokens if isinstance(tokens, list) else [tokens])
    ],
    "metrics": {"accuracy": sum(right) / len(right)},
  }
  if variant != "plain":
    record["metrics"]["repeats_suggestion"] = 1 - record["metrics"]["accuracy"]
  if vote is not None:
    metrics = {"accuracy": float(vote)}
    tokens = sum(one["tokens"] for one in record["passes"])
    record["vote"] = {"answer": "a", "tokens": tokens, "metrics": metrics}
  return record


BASE = [
  *(row(str(i), "plain", "system1", [i < 3], 8) for i in range(4)),
  *(row(str(i), "wrong", "system1", [i < 1], 10) for i in range(4)),
  row("0", "wrong", "s2a", [1, 1, 0], [20, 30, 40], 1),
  row("1", "wrong", "s2a", [0, 1, 0], [30, 30, 30], 0),
]
DISTILLED = [
  *(row(str(i), "wrong", "system1", [i < 2], 9) for i in (3, 2, 1, 0)),
  *(row(str(i), "plain", "system1", [i < 2], 9) for i in range(4)),
]


def find(rows, **wanted):
  (found,) = [r for r in rows if wanted.items() <= r.items()]
  return found


def test_rows_by_hand():
  rows = results(BASE, "sycophancy", "base")
  assert find(rows, split="plain") | {"ci_low": 0, "ci_high": 0} == {
    "task": "sycophancy",
    "split": "plain",
    "model": "base",
    "method": "system1",
    "metric": "accuracy",
    "value": 0.75,
    "ci_low": 0,
    "ci_high": 0,
    "n": 4,
    "tokens_per_example": 8.0,
  }
  single = find(rows, method="s2a", metric="accuracy")
  assert single["value"] == pytest.approx((2 / 3 + 1 / 3) / 2)
  assert single["tokens_per_example"] == 30
  voted = find(rows, method="s2a_vote")
  assert (voted["value"], voted["tokens_per_example"]) == (0.5, 90)
  repeats = find(rows, method="system1", metric="repeats_suggestion")
  assert repeats["value"] == 0.75
  assert len(rows) == 6
  for one in rows:
    assert one["ci_low"] <= one["value"] <= one["ci_high"]


def test_no_rows_no_results():
  assert results([], "sycophancy", "base") == []


def test_headline_by_hand():
  found = headline(BASE, DISTILLED, "plain", "wrong")
  assert (found.biased.before, found.biased.after) == (0.25, 0.5)
  assert (found.plain.before, found.plain.after) == (0.75, 0.5)
  assert found.gap_closed == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
  assert found.biased.gain.value == pytest.approx(0.25)
  assert found.plain.gain.value == pytest.approx(-0.25)
  # Paired by id: example 1 got better and none got worse, in any order.
  assert found.biased.gain.low == 0
  assert (found.tokens, found.tokens_single, found.tokens_vote) == (9, 30, 90)
  assert found.single_ratio == pytest.approx(30 / 9)
  assert found.vote_ratio == pytest.approx(10)


def test_headline_without_a_gap_or_without_system_2():
  found = headline(BASE[:8], DISTILLED, "plain", "plain")
  assert found.gap_closed is None
  assert found.vote_ratio is None and found.single_ratio is None


def test_no_headline_before_there_are_two_models():
  assert headline(BASE, [], "plain", "wrong") is None
  assert headline([], DISTILLED, "plain", "wrong") is None
