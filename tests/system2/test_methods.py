"""What the registry holds, and how templates are found and replaced."""

import pytest

from s2d_jax.errors import UserError
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Method, ModelCall, Template, override
from tests.system2.replies import finish, reply

PROMPTS = {
  "system1": Template(user="{text}", max_new_tokens=5, system="Be short."),
  "extract": Template(
    user="Text: {text}",
    max_new_tokens=9,
    shots=(("Text: a?", "Question: a?"),),
    stop=("\n",),
  ),
}


def test_system1_asks_once_what_the_user_said():
  steps = METHODS["system1"].think({"text": "Why {not}?"}, PROMPTS)
  call = next(steps)
  assert call.messages == (
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Why {not}?"},
  )
  assert finish(steps, reply("Because.")).text == "Because."


def test_a_task_s_template_comes_before_the_general_one():
  mine = Template("mine: {text}", 3)
  chosen = METHODS["cot"].prompts_for("t", {"cot": mine, "extract": mine})
  assert chosen == {"cot": mine}
  assert METHODS["cot"].prompts_for("t", {}) == METHODS["cot"].prompts
  with pytest.raises(UserError, match="task t has no prompt 'cot_few_shot'"):
    METHODS["cot_few_shot"].prompts_for("t", {})


def test_prompts_can_be_replaced_from_a_config():
  changed = override(
    PROMPTS, {"extract": {"shots": [["x", "y"]], "stop": [], "n": 3}}
  )
  assert changed["extract"].shots == (("x", "y"),)
  assert changed["extract"].user == PROMPTS["extract"].user
  assert changed["extract"].ask(text="t").n == 3
  assert changed["system1"] == PROMPTS["system1"]


def test_a_stop_string_may_stand_alone():
  changed = override(PROMPTS, {"extract": {"stop": "END"}})
  assert changed["extract"].ask(text="t").stop == ("END",)
  assert Template("{text}", 3, stop="END").stop == ("END",)
  assert ModelCall((), 3, stop="END").stop == ("END",)


@pytest.mark.parametrize(
  "changes, named",
  [
    ({"answer": {}}, "prompts.answer is not a prompt"),
    ({"extract": {"shot": ()}}, "prompts.extract.shot is unknown"),
    ({"extract": {"stop": 3}}, "stop=3 of a prompt must be"),
    ({"extract": {"stop": ["END", ""]}}, "texts that are not empty"),
    ({"extract": {"shots": "ab"}}, "prompts.extract.shots='ab' must be pairs"),
    ({"extract": {"shots": ["ab"]}}, "prompts.extract.shots=.* must be pairs"),
    ({"extract": {"user": ["{text}"]}}, "prompts.extract.user=.* be a text"),
    ({"extract": {"n": 0}}, "prompts.extract.n=0 must be a whole number"),
    ({"extract": {"max_new_tokens": "9"}}, "max_new_tokens='9' must be"),
    ({"extract": {"chat": "loud"}}, "prompts.extract.chat='loud' must be opt"),
  ],
)
def test_what_cannot_be_replaced(changes, named):
  with pytest.raises(UserError, match=named):
    override(PROMPTS, changes)


def test_a_gap_that_nothing_fills_is_named():
  template = Template("{text} and {tex}", 3)
  with pytest.raises(
    UserError, match=r"placeholder \{tex\}, but there are only.* text"
  ):
    template.ask(text="a", format="b")


def test_every_general_template_can_be_filled():
  fields = dict.fromkeys(
    ("text", "format", "question", "answer_a", "answer_b", "responses"), "x"
  )
  by_method = dict.fromkeys(
    ("criterion", "evaluations", "restated", "part", "answers"), "y"
  )
  for name, method in METHODS.items():
    assert isinstance(method, Method)
    for template in method.prompts.values():
      if template is not None:
        text = template.ask(**fields, **by_method).messages[-1]["content"]
        assert "{" not in text, name


def test_only_a_reply_that_is_returned_may_be_drawn_several_times():
  several = {"respond": {"n": 4}}
  prompts = override(METHODS["rar2"].prompts, several)
  METHODS["rar2"].check_counts(prompts)
  for name, template in (
    ("rar2", "rephrase"),
    ("cot", "cot"),
    ("bsm", "solve"),
  ):
    prompts = override(METHODS[name].prompts, {template: {"n": 2}})
    with pytest.raises(UserError, match=f"prompts.{template}.n=2 cannot be"):
      METHODS[name].check_counts(prompts)
