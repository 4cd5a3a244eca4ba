"""What came out, in one sentence that its figures decide."""

from __future__ import annotations

from s2d_jax.evaluation.results import Headline
from s2d_jax.reporting.table import spoken


def sentence(headline: Headline | None, biased: str) -> str:
  """Worked, made no clear difference, or did harm: by the 95 % interval.

  Args:
    headline: None where the models cannot be compared yet.
    biased: the split that the sentence is about.
  """
  if headline is None:
    return (
        "There is nothing to compare yet: the base model and the distilled"
        " model have not both been evaluated."
    )
  change = headline.biased
  before, after = f"{change.before:.0%}", f"{change.after:.0%}"
  where = f"on “{spoken(biased)}” inputs"
  if change.gain.low > 0:
    text = (
        f"Distillation worked: {where} the model now answers {after} rightly"
        f" at once, up from {before}"
    )
  elif change.gain.high < 0:
    text = (
        f"Distillation did harm: {where} the model now answers {after} rightly"
        f" at once, down from {before}"
    )
  else:
    text = (
        f"Distillation made no clear difference: {where} the model answers"
        f" {after} rightly at once, {before} before"
    )
  return text + _cost(headline) + _caveat(headline) + "."


def _cost(headline: Headline) -> str:
  tokens = headline.tokens_vote or headline.tokens_single
  if tokens is None:
    return ""
  name = "vote" if headline.tokens_vote else "pass"
  return (
      f", for {headline.tokens:.0f} tokens an answer where a System 2 {name}"
      f" takes {tokens:.0f}"
  )


def _caveat(headline: Headline) -> str:
  """What was paid for a gain must stand in the same sentence."""
  plain = headline.plain
  if headline.biased.gain.low > 0 and plain.gain.high < 0:
    return f", but plain inputs fell from {plain.before:.0%} to {plain.after:.0%}"
  return ""
