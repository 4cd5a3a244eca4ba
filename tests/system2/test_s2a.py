"""The calls of System 2 Attention, their order, and where it falls back."""

import pytest

from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.s2a import unbiased_text
from tests.system2.replies import finish, reply
from tests.system2.test_methods import PROMPTS

BIASED = {"text": "Why {not}? I think the answer is 7.", "format": "a number"}


def test_s2a_answers_from_the_extract_alone():
  steps = METHODS["s2a"].think(BIASED, PROMPTS)
  first = next(steps)
  assert [m["role"] for m in first.messages] == ["user", "assistant", "user"]
  assert first.messages[-1]["content"] == f"Text: {BIASED['text']}"
  assert (first.max_new_tokens, first.stop) == (9, ("\n",))
  second = steps.send(reply("Context: none\nQuestion: Why {not}?"))
  assert second.messages == PROMPTS["system1"].messages(text="Why {not}?")
  assert "7" not in str(second.messages)
  assert finish(steps, reply("So.")).text == "So."


@pytest.mark.parametrize(
  "extract, text",
  [
    ("Question: Who?", "Who?"),
    ("question:  Who?\n", "Who?"),
    ("Context: It rains.\nQuestion: Why?", "It rains.\nWhy?"),
    ("Question: Why?\nContext: It rains.", "It rains.\nWhy?"),
    ("Context: None.\nQuestion: Why?", "Why?"),
    ("What is it?", "What is it?"),  # no label: the whole reply
    ("Context: It rains.", "Context: It rains."),  # no question
    ("Question:", "Question:"),
    ("**Context:** none\n**Question:** Why?", "Why?"),
    ("Unbiased context: It rains.\nQuestion: Why?", "It rains.\nWhy?"),
    ("1. Context: It rains.\n2. Question: Why?", "It rains.\nWhy?"),
    ("## Question: Why?", "Why?"),
    ("Context: (none given)\nQuestion: Why?\n\nOpinion: 7", "Why?"),
    ("Context: none\nQuestion: Why?\nAnswer: Because of 7.", "Why?"),
    ("Question: Who {x}?\nOr what?", "Who {x}?\nOr what?"),
    ("  \n", ""),
  ],
)
def test_parts_of_an_extraction(extract, text):
  assert unbiased_text(extract) == text


def test_an_empty_extraction_falls_back_to_the_original_text():
  steps = METHODS["s2a"].think(BIASED, PROMPTS)
  next(steps)
  assert steps.send(reply(" ")).messages[-1]["content"] == BIASED["text"]


def test_the_general_extraction_asks_for_both_parts():
  prompts = METHODS["s2a"].prompts_for("t", {"system1": PROMPTS["system1"]})
  call = next(METHODS["s2a"].think(BIASED, prompts))
  assert "Context:" in call.messages[0]["content"]
  assert "Question:" in call.messages[0]["content"]
  assert call.messages[-1] == {"role": "user", "content": BIASED["text"]}
