from __future__ import annotations

import collections

import pytest

from s2d_jax import records
from s2d_jax.reporting import transcripts as module
from s2d_jax.reporting.run_files import load


def decided(workdir, *names):
  return [
    row
    for name in names
    for row in records.read(workdir / "distill" / f"{name}.jsonl")
  ]


def labels_of(workdir):
  splits = ("train", "valid")
  paths = (workdir / "examples" / f"{split}.jsonl" for split in splits)
  return {
    row["id"]: row["label"] for path in paths for row in records.read(path)
  }


def test_picks_each_outcome_once(reported):
  labels = labels_of(reported)
  accepted = decided(reported, "train", "valid")
  picked = module.transcripts(load(reported), "suggests_wrong", most=0)
  names = [(t.record["example_id"], t.record["variant"]) for t in picked]
  assert len(set(names)) == len(names)
  kept = [t for t in picked if "reason" not in t.record]
  surest, least = kept[0].record, kept[1].record
  # Of several as sure, in the order of the records.
  in_variant = [r for r in accepted if r["variant"] == "suggests_wrong"]
  ranked = sorted(in_variant, key=lambda r: (-r["margin"], -r["agreement"]))
  assert (surest, least) == (ranked[0], ranked[-1])
  wrong = [r for r in ranked if r["winner"] != labels[r["example_id"]]]
  assert wrong[0] in [t.record for t in kept if t.wrong]
  for t in kept:
    assert t.wrong is (t.record["winner"] != labels[t.record["example_id"]])
  rejected = {}
  for row in decided(reported, "rejected"):
    rejected.setdefault(row["reason"], row)
  assert [t.record for t in picked[len(kept) :]] == [*rejected.values()]


def test_passes_are_those_of_the_input_in_order(reported):
  run = load(reported)
  for t in module.transcripts(run, "suggests_wrong", most=20):
    assert [one["sample"] for one in t.samples] == [0, 1, 2, 3, 4]
    for one in t.samples:
      assert one["example_id"] == t.record["example_id"]
      assert one["variant"] == t.record["variant"]


def test_the_rest_goes_round_outcomes_and_variants(reported):
  run = load(reported)
  found = module.transcripts(run, "suggests_wrong", most=60)
  assert len(found) == 60
  everything = module.transcripts(run, "suggests_wrong", most=10**6)
  assert len(everything) == 320

  def kinds(transcripts):
    return collections.Counter(
      (t.record["variant"], t.record.get("reason"), t.wrong)
      for t in transcripts
    )

  there, shown = kinds(everything), kinds(found)
  rounds = max(kinds(t for t in found if t.why is None).values())
  assert rounds > 1
  # As many of each, but where there are no more of a kind.
  assert all(shown[kind] >= min(rounds - 1, there[kind]) for kind in there)
  names = {(t.record["example_id"], t.record["variant"]) for t in found}
  assert len(names) == 60


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
