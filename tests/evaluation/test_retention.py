from __future__ import annotations

import pytest

from s2d_jax.evaluation.retention import retention


def asked(hits: int, n: int = 60, label="facts", **more) -> list[dict]:
  """Rows of a model that is right in the first `hits` of `n` questions."""
  return [
    {
      "task": label,
      **more,
      "example_id": str(index),
      "variant": "plain",
      "method": "system1",
      "passes": [{"text": "", "answer": "", "tokens": 2}],
      "metrics": {"accuracy": float(index < hits)},
    }
    for index in range(n)
  ]


def outcome(before: int, after: int, n: int = 60, **more) -> str:
  found = retention(asked(before, n, **more), asked(after, n, **more))
  (answers,) = found.answers
  return answers.outcome


@pytest.mark.parametrize(
  "before, after, wanted",
  [
    (40, 20, "fell"),
    (20, 40, "rose"),
    (30, 31, "no change seen"),
    (0, 0, "at its floor"),
    (1, 0, "at its floor"),  # 1.7 %
    (2, 2, "no change seen"),  # 3.3 %
    (0, 20, "rose"),  # from the floor, where a rise can be seen
    (60, 60, "at its ceiling"),
    (60, 59, "at its ceiling"),
    (58, 58, "no change seen"),  # 96.7 %
    (60, 40, "fell"),  # from the ceiling, where a fall can be seen
  ],
)
def test_floors_and_ceilings(before, after, wanted):
  assert outcome(before, after) == wanted


@pytest.mark.parametrize(
  "before, wanted",
  [
    (30, "at its floor"),
    (36, "at its floor"),  # 60 %: Wilson's interval is 47.4 to 71.4 %
    (20, "at its floor"),  # below chance
    (39, "no change seen"),  # 65 %: 52.4 to 75.8 %
  ],
)
def test_a_floor_at_chance(before, wanted):
  assert outcome(before, before, chance=0.5) == wanted


def test_too_few_questions():
  assert outcome(10, 0, n=19) == "too few"


def test_questions_about_one_country_count_once():
  """Four clusters are few, however many questions they have."""
  rows = [asked(hits) for hits in (40, 20)]
  for row in rows[0] + rows[1]:
    row["cluster"] = str(int(row["example_id"]) % 4)
  (answers,) = retention(*rows).answers
  assert answers.outcome == "too few"


def test_labels_and_variants_apart():
  hard = [row | {"variant": "suggests_wrong"} for row in asked(5)]
  base = asked(40) + hard + asked(30, label="coins", chance=0.5)
  hard = [row | {"variant": "suggests_wrong"} for row in asked(50)]
  distilled = asked(40) + hard + asked(0, label="coins", chance=0.5)
  found = retention(base, distilled).answers
  assert [(one.label, one.variant, one.outcome) for one in found] == [
    ("facts", "plain", "no change seen"),
    ("facts", "suggests_wrong", "rose"),
    ("coins", "plain", "fell"),
  ]


def everyday(tokens, texts=None) -> list[dict]:
  return [
    {
      "task": "everyday",
      "example_id": str(index),
      "question": "",
      "text": (texts or "a" * len(tokens))[index],
      "tokens": count,
      "finish": "length" if count == 64 else "stop",
      "token_ids": [],
    }
    for index, count in enumerate(tokens)
  ]


def test_length_of_replies():
  before = [64, 40] * 15
  after = [64, 36] * 10 + [60, 34] * 5
  found = retention(everyday(before), everyday(after, "ab" * 15)).replies
  assert (found.before, found.n, found.outcome) == (52, 30, "fell")
  assert found.change.value == pytest.approx(-(40 + 5 * 4 + 5 * 6) / 30)
  assert found.change.low < found.change.value < found.change.high < 0
  assert found.cut.second == 0.5 and found.cut.first == 10 / 30
  assert found.same.value == 0.5
  alike = retention(everyday(before), everyday(before)).replies
  assert (alike.outcome, alike.same.value) == ("no change seen", 1)
  few = retention(everyday(before[:8]), everyday(after[:8])).replies
  assert few.outcome == "too few"


def test_a_change_that_only_an_interval_sees_is_unclear():
  """Four of 24: by the sign test one in eight, though none is the other way."""
  found = retention(everyday([60] * 24), everyday([30] * 4 + [60] * 20)).replies
  assert found.p == pytest.approx(0.125, abs=0.01) and found.change.high < 0
  assert found.outcome == "unclear"


def test_questions_of_both_models_count():
  found = retention(everyday([64, 30, 20]), everyday([64, 30])).replies
  assert found.n == 2 and found.before == found.after == 47
  assert retention(asked(3), everyday([64])).replies is None


def moved(kl, sizes, of="text") -> list[dict]:
  return [
    {
      "task": "movement",
      "of": of,
      "example_id": str(index),
      "positions": size,
      "kl": one,
      "other_token": index,
      "furthest": {"kl": 2 * one, "before": "", "base": "", "distilled": ""},
    }
    for index, (one, size) in enumerate(zip(kl, sizes, strict=True))
  ]


def test_movement_is_a_mean_over_positions():
  rows = moved([0.1, 0.4, 0.2], [10, 30, 60]) + moved([2.0], [5], "targets")
  found = retention(asked(3), rows).moved
  assert found["text"].kl.value == pytest.approx((1 + 12 + 12) / 100)
  assert 0.099 < found["text"].kl.low < found["text"].kl.high < 0.401
  assert found["text"].other_token == (0 + 1 + 2) / 100
  assert [one["kl"] for one in found["text"].furthest] == [0.8, 0.4, 0.2]
  assert found["targets"].kl.value == 2
  assert (found["text"].positions, found["text"].passages) == (100, 3)


def test_nothing_without_both_models():
  assert not retention([], moved([0.1], [3]))
  assert not retention(asked(3), [])
  text = [{"task": "text", "perplexity": 8.0, "tokens": 3}]
  found = retention(text, [text[0] | {"perplexity": 10.0}])
  assert found and found.perplexity_change == 0.25
