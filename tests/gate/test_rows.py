"""Rows of eval/: whose answer System 2's is, and what an answer costs."""

import pytest

from s2d_jax.gate import rows as gate_rows
from s2d_jax.gate.gate import Gate


def _pass(answer, tokens, **more):
  read = {"tier": "strict", "tokens": tokens, "prompt_tokens": 10 * tokens}
  return {"text": f"It is {answer}.", "answer": answer} | read | more


def _row(*passes, **more):
  row = {"example_id": "x", "variant": "plain", "method": "cot"}
  return row | {"passes": list(passes), "metrics": {"accuracy": 0.0}} | more


def test_a_vote_of_several_samples():
  vote = {"answer": "b", "tokens": 30, "metrics": {"accuracy": 1.0}}
  row = _row(_pass("a", 9), _pass("b", 10), _pass("b", 11), vote=vote)
  found = gate_rows.vote_of(row)
  assert found == vote | {"text": "It is b.", "tier": "strict"}
  # One that was decided early is paid for in full where System 2 thinks.
  direct = _row(_pass("b", 2), greedy=_pass("b", 2, logprob=-1.0))
  made = gate_rows.answered(direct, row, n=6)
  assert made.vote == "b" and made.agrees and made.vote_tokens == 60


def test_one_sample_of_several_answers_is_their_majority():
  nested = {"answer": "b", "tokens": 15, "prompt_tokens": 90}
  row = _row(_pass("a", 9, nested=nested), nested={"metrics": {"accuracy": 1}})
  found = gate_rows.vote_of(row)
  assert (found["answer"], found["tokens"]) == ("b", 15)
  assert found["metrics"] == {"accuracy": 1} and found["text"] == ""
  only = gate_rows.vote_of(_row(_pass("a", 9)))
  assert (only["answer"], only["metrics"]) == ("a", {"accuracy": 0.0})


def test_no_answer_is_no_agreement():
  vote = {"answer": None, "tokens": 20, "metrics": {"accuracy": 0.0}}
  row = _row(_pass("a", 9), _pass("b", 11), vote=vote)
  assert gate_rows.vote_of(row)["text"] == ""
  direct = _row(greedy=_pass(None, 2, logprob=-1.0))
  assert not gate_rows.answered(direct, row, n=2).agrees


@pytest.mark.parametrize("second, thinks", [("a", False), ("c", True)])
def test_all_that_was_drawn_is_paid_for(second, thinks):
  gate = Gate("second_sample", (-1e5, 0.0), (0.2, 1.0), (5, 5), (20, 20), -50.0)
  greedy = _pass("a", 2, logprob=-1.0) | {"metrics": {"accuracy": 0.0}}
  direct = _row(_pass(second, 3), _pass("z", 50), greedy=greedy)
  vote = {"answer": "b", "tokens": 30, "metrics": {"accuracy": 1.0}}
  thought = _row(_pass("b", 10), vote=vote | {"prompt_tokens": 300})
  row = gate_rows.gated(gate, direct | {"cluster": ["p", "q"]}, thought)
  (own,) = row["passes"]
  assert row["thought"] is thinks and row["cluster"] == ["p", "q"]
  assert own["tokens"] == (2 + 3 + 30 if thinks else 2 + 3)
  assert own["prompt_tokens"] == (20 + 30 + 300 if thinks else 50)
  assert own["answer"] == ("b" if thinks else "a")
  assert row["metrics"] == {"accuracy": float(thinks)}
  # A run of an older version has no tokens of prompts.
  thought["vote"].pop("prompt_tokens")
  (own,) = gate_rows.gated(gate, direct, thought)["passes"]
  assert ("prompt_tokens" in own) is not thinks
