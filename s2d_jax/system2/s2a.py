"""System 2 Attention: answer a question without what would bias the answer."""

from __future__ import annotations

from collections.abc import Generator
import re

from s2d_jax.generation.engine import Completion
from s2d_jax.system2.program import Fields, ModelCall, Prompts, Steps, Template

_EXTRACT = {
  "extract": Template(
    system=(
      "From the user's text take what is free of opinion, in two parts:\n"
      "Context: facts that matter for the question, or none\n"
      "Question: the question itself, without the user's view of its answer"
    ),
    user="{text}",
    max_new_tokens=256,
  )
}
# The task's own say how to answer.
PROMPTS = _EXTRACT | {"system1": None}
FEW_SHOT = _EXTRACT | {"system1_shots": None}

# Text after a label that was not asked for does not belong to the question.
_LABEL = re.compile(
  r"^[ \t\-#\d.)]*(?:unbiased\s+)?(context|question|opinion|answer)\s*:",
  re.IGNORECASE | re.MULTILINE,
)
_NOTHING = {"", "none", "none given", "no context", "n/a"}


def s2a(fields: Fields, prompts: Prompts) -> Steps:
  """System 2 Attention (Weston & Sukhbaatar 2023).

  First the model rewrites the text without what would bias the answer, in two
  labelled parts; then it answers from the rewritten text alone, with the prompt
  of System 1.
  """
  text = yield from _unbiased(fields, prompts)
  return (yield prompts["system1"].ask(**{**fields, "text": text}))


def s2a_few_shot(fields: Fields, prompts: Prompts) -> Steps:
  """The same, but it answers behind the worked examples of direct answers.

  So it differs from System 1 behind the same examples by the rewriting alone.
  """
  text = yield from _unbiased(fields, prompts)
  return (yield prompts["system1_shots"].ask(**{**fields, "text": text}))


def _unbiased(
  fields: Fields, prompts: Prompts
) -> Generator[ModelCall, Completion, str]:
  """The text as the model rewrites it."""
  extract = yield prompts["extract"].ask(**fields)
  return unbiased_text(extract.text) or fields["text"]


def unbiased_text(extract: str) -> str:
  """Context and question of an extraction; all of it if labels are missing.

  An empty extraction gives an empty text, and the caller falls back to the
  original.
  """
  _, *labelled = _LABEL.split(extract.replace("**", ""))
  labels, bodies = labelled[::2], labelled[1::2]
  parts = {
    label.lower(): body.strip()
    for label, body in zip(labels, bodies, strict=True)
  }
  if not parts.get("question"):
    return extract.strip()
  context = parts.get("context", "")
  kept = [] if context.strip(" .()-").lower() in _NOTHING else [context]
  return "\n".join([*kept, parts["question"]])
