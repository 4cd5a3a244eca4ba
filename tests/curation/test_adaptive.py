from __future__ import annotations

import itertools
import math
import random

import pytest

from s2d_jax.curation.adaptive import (
  AdaptiveVote,
  ExampleVotes,
  StoppingRule,
  stopping_time,
)
from s2d_jax.curation.curate import Filter, Formatter, curate
from s2d_jax.curation.vote import Thresholds, vote


def exact(leader, others, total, thresholds):
  """P(accepted) by summing over the share of the leader, on a fine grid."""
  left, grid = total - leader - others, 20_000
  chance = weight = 0.0
  for i in range(grid):
    p = (i + 0.5) / grid
    likely = p**leader * (1 - p) ** others
    weight += likely
    for x in range(left + 1):
      if thresholds.accept(leader + x, others + left - x, total, total):
        ways = math.comb(left, x)
        chance += likely * ways * p**x * (1 - p) ** (left - x)
  return chance / weight


@pytest.mark.parametrize(
  "leader, others, total, margin",
  [(3, 0, 5, 0.4), (4, 0, 8, 0.4), (5, 1, 10, 0.0), (2, 2, 9, 0.2)],
)
def test_the_chance_of_acceptance_is_that_of_the_integral(
  leader, others, total, margin
):
  thresholds = Thresholds(0, margin)
  rule = StoppingRule(total, 0.95, thresholds)
  wanted = exact(leader, others, total, thresholds)
  assert rule._accepted(leader, others) == pytest.approx(wanted, abs=1e-6)


def test_rounds_of_a_small_vote():
  # After three alike of five the chance is .933: one more is needed.
  rule = StoppingRule(5, 0.95, Thresholds(0, 0.4))
  assert rule.samples_needed([]) == 4
  assert rule.samples_needed(["a"] * 4) == 0
  assert rule.samples_needed(["a", "a", "a", "b"]) == 1
  assert rule.samples_needed(["a", "a", "b", "b"]) == 0  # 3 to 2 would not do
  assert rule.samples_needed([None] * 4) == 0
  assert StoppingRule(5, 0.9, Thresholds(0, 0.4)).samples_needed([]) == 3


def test_thresholds_that_nothing_meets_do_not_keep_all_from_being_asked():
  rule = StoppingRule(5, 0.95, Thresholds(0, 1.1))
  assert rule.samples_needed([]) == 5
  answers = {variant: ["a"] * 5 for variant in _VARIANTS}
  assert len(_draw_all(_votes(rule, 4), answers)) == 20


def test_without_a_confidence_every_sample_is_drawn():
  rule = StoppingRule(5, 0.0, Thresholds(0, 0.4))
  assert rule.samples_needed([]) == 5
  assert rule.samples_needed(["a"] * 4) == 1
  assert stopping_time(["a"] * 5, rule) == 5


def test_a_lost_vote_is_never_one_that_could_be_won():
  thresholds = Thresholds(3, 0.4)
  rule = StoppingRule(6, 0.999999, thresholds)
  for made in range(1, 6):
    for answers in itertools.product("ab", repeat=made):
      if rule.samples_needed(list(answers)):
        continue
      rest = itertools.product("ab", repeat=6 - made)
      ends = {rule.accepted_answer([*answers, *more]) for more in rest}
      assert len(ends) == 1, answers


def test_early_decisions_agree_with_the_full_vote():
  draw = random.Random(0)
  rule = StoppingRule(20, 0.95, Thresholds(0, 0.2))
  agree = samples = 0
  for _ in range(2000):
    share = draw.random()
    full = ["a" if draw.random() < share else "b" for _ in range(20)]
    made = stopping_time(full, rule)
    samples += made
    early = rule.accepted_answer(full[:made])
    agree += early == rule.accepted_answer(full)
  assert agree / 2000 > 0.95
  assert samples / 2000 < 15


def _kept_inputs(drawn, rule):
  """Input → winner, of those that curation keeps of these samples."""
  samples = [
    {
      "example_id": name,
      "variant": "plain",
      "sample": number,
      "steps": [{"tokens": 1, "logprob": -1.0}],
      "reply": answer or "?",
      "answer": answer,
    }
    for name, answers in drawn.items()
    for number, answer in enumerate(answers)
  ]
  formatter = Formatter(lambda *_: [], lambda *_: "-")
  by = Filter(thresholds=rule.thresholds, total=rule.total)
  asked = dict.fromkeys(drawn, ["plain"])
  kept, _ = curate(samples, asked, formatter, by)
  return {record["example_id"]: record["winner"] for record in kept}


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(
  "min_votes, min_margin",
  [(0, 0.4), (12, 0.0), (12, 0.4), (18, 0.0), (20, 0.0), (5, 0.8), (21, 0.0)],
)
def test_what_is_kept_is_what_the_full_draw_keeps(
  min_votes, min_margin, confidence
):
  draw = random.Random(min_votes)
  rule = StoppingRule(20, confidence, Thresholds(min_votes, min_margin))
  shares = [share / 40 for share in range(41)]  # of the leader, evenly
  full = {
    f"{share}/{number}": [
      "a" if draw.random() < share else draw.choice(["b", "b", "b", None])
      for _ in range(20)
    ]
    for share in shares
    for number in range(25)
  }
  early = {
    name: answers[: stopping_time(answers, rule)]
    for name, answers in full.items()
  }
  wanted, kept = _kept_inputs(full, rule), _kept_inputs(early, rule)
  # Whatever a full draw keeps is kept; this is certain.
  assert not wanted.keys() - kept.keys()
  unsure = [name for name in kept if len(early[name]) < 20]
  wrong = sum(wanted.get(name) != kept[name] for name in unsure)
  allowed = (1 - confidence) * len(unsure)
  assert wrong <= allowed + 3 * math.sqrt(allowed * confidence)
  unanimous = {f"1.0/{number}" for number in range(25)}
  if min_votes <= 20:
    assert unanimous <= kept.keys()
    assert sum(map(len, early.values())) < 20 * len(full)
  else:
    assert not kept


def test_a_filter_and_a_full_vote_that_disagree_draw_on():
  # 17 of 18 are 17.9 votes of 19: likely 18 in the end, but not by the filter.
  rule = StoppingRule(19, 0.9, Thresholds(18, 0.0))
  answers = ["b"] + ["a"] * 17
  assert rule._accepted(17, 1) == pytest.approx(0.9)
  assert rule.samples_needed(answers) == 1
  assert rule.accepted_answer([*answers, "a"]) == "a"
  assert rule.accepted_answer([*answers, None]) is None


def test_a_vote_draws_the_same_samples_after_a_kill():
  rule = StoppingRule(8, 0.95, Thresholds(0, 0.4))
  texts = ["a", "b", "a", "a", "a", "a", "b", "a"]

  def finish(adaptive):
    waiting = list(adaptive.next_round())
    drawn = []
    while waiting:
      number = waiting.pop()  # replies come in any order
      drawn.append(number)
      waiting += adaptive.receive(number, texts[number]) or []
    return drawn

  whole = finish(AdaptiveVote(rule, {}))
  assert sorted(whole) == list(range(len(whole)))
  for cut in range(len(whole)):
    before = {number: texts[number] for number in whole[:cut]}
    after = finish(AdaptiveVote(rule, before))
    assert sorted([*before, *after]) == sorted(whole)


def test_a_vote_tells_where_it_is():
  adaptive = AdaptiveVote(StoppingRule(8, 0.95, Thresholds(0, 0.4)), {})
  assert not adaptive.is_decided and adaptive.winner is None
  numbers = adaptive.next_round()
  assert numbers == [0, 1, 2, 3]
  assert [adaptive.receive(n, "a") for n in numbers] == [None, None, None, []]
  assert (adaptive.is_decided, adaptive.winner, adaptive.drawn) == (
    True,
    "a",
    4,
  )


_VARIANTS = ("w", "x", "y", "z")


def _votes(rule, needed, before=None, wave_size=1, variants=_VARIANTS):
  before = before or {}
  return ExampleVotes(
    {
      variant: AdaptiveVote(rule, before.get(variant, {}))
      for variant in variants
    },
    needed,
    wave_size,
  )


def _draw_all(votes, answers, order=lambda waiting: waiting.pop()):
  waiting, drawn = list(votes.start()), []
  while waiting:
    variant, number = order(waiting)
    drawn.append((variant, number))
    waiting += votes.receive(variant, number, answers[variant][number])
  assert votes.is_decided
  return drawn


def _kept(answers, drawn, needed):
  """What curation would keep of the samples that were drawn."""
  votes = {
    variant: vote([answers[v][n] for v, n in sorted(drawn) if v == variant])
    for variant in _VARIANTS
  }
  winners = [result.winner for result in votes.values()]
  return {
    (variant, result.winner)
    for variant, result in votes.items()
    if result.winner and winners.count(result.winner) >= needed
  }


@pytest.mark.parametrize("wave_size", [1, 2])
@pytest.mark.parametrize("needed", [0, 2, 3, 4])
def test_giving_up_keeps_the_same(needed, wave_size):
  draw = random.Random(needed)
  rule = StoppingRule(3, 0.0, Thresholds())
  samples = 0
  for _ in range(300):
    answers = {
      variant: [draw.choice(("a", "a", "a", "b", None)) for _ in range(3)]
      for variant in _VARIANTS
    }
    drawn = _draw_all(_votes(rule, needed, wave_size=wave_size), answers)
    assert len(set(drawn)) == len(drawn)
    everything = [(variant, n) for variant in _VARIANTS for n in range(3)]
    assert _kept(answers, drawn, needed) == _kept(answers, everything, needed)
    samples += len(drawn)
  assert (samples == 300 * 12) == (needed == 0)


@pytest.mark.parametrize("fit", range(4))
@pytest.mark.parametrize("needed", range(5))
def test_variants_that_are_too_long_agree_with_nothing(fit, needed):
  draw = random.Random(f"{fit}/{needed}")
  rule, variants = StoppingRule(3, 0.0, Thresholds()), _VARIANTS[:fit]
  for _ in range(50):
    answers = {
      variant: [draw.choice(("a", "a", "a", "b", None)) for _ in range(3)]
      for variant in variants
    }
    drawn = _draw_all(_votes(rule, needed, variants=variants), answers)
    everything = [(variant, n) for variant in variants for n in range(3)]
    assert _kept(answers, drawn, needed) == _kept(answers, everything, needed)
    assert not drawn or fit >= needed  # or it is known from the start


def test_a_perturbation_of_what_is_rejected_is_not_needed():
  rule = StoppingRule(3, 0.0, Thresholds(0, 0.4))

  def drawn(sent, needed=2):
    votes = ExampleVotes(
      {name: AdaptiveVote(rule, {}) for name in ("sent", "other")},
      needed,
      perturbations=("other",),
    )
    answers = {"sent": sent, "other": ["a"] * 3}
    return {variant for variant, _ in _draw_all(votes, answers)}

  assert drawn(["a", "a", "a"]) == {"sent", "other"}
  assert drawn(["a", "a", "b"]) == {"sent"}  # the margin is too small
  assert drawn(["a", "a", "b"], needed=0) == {"sent", "other"}
  assert drawn(["a", "b", None]) == {"sent"}


def test_votes_go_on_after_a_kill_as_they_would_have():
  draw = random.Random(7)
  rule = StoppingRule(4, 0.9, Thresholds(0, 0.25))
  for _ in range(60):
    answers = {
      variant: [draw.choice(("a", "a", "b", None)) for _ in range(4)]
      for variant in _VARIANTS
    }
    for needed, wave_size in ((0, 1), (4, 1), (4, 3), (3, 2)):
      whole = _draw_all(_votes(rule, needed, None, wave_size), answers)
      cut = draw.randrange(len(whole) + 1)
      before = {}
      for variant, number in whole[:cut]:
        before.setdefault(variant, {})[number] = answers[variant][number]
      rest = _draw_all(_votes(rule, needed, before, wave_size), answers)
      assert sorted(whole) == sorted([*whole[:cut], *rest])


def test_waves_are_as_wide_as_they_must_and_may_be():
  rule = StoppingRule(1, 0.0, Thresholds())
  first = lambda needed, wave_size: {
    variant for variant, _ in _votes(rule, needed, None, wave_size).start()
  }
  assert first(0, 1) == first(1, 1) == set(_VARIANTS)
  assert first(4, 1) == {"w"}  # any of them may lose the example
  assert first(3, 1) == {"w", "x"}  # one alone cannot
  assert first(4, 3) == {"w", "x", "y"}
  assert first(4, 9) == set(_VARIANTS)
