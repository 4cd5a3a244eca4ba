from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import override
from tests.system2.replies import finish, reply, said

FIELDS = {"text": "Is {it} up?", "format": "yes or no"}


def test_one_step_restates_and_answers_in_one_reply():
  steps = METHODS["rar1"].think(FIELDS, METHODS["rar1"].prompts)
  call = next(steps)
  assert '"Is {it} up?"' in said(call)
  assert "has yes or no, nothing else" in said(call)
  assert finish(steps, reply("Whether it is up.\nAnswer: no")) == "no"


def test_two_steps_answer_with_the_restatement_in_view():
  steps = METHODS["rar2"].think(FIELDS, METHODS["rar2"].prompts)
  first = said(next(steps))
  assert '"Is {it} up?"' in first and "do not answer" in first
  assert "yes or no" not in first
  second = said(steps.send(reply(" Does {it} show heads?\n")))
  assert "Question: Is {it} up?" in second
  assert "restated: Does {it} show heads?" in second
  assert "with yes or no only" in second
  assert finish(steps, reply("yes")).text == "yes"


def test_an_empty_restatement_falls_back_to_the_question():
  steps = METHODS["rar2"].think(FIELDS, METHODS["rar2"].prompts)
  next(steps)
  assert "restated: Is {it} up?" in said(steps.send(reply("  ")))


def test_several_answers_to_one_restatement():
  prompts = override(METHODS["rar2"].prompts, {"respond": {"n": 3}})
  steps = METHODS["rar2"].think(FIELDS, prompts)
  assert next(steps).n == 1
  assert steps.send(reply("r")).n == 3
  answers = [reply("yes"), reply("no"), reply("yes")]
  assert finish(steps, answers) == answers
