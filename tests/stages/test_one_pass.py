"""A single sample is one thought and one answer, however many were drawn."""

from __future__ import annotations

from s2d_jax.stages import evaluate

_STEPS = [40, 3, 4, 5]  # tokens: a thought, and three answers to it
_READ = [100, 200, 200, 200]  # of their prompts


def _record(**more):
  several = {
    "replies": ["No.", "Yes!", "yes"],
    "answers": ["no", "yes", "yes"],
    "tiers": ["strict", "loose", "strict"],
  }
  majority = {"reply": "Yes!", "answer": "yes", "tier": "loose"}
  return majority | several | more


def test_the_first_answer_is_the_pass_and_the_majority_has_a_name():
  assert evaluate.one_pass(_record(), _STEPS, _READ) == {
    "text": "No.",
    "answer": "no",
    "tier": "strict",
    "tokens": 43,
    "prompt_tokens": 300,
    "nested": {"answer": "yes", "tokens": 52, "prompt_tokens": 700},
  }


def test_a_single_answer_is_as_it_was():
  record = {"reply": "Yes!", "answer": "yes", "tier": "loose"}
  assert evaluate.one_pass(record, [40, 3], [None, None]) == {
    "text": "Yes!",
    "answer": "yes",
    "tier": "loose",
    "tokens": 43,
  }


def test_a_thought_whose_answers_never_came():
  record = {"reply": "", "answer": None, "tier": None, "too_long": 600}
  found = evaluate.one_pass(record, [40], [100])
  assert (found["tokens"], found["too_long"]) == (40, 600)
  none = {"replies": [""] * 3, "answers": [None] * 3, "tiers": [None] * 3}
  assert evaluate.one_pass(record | none, [40], [100])["tokens"] == 40
