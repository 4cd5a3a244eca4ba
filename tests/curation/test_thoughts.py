from __future__ import annotations

import pytest

from s2d_jax.curation import thoughts
from s2d_jax.curation.thoughts import Thought
from s2d_jax.system2.cot import reasoning, statement


def step(prompt: str, text: str, tokens: int = 3):
  return {"prompt": prompt, "text": text, "tokens": tokens}


def test_a_thought_has_a_line_for_each_step():
  asked = [step("a", "Africa"), step("b", " Asia\n", 4), step("c", "no", 2)]
  assert thoughts.of_steps(asked, str) == Thought("Africa\nAsia\nno", 9)
  assert thoughts.of_steps(asked, None) == Thought("Africa\nAsia", 7)


def test_of_several_replies_to_a_prompt_the_most_frequent_was_thought():
  asked = [step("a", text) for text in ("Europe", "Asia", "Asia")]
  asked += [step("b", text) for text in ("Asia", "Africa", "Oceania")]
  assert thoughts.of_steps(asked, str) == Thought("Asia\nAsia", 6)
  # Several answers to one thought are no thought.
  assert thoughts.of_steps(asked, None) == Thought("Asia", 3)


def test_what_most_say_is_told_as_the_method_tells_it():
  asked = [step("a", text) for text in ("Asia", "Europe", "Europe.")]
  assert thoughts.of_steps(asked, str).text == "Europe"


def test_an_empty_step_has_no_line():
  asked = [step("a", " "), step("b", "<think>Hm.</think>"), step("c", "no")]
  assert thoughts.of_steps(asked, None).text == "Hm."


def test_shortest():
  found = [Thought("by far", 5), Thought("longer", 4), Thought("short", 4)]
  assert thoughts.shortest(found) == "short"
  assert thoughts.shortest([]) == ""


@pytest.mark.parametrize(
  "reply, before",
  [
    ("4 and 5 make 9.\nAnswer: 9", "4 and 5 make 9.\nAnswer:"),
    ("That is 4 + 5, so the answer is 9.", "That is 4 + 5, so the answer is"),
    ("4 + 5 = 9, so $\\boxed{9}$", "4 + 5 = 9, so"),
    ("A is short. B is right.\n[[B]]", "A is short. B is right."),
    ("**Ruth** flips. So it is tails up.", "Ruth flips."),
    ("<think>4, 5: 9.</think>It is 9.", "4, 5: 9."),
    ("4, 5: 9.</think>Sure. It is 9.", "4, 5: 9.\nSure."),
    ("It is 9.", ""),
    ("", ""),
  ],
)
def test_reasoning_is_what_stands_before_the_statement(reply, before):
  assert reasoning(reply) == before
  # Behind it the answer is read again.
  answer = statement(reply)
  assert not answer or statement(f"{before}\n{answer}") == answer
