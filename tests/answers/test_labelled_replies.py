"""Answers read in replies of many manners, against labels set by hand."""

from __future__ import annotations

import json

from tests.answers import measure


# Many sets were counted once before they were looked at: your-own-task.md in
# docs/ has how they were read. All votes that were wrong in them are mended,
# but for two that were left out, so their figures do not say how new replies
# are read.
def test_no_reply_that_was_seen_has_a_wrong_vote():
  for case in measure.cases(measure.SEEN):
    found = measure.read(case)
    assert (
      found is None or not found.is_sure or measure.is_right(case, found)
    ), (case, found)


def test_votes_of_replies_for_which_nothing_was_changed():
  counts = measure.counts(measure.cases(measure.HELD_OUT))
  assert counts["all"]["replies"] > 500 and len(counts) > 9
  # 1 of 171
  assert counts["all"]["wrong"] <= 0.01 * counts["all"]["votes"]
  # 291 of 427
  assert counts["all"]["found"] >= 0.65 * counts["all"]["answers"]


def test_what_has_no_vote_is_mostly_read_rightly():
  """Answers that are not sure are scored, and are a few of all but names."""
  counts = measure.counts(measure.cases(measure.SEEN))
  for kind, count in counts.items():
    least = 0.45 if kind == "country" else 0.8
    assert count["votes"] >= least * count["scored"], kind
    assert count["misread"] <= 0.05 * count["scored"], kind


def test_answers_found_in_replies_that_were_seen():
  count = measure.counts(measure.cases(measure.SEEN))["all"]
  # 4388 of 5755, and none of 3970 votes is wrong
  assert count["found"] >= 0.76 * count["answers"]


def test_replies_that_a_small_model_drew():
  """A small model rambles: fewer of its answers can be read."""
  cases = measure.cases(measure.SEEN)
  count = measure.counts(case for case in cases if case.get("drawn"))["all"]
  assert count["replies"] >= 70
  assert count["misread"] == 0
  # 24 of 35
  assert count["found"] >= 0.68 * count["answers"]


def test_there_are_enough_replies_of_every_kind():
  cases = measure.cases(measure.SEEN)
  counts = measure.counts(cases)
  assert counts["all"]["replies"] >= 4_000
  assert min(count["replies"] for count in counts.values()) >= 50
  as_text = {json.dumps(case, sort_keys=True) for case in cases}
  assert len(as_text) == len(cases)
