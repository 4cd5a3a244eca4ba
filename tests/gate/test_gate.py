"""The gate learns what a confidence is worth."""

import numpy as np
import pytest

from s2d_jax.errors import UserError
from s2d_jax.gate import gate as gates
from s2d_jax.gate.confidence import UNANSWERED
from s2d_jax.gate.gate import Answered, Gate


def _answered(number, logprob, answer, vote, second=None):
  greedy = {"answer": answer, "logprob": logprob, "tokens": 2}
  sample = {"answer": second or answer, "logprob": logprob, "tokens": 3}
  return Answered(greedy, [sample], vote, 40, f"cluster {number}")


def test_probability_is_the_share_that_agrees_and_never_falls():
  # By hand: 0 of 1, then 1 of 2 pooled with 0 of 1 beyond it, then 2 of 2.
  found = [(-5, "b"), (-4, "a"), (-3, "b"), (-2, "b"), (-1, "a"), (-0.5, "a")]
  gate = gates._learn(
    "logprob", [_answered(i, x, "a", vote) for i, (x, vote) in enumerate(found)]
  )
  assert gate.confidences == (-5, -4, -3, -2, -1, -0.5)
  third = 1 / 3
  np.testing.assert_allclose(
    gate.probabilities, [0, third, third, third, 1, 1], atol=1e-12
  )
  assert gate.probability(-10) == 0
  assert gate.probability(-1.5) == pytest.approx(2 / 3)  # between the two


def test_an_input_without_an_answer_is_always_thought_about():
  found = [_answered(0, -0.1, None, None), _answered(1, -3, "a", "a")]
  gate = gates._learn("logprob", found).agreeing(0.5)
  assert gate.confidence(found[0].greedy, []) == UNANSWERED
  assert gate.thinks(UNANSWERED)
  assert not gate.thinks(-3)


def test_what_is_less_sure_than_all_that_was_seen_may_stand():
  answered = [_answered(i, -3 + i, "a", "a") for i in range(2)]
  gate = gates._learn("logprob", answered).agreeing(0.9)
  assert not gate.thinks(-10) and gate.thinks(UNANSWERED)
  assert gate.probability(UNANSWERED) == 0
  # One that had no answer was seen, and was not worth a thought.
  unanswered = [_answered(2, -1, None, "a"), *answered]
  gate = gates._learn("logprob", unanswered).within(2)
  assert not gate.thinks(UNANSWERED)


def test_a_budget_buys_whole_votes_for_the_least_sure():
  found = [_answered(i, -10 + i, "a", "a") for i in range(10)]
  gate = gates._learn("logprob", found)
  # 2 for the direct answer, 40 for a vote: 2 + 0.3 * 40 = 14.
  thought = lambda budget: sum(
    gate.within(budget).thinks(-10 + i) for i in range(10)
  )
  assert [thought(b) for b in (2, 5.9, 6, 13.9, 14, 41, 42)] == [
    0, 0, 1, 2, 3, 9, 10,
  ]  # fmt: skip
  with pytest.raises(UserError, match=r"less than the 2\.0 that"):
    gate.within(1.5)


def test_the_signal_that_predicts_better_is_chosen():
  rng = np.random.default_rng(0)
  noise = -rng.random(60)  # log-probabilities that say nothing
  found = [
    _answered(i, x, "a", "a" if i % 2 else "b", "a" if i % 2 else "c")
    for i, x in enumerate(noise)
  ]
  assert gates.learn(found).signal == "second_sample"
  assert gates.why_not(found) == ""
  assert "19 independent inputs" in gates.why_not(found[:19])
  assert "as every direct answer" in gates.why_not(found[1::2])


def test_a_gate_is_kept_as_json():
  gate = gates._learn("logprob", [_answered(0, -1, "a", "a")])
  for one in (gate, gate.agreeing(0.5)):
    assert Gate.from_record(one.to_record()) == one


def test_a_share_of_the_votes_tokens_pays_for_direct_answers_at_least():
  found = [_answered(i, -10 + i, "a", "a") for i in range(10)]
  gate = gates._learn("logprob", found)  # 2 tokens, and 40 for a vote
  assert gate.with_share(0.25) == gate.within(10)
  assert gate.with_share(0.01) == gate.within(2)
