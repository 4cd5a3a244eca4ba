"""What System 2 Attention asks, in which order, and where it falls back."""

import pytest

from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion
from s2d_jax.system2.methods import METHODS, unbiased_text
from s2d_jax.system2.program import Template, override

PROMPTS = {
  "system1": Template(user="{text}", max_new_tokens=5, system="Be short."),
  "extract": Template(
    user="Text: {text}",
    max_new_tokens=9,
    shots=(("Text: a?", "Question: a?"),),
    stop=("\n",),
  ),
}
BIASED = "Why {not}? I think the answer is 7."


def reply(text: str) -> Completion:
  return Completion(text, (1, 2), -0.5, "stop")


def test_system1_asks_once_what_the_user_said():
  steps = METHODS["system1"](BIASED, PROMPTS)
  ask = next(steps)
  assert ask.messages == (
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": BIASED},
  )
  with pytest.raises(StopIteration) as end:
    steps.send(reply("Because."))
  assert end.value.value.text == "Because."


def test_s2a_answers_from_the_extract_alone():
  steps = METHODS["s2a"](BIASED, PROMPTS)
  first = next(steps)
  assert [m["role"] for m in first.messages] == ["user", "assistant", "user"]
  assert first.messages[-1]["content"] == f"Text: {BIASED}"
  assert (first.max_new_tokens, first.stop) == (9, ("\n",))
  second = steps.send(reply("Context: none\nQuestion: Why {not}?"))
  assert second.messages == PROMPTS["system1"].messages(text="Why {not}?")
  assert "7" not in str(second.messages)


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
    ("  \n", ""),
  ],
)
def test_parts_of_an_extraction(extract, text):
  assert unbiased_text(extract) == text


def test_an_empty_extraction_falls_back_to_the_original_text():
  steps = METHODS["s2a"](BIASED, PROMPTS)
  next(steps)
  assert steps.send(reply(" ")).messages[-1]["content"] == BIASED


def test_prompts_can_be_replaced_from_a_config():
  changed = override(PROMPTS, {"extract": {"shots": [["x", "y"]], "stop": []}})
  assert changed["extract"].shots == (("x", "y"),)
  assert changed["extract"].user == PROMPTS["extract"].user
  assert changed["system1"] == PROMPTS["system1"]
  with pytest.raises(UserError, match="prompts.answer is not a prompt"):
    override(PROMPTS, {"answer": {}})
  with pytest.raises(UserError, match="prompts.extract.shot is unknown"):
    override(PROMPTS, {"extract": {"shot": ()}})
