"""The methods by name. A new one is a generator function and a line here."""

from __future__ import annotations

from s2d_jax.errors import UserError
from s2d_jax.system2 import bsm, consistency, cot, decompose, rar, s2a
from s2d_jax.system2.program import Fields, Method, Prompts, Steps


def system1(fields: Fields, prompts: Prompts) -> Steps:
  """The direct answer: the baseline, and what the student is trained on."""
  return (yield prompts["system1"].ask(**fields))


# A template that is None is the task's own.
METHODS: dict[str, Method] = {
  "system1": Method(system1, {"system1": None}, "system1"),
  "cot": Method(cot.cot, cot.PROMPTS),
  "cot_few_shot": Method(cot.cot_few_shot, {"cot_few_shot": None}),
  "cot_judge": Method(cot.cot_judge, cot.JUDGE_PROMPTS, "cot_judge"),
  "rar1": Method(rar.one_step, rar.ONE_STEP),
  "rar2": Method(rar.two_steps, rar.TWO_STEPS, "respond"),
  "s2a": Method(s2a.s2a, s2a.PROMPTS, "system1"),
  "bsm": Method(bsm.symbolic, bsm.PROMPTS),
  "bsm_neural": Method(bsm.neural, bsm.PROMPTS | bsm.MERGE_PROMPT, "merge"),
  "decompose": Method(decompose.by_rule, {"part": None}, voted_prompt="part"),
  "decompose_neural": Method(
    decompose.by_model, decompose.PROMPTS, "merge", voted_prompt="part"
  ),
  "usc": Method(consistency.usc, consistency.PROMPTS),
}


def by_name(name: str) -> Method:
  """The method of this name; UserError if there is none."""
  if name not in METHODS:
    raise UserError(
      f"method={name!r} is unknown; there are {', '.join(sorted(METHODS))}"
    )
  return METHODS[name]
