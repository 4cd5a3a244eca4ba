from __future__ import annotations

import collections
import random

from s2d_jax.curation.curve import Outcome, explain_empty, threshold_curve


def record(winner, margin, agreement=1.0, reason="margin"):
  return {
    "variant": "plain",
    "winner": winner,
    "margin": margin,
    "agreement": agreement,
    "reason": reason,
  }


RECORDS = [
  record("right", 1.0),
  record("right", 0.6),
  record("wrong", 0.6),
  record("wrong", 0.2),
  record("right", 0.8, agreement=0.25),
  record(None, 0.0, 0.0, "tie"),
  record(None, 0.0, 0.0, "unparsable"),
  record("right", 0.2),
]


def curve_of(records, min_agreement):
  counts = collections.Counter(map(Outcome.of, records))
  return threshold_curve(counts, min_agreement)


def test_by_hand():
  counts = collections.Counter(
    Outcome.of(record, record["winner"] == "right") for record in RECORDS
  )
  curve = threshold_curve(counts, 0.5)
  assert [(p.margin, p.kept, p.share, p.precision) for p in curve] == [
    (0.2, 5, 5 / 8, 3 / 5),
    (0.6, 3, 3 / 8, 2 / 3),
    (1.0, 1, 1 / 8, 1.0),
  ]
  assert [p.kept for p in curve_of(RECORDS, 0.0)] == [6, 4, 2, 1]
  assert curve_of(RECORDS, 0.5)[0].precision is None
  assert curve_of([], 0.0) == []


def test_a_higher_threshold_keeps_fewer():
  draw = random.Random(0)
  for _ in range(200):
    records = [
      record(draw.choice("ab"), draw.randint(1, 8) / 8, draw.random())
      for _ in range(draw.randint(1, 30))
    ]
    curve = curve_of(records, draw.random())
    for lower, higher in zip(curve, curve[1:], strict=False):
      assert lower.margin < higher.margin
      assert lower.kept > higher.kept and lower.share > higher.share


def test_explains_what_lower_margins_keep():
  assert explain_empty(RECORDS, 0.5) == (
    "of 8 inputs curation.min_margin would have kept 1 at 1, 3 at 0.6, 5 at 0.2"
  )


def test_a_margin_it_names_keeps_that_many():
  message = explain_empty([record("a", 2 / 3), record("a", 1 / 3)], 0.0)
  assert "1 at 0.666, 2 at 0.333" in message


def test_explains_an_agreement_that_nothing_has():
  records = [record("a", 1.0, 0.25, "disagrees"), record("b", 0.5, 0.5)]
  assert explain_empty(records, 0.75) == (
    "of 2 inputs curation.min_margin would have kept 1 at 0.5 with"
    " curation.min_agreement=0.5"
  )


def test_explains_that_nothing_won():
  message = explain_empty(RECORDS[5:7], 0.0)
  assert "of 2 inputs 1 ended in a tie, 1 had no answer" in message


def test_no_margin_helps_where_rows_are_too_long():
  long = [record("a", 1.0, reason="too long"), record("a", 1.0)]
  [point] = curve_of(long, 0.0)
  assert (point.kept, point.share) == (1, 0.5)
  assert "of 1 inputs 1 were too long" in explain_empty(long[:1], 0.0)


def test_no_margin_helps_where_votes_are_too_few():
  few = [record("a", 1.0, reason="votes"), record("b", 0.5, reason="votes")]
  assert curve_of(few, 0.0) == []
  assert explain_empty(few, 0.0).startswith(
    "of 2 inputs 2 had fewer votes than curation.min_votes"
  )
  assert explain_empty([*few, record("a", 0.2)], 0.0) == (
    "of 3 inputs curation.min_margin would have kept 1 at 0.2"
  )


def test_stays_one_sentence_with_many_thresholds():
  records = [record("a", (i + 1) / 20) for i in range(20)]
  message = explain_empty(records, 0.0)
  assert message.endswith("1 at 1, 2 at 0.95, 3 at 0.9, 4 at 0.85, 20 at 0.05")
