import pytest

from s2d_jax.system2.cot import final_answer
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Template
from tests.system2.replies import finish, real, reply, said

FIELDS = {"text": "How many {things}?", "format": "a number"}


def test_the_steps_are_thrown_away():
  steps = METHODS["cot"].think(FIELDS, METHODS["cot"].prompts)
  call = next(steps)
  assert "How many {things}?" in said(call)
  assert "has a number, nothing else" in said(call)
  assert finish(steps, reply("Two and two.\nAnswer: 4")) == "4"


def test_few_shot_examples_come_from_the_task():
  shots = Template("Q: {text}", 9, shots=(("Q: a", "So.\nAnswer: 1"),))
  steps = METHODS["cot_few_shot"].think(FIELDS, {"cot_few_shot": shots})
  assert [m["role"] for m in next(steps).messages] == [
    "user",
    "assistant",
    "user",
  ]
  assert finish(steps, reply("Hm.\nAnswer: 5")) == "5"


def test_a_judge_explains_before_the_verdict():
  prompts = METHODS["cot_judge"].prompts
  fields = {"question": "Why?", "answer_a": "Aa.", "answer_b": "Bb."}
  steps = METHODS["cot_judge"].think(fields, prompts)
  text = said(next(steps))
  assert text.index("Why?") < text.index("Aa.") < text.index("Bb.")
  assert text.index("compare") < text.index("[[A]]")
  assert finish(steps, reply("A is right.\n[[A]]")).text.endswith("[[A]]")


@pytest.mark.parametrize(
  "text, answer",
  [
    ("Steps.\nAnswer: 42.", "42."),
    ("Steps.\n**Answer:** Lima", "Lima"),
    ("**Final answer**: no", "no"),
    ("The final answer is: **no**.", "no."),
    ("Answer: 3? No.\nAnswer: 4", "4"),  # the last marker counts
    ("Answer:\n\n18\nbecause", "18"),
    ("so 6 * 2 = 12\n#### 12", "12"),
    ("hence $\\boxed{7}$ apples.", "7"),
    ("\\boxed{7} at first. Answer: 8", "8"),
    ("Answer: 8, no: $\\boxed{9}$.", "9"),
    ("so \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{\\text{yes}}", "yes"),
    ("#### 1. Add\n2 + 2\n#### 4", "4"),  # the heading of a step is none
    ("#### Step 1: add\n2 + 2\nso 4", "so 4"),
    ("#### Final Answer\n42", "42"),
    ("#### 1,234\nHope this helps!", "1,234"),
    ("*Answer:* 4", "4"),
    ("Answer = `x`", "x"),
    ("Answer: 4. A total of 10 were sold.", "4."),  # one sentence
    ("Answer: J. K. Rowling. She is British.", "J. K. Rowling."),
    ("Answer: 3.5", "3.5"),
    ("The answer to this question is: Lima.", "Lima."),
    ("So the answer must be no.", "no."),
    # The prompt said again is no marker.
    (
      'Yes.\nIt starts with "Answer:" as told.',
      'It starts with "Answer:" as told.',
    ),
    ("The answer is 7.\nI began with 'Answer:' too.", "7."),
    ("I would say\nyes\n", "yes"),  # no marker: the last line
    ("The answer is 5 apples.", "5 apples."),
    ("Answer: 9\nAnswer:", "9"),  # nothing behind the last one
    ("", ""),
    ("\n \n", ""),
  ],
)
def test_final_answer(text, answer):
  assert final_answer(text) == answer


@pytest.mark.parametrize("text, answer", real("final_answer"))
def test_final_answer_of_real_replies(text, answer):
  assert final_answer(text) == answer
