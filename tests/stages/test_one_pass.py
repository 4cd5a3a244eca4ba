"""A single sample is one thought and one answer, however many were drawn."""

from __future__ import annotations

from s2d_jax.stages import evaluate


def _steps(*tokens) -> list[dict]:
  """A thought, and the answers to it."""
  read = [100] + [200] * (len(tokens) - 1)
  return [
    {"tokens": count, "prompt_tokens": length, "logprob": -count / 2}
    for count, length in zip(tokens, read, strict=True)
  ]


_STEPS = _steps(40, 3, 4, 5)


def _record(**more):
  several = {
    "replies": ["No.", "Yes!", "yes"],
    "answers": ["no", "yes", "yes"],
    "tiers": ["strict", "loose", "strict"],
  }
  majority = {"reply": "Yes!", "answer": "yes", "tier": "loose"}
  return majority | several | more


def test_the_first_answer_is_the_pass_and_the_majority_has_a_name():
  assert evaluate.one_pass(_record(), _STEPS) == {
    "text": "No.",
    "answer": "no",
    "tier": "strict",
    "tokens": 43,
    "prompt_tokens": 300,
    "nested": {"answer": "yes", "tokens": 52, "prompt_tokens": 700},
  }


def test_a_single_answer_is_as_it_was():
  record = {"reply": "Yes!", "answer": "yes", "tier": "loose"}
  steps = [
    {"tokens": count, "logprob": -1.0}  # of a run of an older version
    for count in (40, 3)
  ]
  assert evaluate.one_pass(record, steps) == {
    "text": "Yes!",
    "answer": "yes",
    "tier": "loose",
    "tokens": 43,
  }


def test_a_reply_of_one_call_has_its_log_probability():
  record = {"reply": "Yes!", "answer": "yes", "tier": "loose"}
  assert evaluate.one_pass(record, _steps(3))["logprob"] == -1.5
  # Of several answers to no thought the first is a call of its own.
  assert evaluate.one_pass(_record(), _steps(3, 4, 5))["logprob"] == -1.5


def test_a_thought_whose_answers_never_came():
  record = {"reply": "", "answer": None, "tier": None, "too_long": 600}
  found = evaluate.one_pass(record, _steps(40))
  assert (found["tokens"], found["too_long"]) == (40, 600)
  none = {"replies": [""] * 3, "answers": [None] * 3, "tiers": [None] * 3}
  assert evaluate.one_pass(record | none, _steps(40))["tokens"] == 40
