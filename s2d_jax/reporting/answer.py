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
  if change.gain.low > 0:
    verdict, direction = "Distillation worked", ", up from"
  elif change.gain.high < 0:
    verdict, direction = "Distillation did harm", ", down from"
  else:
    verdict, direction = "Distillation made no clear difference", ", before"
  return (
    f"{verdict}: on “{spoken(biased)}” inputs the model gets"
    f" {_percent(change.after)} right without thinking{direction}"
    f" {_percent(change.before)}{_cost(headline)}{_caveat(headline)}."
  )


def _cost(headline: Headline) -> str:
  tokens = headline.tokens_vote or headline.tokens_single
  if tokens is None:
    return ""
  name = "vote" if headline.tokens_vote else "pass"
  return (
    f", with {headline.tokens:.0f} tokens an answer instead of the"
    f" {tokens:.0f} of a System 2 {name}"
  )


def _caveat(headline: Headline) -> str:
  """What was paid for a gain must stand in the same sentence."""
  plain = headline.plain
  if headline.biased.gain.low > 0 and plain.gain.high < 0:
    return (
      f"; but on plain inputs it fell from {_percent(plain.before)} to"
      f" {_percent(plain.after)}"
    )
  return ""


def _percent(share: float) -> str:
  return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
