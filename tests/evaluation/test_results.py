from __future__ import annotations

import numpy as np
import pytest

from s2d_jax.evaluation.metrics import (
  difference_interval,
  rate_interval,
  share_interval,
)
from s2d_jax.evaluation.results import by_group, headline, results


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
  plain = find(rows, split="plain", metric="accuracy")
  assert plain | {"ci_low": 0, "ci_high": 0} == {
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
    "prompt_tokens_per_example": None,
  }
  single = find(rows, method="s2a", metric="accuracy")
  assert single["value"] == pytest.approx((2 / 3 + 1 / 3) / 2)
  assert single["tokens_per_example"] == 30
  voted = find(rows, method="s2a_vote", metric="accuracy")
  assert (voted["value"], voted["tokens_per_example"]) == (0.5, 90)
  repeats = find(rows, method="system1", metric="repeats_suggestion")
  assert repeats["value"] == 0.75
  # Besides accuracy and repeats: answered, and of system1 inconsistent and
  # not_compared.
  assert len(rows) == 2 + 2 * 2 + 4 + 2
  for one in rows:
    assert one["ci_low"] <= one["value"] <= one["ci_high"]


def answered(example, variant, answers, voted="no vote"):
  record = {
    "example_id": example,
    "variant": variant,
    "method": "m",
    "passes": [{"text": "t", "answer": a, "tokens": 2} for a in answers],
    "metrics": {},
  }
  if voted != "no vote":
    record["vote"] = {"answer": voted, "tokens": 6, "metrics": {}}
  return record


def test_the_share_of_answers_in_the_form_asked_for():
  record = answered("1", "plain", ["A", "B", None, "A"], "A")
  tiers = ("strict", "loose", None, "strict")
  for one, tier in zip(record["passes"], tiers, strict=True):
    one["tier"] = tier
  rows = results([record], "gsm8k", "base")
  assert find(rows, metric="strict", method="m")["value"] == 0.5
  assert find(rows, metric="answered", method="m")["value"] == 0.75
  assert not [
    r for r in rows if r["metric"] == "strict" and "vote" in r["method"]
  ]


def test_inconsistent_by_hand_and_without_labels():
  rows = results(
    [
      answered("1", "original", ["A", "B", "A"], "A"),
      answered("1", "swapped", ["A", "A", "A", "B"], "A"),
      answered("2", "original", ["A", None, None], None),
      answered("2", "swapped", ["B", None, "A"], None),
      answered("3", "original", ["A", "A", "A"], "A"),
      answered("3", "swapped", ["B", "B", "B"], None),
      answered("alone", "swapped", ["B", "B", "B"], "B"),
    ],
    "judge",
    "base",
  )
  single = find(rows, metric="inconsistent", method="m")
  # A missing verdict is none that differs: it is counted for itself.
  assert single["value"] == pytest.approx((1 / 3 + 1 + 1) / 3)
  assert (single["split"], single["n"]) == ("all", 3)
  missing = find(rows, metric="not_compared", method="m")
  assert missing["value"] == pytest.approx((0 + 2 / 3 + 0) / 3)
  assert (missing["split"], missing["n"]) == ("all", 3)
  assert single["tokens_per_example"] == 2
  voted = find(rows, metric="inconsistent", method="m_vote")
  assert (voted["value"], voted["n"]) == (0, 1)
  assert voted["tokens_per_example"] == 6
  missing = find(rows, metric="not_compared", method="m_vote")
  assert missing["value"] == pytest.approx(2 / 3)
  shares = find(rows, metric="answered", method="m", split="original")
  assert shares["value"] == pytest.approx((1 + 1 / 3 + 1) / 3)
  assert {row["metric"] for row in rows} == {
    "answered",
    "inconsistent",
    "not_compared",
  }


def test_pairs_that_are_never_answered_twice_are_not_inconsistent():
  rows = results(
    [
      answered("1", "original", ["A", None]),
      answered("1", "swapped", [None, "B"]),
    ],
    "judge",
    "base",
  )
  assert find(rows, metric="not_compared")["value"] == 1
  assert "inconsistent" not in {row["metric"] for row in rows}


def test_one_variant_cannot_be_inconsistent():
  rows = results([answered("1", "plain", ["A"])], "gsm8k", "base")
  assert [row["metric"] for row in rows] == ["answered"]


def test_means_are_over_the_examples_that_have_a_label():
  rows = [
    row("1", "plain", "system1", [1], 8),
    row("2", "plain", "system1", [0], 8) | {"metrics": {}},
  ]
  (found,) = [
    one for one in results(rows, "x", "base") if one["metric"] == "accuracy"
  ]
  assert (found["value"], found["n"]) == (1, 1)
  change = headline(rows, rows[::-1], "plain", "plain").plain
  assert (change.before, change.after) == (1, 1)
  assert headline(rows[1:], rows, "plain", "plain") is None


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


def reply(right, tokens, prompt, tier="strict"):
  return {
    "text": "t",
    "answer": "a" if right else None,
    "tier": tier if right else None,
    "tokens": tokens,
    "prompt_tokens": prompt,
  }


def whole_row(example, variant, method, right, greedy, vote):
  """With all ways of drawing: 10 tokens behind a prompt of 40 each."""
  passes = [reply(one, 10, 40) for one in right]
  return {
    "example_id": example,
    "variant": variant,
    "method": method,
    "cluster": example[:1],
    "passes": passes,
    "metrics": {"accuracy": sum(right) / len(right)},
    "greedy": reply(greedy, 12, 40, "loose")
    | {"metrics": {"accuracy": float(greedy)}},
    "vote": {
      "answer": "a" if vote else None,
      "tokens": 10 * len(right),
      "prompt_tokens": 40 * len(right),
      "metrics": {"accuracy": float(vote)},
    },
  }


def test_every_way_of_drawing_is_a_method_of_its_own():
  rows = [
    whole_row("a1", "plain", "cot", [1, 1, 0], 0, 1),
    whole_row("a2", "plain", "cot", [1, 0, 0], 1, 0),
  ]
  found = results(rows, "gsm8k", "base")
  right = {
    row["method"]: row for row in found if row["metric"] == "accuracy"
  }  # fmt: skip
  assert list(right) == ["cot", "cot_greedy", "cot_vote"]
  spent = ("value", "tokens_per_example", "prompt_tokens_per_example")
  assert [right["cot"][name] for name in spent] == [0.5, 10, 40]
  assert [right["cot_greedy"][name] for name in spent] == [0.5, 12, 40]
  assert [right["cot_vote"][name] for name in spent] == [0.5, 30, 120]
  # Greedy replies have a form, a vote has none.
  forms = {row["method"]: row["value"] for row in found
           if row["metric"] == "strict"}  # fmt: skip
  assert forms == {"cot": 0.5, "cot_greedy": 0}
  scores = by_group(rows)["cot_greedy", "plain"]
  assert [score.cluster for score in scores.values()] == ["a", "a"]
  assert by_group(BASE)["system1", "plain"]["0"].cluster == "0"
  pair = by_group([rows[0] | {"cluster": ["Peru", "Chile"]}])["cot", "plain"]
  assert pair["a1"].cluster == ("Peru", "Chile")


def test_a_row_may_have_a_greedy_reply_alone():
  row = whole_row("1", "plain", "system1", [1], 1, 1)
  del row["vote"]
  row |= {"passes": [], "metrics": {}}
  found = results([row], "gsm8k", "base")
  assert {one["method"] for one in found} == {"system1_greedy"}


def test_the_headline_compares_greedy_with_greedy():
  base = [whole_row("1", "plain", "system1", [0, 0, 0], 1, 0)]
  base.append(whole_row("1", "plain", "system1_shots", [1] * 3, 1, 1))
  base.append(whole_row("1", "plain", "cot", [1, 1, 1, 1], 1, 1))
  after = [whole_row("1", "plain", "system1", [0, 0, 0], 1, 0)]
  found = headline(base, after, "plain", "plain")
  assert (found.plain.before, found.plain.after) == (1, 1)
  # Of System 2 itself, not of System 1 behind its worked examples.
  assert (found.tokens, found.tokens_single, found.tokens_vote) == (12, 10, 40)
  # A run of an older version has no greedy row of its own.
  old = [row("1", "plain", "system1", [0], 8)]
  assert headline(old, after, "plain", "plain").plain.before == 0


def test_one_pass_is_one_thought_and_one_answer():
  def thought(answer, majority):
    one = {"text": "t", "answer": answer, "tier": "strict", "tokens": 12}
    return one | {"nested": {"answer": majority, "tokens": 26}}

  cut = {"text": "", "answer": None, "tier": None, "tokens": 9, "too_long": 600}
  rows = [
    {
      "example_id": "x",
      "variant": "plain",
      "method": "rar2",
      "passes": [thought("no", "yes"), thought("yes", "yes"), cut],
      "metrics": {"accuracy": 1 / 3},
      "nested": {"metrics": {"accuracy": 2 / 3}},
      "vote": {"answer": "yes", "tokens": 61, "metrics": {"accuracy": 1.0}},
    },
    # No thought of it has come to an answer: wrong by every method.
    {
      "example_id": "y",
      "variant": "plain",
      "method": "rar2",
      "passes": [cut],
      "metrics": {"accuracy": 0.0},
    },
  ]
  found = results(rows, "coin_flip", "base")
  accuracy = {r["method"]: r for r in found if r["metric"] == "accuracy"}
  assert list(accuracy) == ["rar2", "rar2_nested", "rar2_vote"]
  assert accuracy["rar2"]["value"] == pytest.approx(1 / 6)
  assert accuracy["rar2"]["tokens_per_example"] == (11 + 9) / 2
  assert accuracy["rar2_nested"]["value"] == pytest.approx(1 / 3)
  assert accuracy["rar2_nested"]["tokens_per_example"] == pytest.approx(
    (61 / 3 + 9) / 2
  )
  answered = {r["method"]: r for r in found if r["metric"] == "answered"}
  assert answered["rar2_nested"]["value"] == pytest.approx(1 / 3)


def test_several_direct_answers_have_no_thought_in_common():
  one = {"text": "t", "answer": "a", "tier": "strict", "tokens": 2}
  record = row("x", "plain", "system1", [1], 2)
  record["passes"] = [one | {"nested": {"answer": "a", "tokens": 4}}]
  record["nested"] = {"metrics": {"accuracy": 1.0}}
  found = results([record], "sycophancy", "distilled")
  assert {r["method"] for r in found} == {"system1"}


def test_intervals_are_those_of_whole_clusters():
  """24 examples in twelve pairs that are right or wrong together."""
  right = np.repeat([1, 0], [8, 16])
  pairs = [str(index // 2) for index in range(24)]

  def clustered(right, variants):
    return [
      row(f"{pair}/{index}", variant, "system1", [hit], 8) | {"cluster": pair}
      for variant in variants
      for index, (hit, pair) in enumerate(zip(right, pairs, strict=True))
    ]

  base = clustered(right, ["plain", "wrong"])
  for index, one in enumerate(base[24:]):
    one["passes"][0]["answer"] = "ab"[index < 8]
  found = results(base, "x", "base")
  for wanted in (
    {"metric": "accuracy", "split": "plain"},
    {"metric": "inconsistent", "split": "all"},
  ):
    one = find(found, **wanted)
    by_pair = share_interval(right, pairs)
    assert (one["ci_low"], one["ci_high"]) == (by_pair.low, by_pair.high)
    alone = rate_interval(right)
    assert by_pair.high - by_pair.low > 1.2 * (alone.high - alone.low)
  # Where all are alike, pairs count once.
  one = find(found, metric="answered", split="plain")
  assert one["ci_low"] == rate_interval(np.ones(12)).low
  after = clustered(np.ones(24, int), ["plain"])
  gain = headline(base, after, "plain", "plain").plain.gain
  assert gain == difference_interval(np.ones(24), right, pairs)
  assert gain != difference_interval(np.ones(24), right)
