"""The methods by name. A new one is a generator function and a line here."""

from __future__ import annotations

from s2d_jax.errors import UserError
from s2d_jax.system2 import bsm, consistency, cot, decompose, rar, s2a, think
from s2d_jax.system2.program import Fields, Method, Prompts, Steps


def system1(fields: Fields, prompts: Prompts) -> Steps:
  """The direct answer: the baseline, and what the student is trained on."""
  return (yield prompts["system1"].ask(**fields))


def system1_shots(fields: Fields, prompts: Prompts) -> Steps:
  """The direct answer behind worked examples: a control, without thinking."""
  return (yield prompts["system1_shots"].ask(**fields))


def system1_aloud(fields: Fields, prompts: Prompts) -> Steps:
  """The same question, to a student that was taught to think before it answers.

  Its thought is thrown away like that of a chain of thought.
  """
  reply = yield prompts["system1"].ask(**fields)
  return cot.final_answer(reply.text)


# A template that is None is the task's own.
METHODS: dict[str, Method] = {
  "system1": Method(system1, {"system1": None}, "system1"),
  "system1_shots": Method(
    system1_shots, {"system1_shots": None}, "system1_shots"
  ),
  "system1_aloud": Method(system1_aloud, {"system1": None}, thinks_aloud=True),
  "cot": Method(cot.cot, cot.PROMPTS, thinks_aloud=True),
  "cot_few_shot": Method(
    cot.cot_few_shot, {"cot_few_shot": None}, thinks_aloud=True
  ),
  "cot_judge": Method(
    cot.cot_judge, cot.JUDGE_PROMPTS, "cot_judge", thinks_aloud=True
  ),
  "rar1": Method(rar.one_step, rar.ONE_STEP, thinks_aloud=True),
  "rar2": Method(rar.two_steps, rar.TWO_STEPS, "respond"),
  "s2a": Method(s2a.s2a, s2a.PROMPTS, "system1"),
  "s2a_few_shot": Method(s2a.s2a_few_shot, s2a.FEW_SHOT, "system1_shots"),
  "bsm": Method(bsm.symbolic, bsm.PROMPTS),
  "bsm_neural": Method(bsm.neural, bsm.PROMPTS | bsm.MERGE_PROMPT, "merge"),
  "decompose": Method(decompose.by_rule, {"part": None}, voted_prompt="part"),
  "decompose_neural": Method(
    decompose.by_model, decompose.PROMPTS, "merge", voted_prompt="part"
  ),
  "think": Method(think.think, think.PROMPTS, thinks_aloud=True),
  "usc": Method(consistency.usc, consistency.PROMPTS),
}


def by_name(name: str) -> Method:
  """The method of this name; UserError if there is none."""
  if name not in METHODS:
    raise UserError(
      f"method={name!r} is unknown; there are {', '.join(sorted(METHODS))}"
    )
  return METHODS[name]
