"""What a gate buys: each outcome, by runs that must have it."""

import numpy as np
import pytest

from s2d_jax.gate.verdict import worth
from tests.gate import synthetic
from tests.gate.synthetic import METHOD


def _worth(**given):
  made = synthetic.rows(**given)
  return worth(made.gated, made.distilled, made.base, METHOD)


OUTCOMES = {
  "pays": {},
  "direct": {"direct": 0.9, "sure": synthetic.guesses},
  "chance": {"sure": synthetic.guesses, "budget": 6.0},
  "never": {"budget": None},
  "always": {"budget": 42.0},
  "no labels": {"labels": False},
  "unclear": {"n": 30, "sure": synthetic.guesses},
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcomes(outcome):
  found = [_worth(seed=seed, **OUTCOMES[outcome]) for seed in range(2)]
  assert [one.outcome for one in found] == [outcome] * 2


def test_thinking_costs_accuracy_where_system_2_is_worse():
  """Such a gate is not learnt, but a run may have moved since."""
  made = synthetic.rows(direct=0.9)
  for row in made.base:
    row["vote"]["metrics"]["accuracy"] = 0.0
  for row in made.gated:
    row["metrics"] = {"accuracy": 0.0} if row["thought"] else row["metrics"]
  found = worth(made.gated, made.distilled, made.base, METHOD)
  assert found.outcome == "costs"


def test_no_claim_is_made_of_a_gate_that_guesses():
  """Thinking at random gains, too, where System 2 is better."""
  found = [_worth(sure=synthetic.guesses, seed=s) for s in range(6)]
  assert sum(one.outcome == "pays" for one in found) <= 1
  gains = [one.over_direct.gain.value for one in found]
  assert np.mean(gains) == pytest.approx(0.3 * 18 / 40, abs=0.03)


def test_figures_are_those_of_the_rows():
  made = synthetic.rows()
  found = worth(made.gated, made.distilled, made.base, METHOD)
  thought = np.array([row["thought"] for row in made.gated])
  fast, slow, own = (
    np.array([row["metrics"]["accuracy"] for row in rows])
    for rows in (made.distilled, made.base, made.gated)
  )
  assert found.thought == thought.mean() and found.n == 400
  assert found.tokens == pytest.approx(2 + 40 * thought.mean())
  assert (found.direct_tokens, found.vote_tokens) == (2, 40)
  assert found.over_direct.first == own.mean()
  np.testing.assert_array_equal(own, np.where(thought, slow, fast))
  # As many tokens at random: each input with the same chance.
  random = fast + thought.mean() * (slow - fast)
  assert found.over_random.second == pytest.approx(random.mean())
  assert found.over_random.second == pytest.approx(
    found.curve.at_random(found.tokens)
  )
  # The gate that was chosen is a point of the curve, or near to one.
  gap = np.abs(np.array(found.curve.tokens) - found.tokens).min()
  assert gap < 1e-9
  error = np.sqrt(slow.var() / 400)
  at = found.curve.tokens.index(found.enough)
  accuracy = np.array(found.curve.accuracy)
  assert accuracy[at] >= slow.mean() - 1.01 * error
  assert (accuracy[:at] < slow.mean() - 0.99 * error).all()
  assert found.share_of_vote == found.enough / 40


def test_what_is_missing_is_no_verdict():
  made = synthetic.rows()
  assert worth([], made.distilled, made.base, METHOD) is None
  assert worth(made.gated, [], made.base, METHOD) is None
  assert worth(made.gated, made.distilled, made.base, "rar2") is None


def test_inputs_without_a_label_are_left_out():
  made = synthetic.rows()
  for rows in made:
    for row in rows[:100]:
      for one in (row, row.get("greedy", {}), row.get("vote", {})):
        one["metrics"] = {}
  found = worth(made.gated, made.distilled, made.base, METHOD)
  assert found.n == found.over_vote.n == 300 and found.is_labelled
