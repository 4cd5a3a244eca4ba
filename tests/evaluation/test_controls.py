from __future__ import annotations

import pytest

from s2d_jax.evaluation.controls import Way, cost


@pytest.mark.parametrize(
  "name, method, drawn",
  [
    ("system1", "system1", "sample"),
    ("system1_greedy", "system1", "greedy"),
    ("system1_shots", "system1_shots", "sample"),
    ("system1_shots_vote", "system1_shots", "vote"),
    ("cot_few_shot_greedy", "cot_few_shot", "greedy"),
  ],
)
def test_a_name_says_who_is_asked_and_how(name, method, drawn):
  assert Way.of(name) == (method, drawn)
  assert str(Way(method, drawn)) == name


def row(method, samples, greedy):
  """Replies of so many tokens, each behind a prompt of 100."""
  replies = [{"tokens": n, "prompt_tokens": 100} for n in [*samples, greedy]]
  return {"method": method, "passes": replies[:-1], "greedy": replies[-1]}


def test_what_the_controls_cost_by_hand():
  rows = [row("system1", [1, 2], 4), row("system1_shots", [8, 16], 32)]
  rows.append(row("s2a", [64, 128], 256))
  found = cost(rows, "s2a")
  assert found.generated == 511 and found.prompt == 900
  # Needed in any case: System 1 greedily, and the samples of System 2.
  assert found.control_generated == 511 - (4 + 64 + 128)
  assert found.control_prompt == 900 - 300
  assert str(found) == (
    "315 of 511 generated tokens (62 %) and 600 of 900 of prompts"
  )
  # Of a run that distils System 1's own votes those are no control.
  assert cost(rows[:1], "system1") is None
  assert cost(rows[:1], "").control_generated == 3


def test_without_controls_they_cost_nothing():
  direct = row("system1", [], 4)
  thinking = row("s2a", [64], 0)
  del thinking["greedy"]
  assert cost([direct, thinking], "s2a") is None
