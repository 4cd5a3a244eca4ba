"""Beliefs that go from round to round, and how often inputs are sampled."""

from __future__ import annotations

import pytest

from s2d_jax.curation import rounds
from s2d_jax.curation.adaptive import StoppingRule
from s2d_jax.curation.curate import Filter, Formatter, curate
from s2d_jax.curation.vote import Thresholds


def _row(name, winner, reason=None, number=None):
  row = {"example_id": name, "variant": "plain", "winner": winner}
  row |= {} if reason is None else {"reason": reason}
  return row | ({} if number is None else {"round": number})


def test_the_newest_decision_wins_and_a_doubt_keeps_the_old_one():
  earlier = [_row("a", "1", number=2), _row("b", "1", number=1)]
  earlier += [_row("c", "1", number=2)]
  rejected = [
    _row("b", None, "tie"),
    _row("c", "2", "duplicate"),  # was decided, and is not taught twice
    _row("d", "2", "margin"),  # nothing was believed
  ]
  found = rounds.join([_row("a", "2")], rejected, earlier, 3)
  assert found.accepted == [_row("a", "2", number=3), _row("b", "1", number=1)]
  assert found.rejected == rejected[1:]
  assert found.undecided == rejected[:1]


def test_the_first_round_has_nothing_to_take_over():
  rejected = [_row("b", "1", "margin")]
  found = rounds.join([_row("a", "1")], rejected, [], 1)
  assert found == ([_row("a", "1", number=1)], rejected, [])


@pytest.mark.parametrize(
  ("n", "few"), [(1, 1), (2, 2), (3, 3), (5, 3), (6, 3), (7, 4), (20, 10)]
)
def test_doubts_are_sampled_more_and_beliefs_less(n, few):
  accepted = [_row("sure", "1"), _row("half", "1"), _row("old", "1", number=1)]
  doubted = [
    _row("half", "2", "disagrees") | {"variant": "other"},
    _row("old", None, "unparsable"),
    _row("never", None, "given up"),
    _row("long", None, "too long"),
  ]
  found = rounds.most_samples(accepted, doubted, n, 2)
  doubts = dict.fromkeys(("half", "old", "never"), 2 * n)
  assert found == {"sure": few} | doubts
  assert rounds.most_samples(accepted, doubted, n, 3)["never"] == 3 * n


def test_every_reason_to_reject_is_a_doubt_or_a_decision():
  """Those of curation for want of votes are doubts."""
  step = {"tokens": 1, "logprob": -1.0}

  def samples(name, variant, answers):
    return [
      {"example_id": name, "variant": variant, "sample": number,
       "steps": [step], "reply": answer or "", "answer": answer}
      for number, answer in enumerate(answers)
    ]  # fmt: skip

  drawn = {
    ("unparsable", "a"): [None] * 4,
    ("tie", "a"): ["x", "x", "y", "y"],
    ("votes", "a"): ["x", None, None, None],
    ("margin", "a"): ["x", "x", "y", None],
    ("disagrees", "a"): ["x"] * 4,
    ("disagrees", "b"): ["y"] * 4,
    ("given up", "a"): ["x"] * 4,
  }
  rule = Filter("vote", Thresholds(2, 0.4), 0.6, total=4)
  _, rejected = curate(
    [one for name, answers in drawn.items() for one in samples(*name, answers)],
    {name: ["a", "b"] if name in ("disagrees", "given up") else ["a"]
     for name, _ in drawn},
    Formatter(lambda *_: [], lambda *_: "-"),
    rule,
  )  # fmt: skip
  found = {row["reason"] for row in rejected}
  assert found == {name for name, _ in drawn}
  assert all(map(rounds.is_doubt, rejected))


def test_with_more_samples_as_large_a_share_of_votes_is_needed():
  """As the filter, which is of the samples of the first round."""
  rule = StoppingRule(5, 0.0, Thresholds(3, 0.2))
  accept = Thresholds(3, 0.2).accept
  for total in (3, 5, 10):
    of = rule.of(total)
    assert of.total == total and of.samples_needed([]) == total
    for first in range(total + 1):
      votes = ["a"] * first + [None] * (total - first)
      is_accepted = of.accepted_answer(votes) == "a"
      assert is_accepted == accept(first, 0, total, 5)
  assert rule.of(5) == rule
