from __future__ import annotations

import pytest

from s2d_jax.reporting import transcripts as module
from s2d_jax.reporting.run_files import load


def test_picks_each_outcome_once(reported):
  run = load(reported)
  right = {
    (r["example_id"], r["variant"]): r["winner"] == run.label(r["example_id"])
    for r in run.accepted
  }
  picked = module.transcripts(
    run,
    "suggests_wrong",
    lambda r: r["winner"] == run.label(r["example_id"]),
    most=0,
  )
  names = [(t.record["example_id"], t.record["variant"]) for t in picked]
  assert len(set(names)) == len(names)
  kept = [t for t in picked if "reason" not in t.record]
  surest, least = kept[0].record, kept[1].record
  margins = [
    r["margin"] for r in run.accepted if r["variant"] == "suggests_wrong"
  ]
  assert (surest["margin"], least["margin"]) == (max(margins), min(margins))
  assert any(t.wrong for t in kept)
  for t in kept:
    assert t.wrong is not right[t.record["example_id"], t.record["variant"]]
  reasons = {r["reason"] for r in run.rejected}
  assert {t.record["reason"] for t in picked[len(kept) :]} == reasons


def test_passes_are_those_of_the_input_in_order(reported):
  run = load(reported)
  for t in module.transcripts(run, "suggests_wrong", None, most=20):
    assert [one["sample"] for one in t.samples] == [0, 1, 2, 3, 4]
    for one in t.samples:
      assert one["example_id"] == t.record["example_id"]
      assert one["variant"] == t.record["variant"]


def test_the_rest_goes_round_outcomes_and_variants(reported):
  run = load(reported)
  found = module.transcripts(run, "suggests_wrong", None, most=60)
  assert len(found) == 60
  rest = [t.record for t in found if t.why is None]
  kinds = [(r["variant"], r.get("reason")) for r in rest]
  counts = [kinds.count(kind) for kind in set(kinds)]
  assert len(counts) == 16 and max(counts) - min(counts) <= 1
  names = {(t.record["example_id"], t.record["variant"]) for t in found}
  assert len(names) == 60
  everything = module.transcripts(run, "suggests_wrong", None, most=10**6)
  assert len(everything) == 320


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8])
def test_scattered_is_everything_once(count):
  found = list(module._scattered(range(count)))
  assert sorted(found) == list(range(count))
  assert list(module._scattered(range(8)))[:4] == [0, 4, 2, 6]


def test_changes_are_counted_by_hand(reported):
  run = load(reported)
  counts, shown = module.changes(run, "suggests_wrong")
  scores = [
    {
      row["example_id"]: row["greedy"]["metrics"]["accuracy"]
      for row in rows
      if (row["method"], row["variant"]) == ("system1", "suggests_wrong")
    }
    for rows in (run.base, run.distilled)
  ]
  pairs = [(scores[0][name], scores[1][name]) for name in scores[0]]
  assert counts == {
    "fixed": pairs.count((0, 1)),
    "broken": pairs.count((1, 0)),
    "still wrong": pairs.count((0, 0)),
    "still right": pairs.count((1, 1)),
  }
  assert [c.kind for c in shown].count("fixed") == 3
  assert all(c.kind != "still right" for c in shown)


def test_questions_of_any_task(reported):
  run = load(reported)
  asked = module.question(run, "capital/test0", "suggests_wrong")
  assert asked == "What is the capital of Test0? (wrong test0?)"
  assert module.question(run, "capital/test0", "plain").endswith("Test0?")
  run.examples["other"] = {"id": "other", "inputs": {"words": "ä b"}}
  assert module.question(run, "other", "plain") == '{"words": "ä b"}'
  assert module.question(run, "unknown", "plain") == "unknown"
