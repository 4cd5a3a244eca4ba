"""Rephrase and Respond (Deng et al. 2023): rephrase the question first."""

from __future__ import annotations

from s2d_jax.system2.cot import final_answer
from s2d_jax.system2.program import Fields, Prompts, Steps, Template

ONE_STEP = {
  "rephrase_and_respond": Template(
    user=(
      '"{text}"\n\nRestate this question in more detail, keeping all it says.'
      ' Then answer it, on a last line that starts with "Answer:" and has'
      " {format}, nothing else."
    ),
    max_new_tokens=256,
  )
}

TWO_STEPS = {
  "rephrase": Template(
    user=(
      '"{text}"\n\nRestate this question so that it is easier to answer. Keep'
      " all the information in it, spell out what has to be done, and do not"
      " answer it."
    ),
    max_new_tokens=192,
  ),
  "respond": Template(
    user=(
      "Question: {text}\nThe same, restated: {restated}\n\nAnswer the question;"
      " the restatement is there to help. Answer with {format} only."
    ),
    max_new_tokens=64,
  ),
}


def one_step(fields: Fields, prompts: Prompts) -> Steps:
  """Restates and answers in one reply."""
  reply = yield prompts["rephrase_and_respond"].ask(**fields)
  return final_answer(reply.text)


def two_steps(fields: Fields, prompts: Prompts) -> Steps:
  """Restates; then answers with the question and its restatement in view.

  The template "respond" may ask for several answers to each restatement.
  """
  rephrased = yield prompts["rephrase"].ask(**fields)
  restated = rephrased.text.strip() or fields["text"]
  return (yield prompts["respond"].ask(**fields, restated=restated))
