"""The methods: each a generator of asks over the user's text."""

from __future__ import annotations

import re

from s2d_jax.system2.program import Method, Prompts, Steps


def system1(text: str, prompts: Prompts) -> Steps:
  """The direct answer: the baseline, and what the student is trained on."""
  return (yield prompts["system1"].ask(text=text))


def s2a(text: str, prompts: Prompts) -> Steps:
  """System 2 Attention (Weston & Sukhbaatar 2023).

  First the model rewrites the text without what would sway it, in two labelled
  parts; then it answers from the rewritten text alone, asked as System 1 is.
  """
  extract = yield prompts["extract"].ask(text=text)
  unbiased = unbiased_text(extract.text) or text
  return (yield prompts["system1"].ask(text=unbiased))


_PART = re.compile(
  r"^\s*(context|question)\s*:[ \t]*(.*?)\s*"
  r"(?=^\s*(?:context|question)\s*:|\Z)",
  re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_NOTHING = {"", "none", "none.", "(none)", "n/a", "-"}


def unbiased_text(extract: str) -> str:
  """Context and question out of an extraction; the whole where labels lack.

  An empty extraction gives an empty text, and the caller falls back to the
  original.
  """
  parts = {label.lower(): body for label, body in _PART.findall(extract)}
  if not parts.get("question"):
    return extract.strip()
  context = parts.get("context", "")
  kept = [] if context.strip().lower() in _NOTHING else [context.strip()]
  return "\n".join([*kept, parts["question"].strip()])


METHODS: dict[str, Method] = {"system1": system1, "s2a": s2a}
