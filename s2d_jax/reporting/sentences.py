"""The conclusions of a run in a few sentences, decided by its figures."""

from __future__ import annotations

from s2d_jax.evaluation.results import Headline
from s2d_jax.evaluation.verdict import Comparison, Verdict
from s2d_jax.reporting.retention import points
from s2d_jax.reporting.table import readable

_FEW = 20  # examples
# What the inputs of a split are, where its name does not say it well.
_INPUTS = {
  "plain": "plain prompts",
  "suggests_wrong": "prompts that suggest a wrong answer",
  "suggests_right": "prompts that suggest the right answer",
  "denies_right": "prompts that doubt the right answer",
  "original": "pairs of answers",
}
_MEASURES = {"judge": "agreement with people"}
_SINGLE = "one sample of System 2"


def outcome(
  headline: Headline | None,
  verdict: Verdict,
  is_evaluated: bool = True,
  task: str = "",
) -> str:
  """Whether distillation helped, made no clear difference, or did harm.

  Args:
    headline: None where the models cannot be compared by labels.
    verdict: of the split that the sentence is about.
    is_evaluated: whether there are answers of both models.
    task: its name, for the wording.
  """
  if headline is None or verdict.distilled is None:
    return _without_labels(verdict, is_evaluated)
  change = verdict.distilled
  hopeless = verdict.conclusion == "not distillable"
  measure = f"{_MEASURES.get(task, 'accuracy')} on {inputs_of(verdict.split)}"
  before, after = _percent(change.second), _percent(change.first)
  if change.outcome == "better":
    found = f"Distillation raised {measure} from {before} to {after}"
  elif change.outcome == "worse":
    found = f"Distillation lowered {measure} from {before} to {after}"
  else:
    found = (
      f"{_no_difference(verdict)}: {measure} was {before} before and is {after}"
      " after"
    )
  also = hopeless and change.outcome in ("better", "worse")
  although = f"; and yet {_no_better(verdict)}" if also else ""
  return f"{found}{_cost(headline)}{_caveat(headline)}{although}."


def inputs_of(split: str) -> str:
  """What a sentence calls the inputs of a split."""
  return _INPUTS.get(split, f"“{readable(split)}” prompts")


def _no_difference(verdict: Verdict) -> str:
  """Why there is no difference, or none for certain."""
  change = verdict.distilled
  assert change is not None  # or nothing would be compared
  if verdict.conclusion == "not distillable":
    return f"Not distillable here: {_no_better(verdict)}"
  if verdict.conclusion == "not kept":
    return (
      f"{_name(verdict)} is better, but the distilled model did not keep it"
    )
  few = f" ({change.n} inputs are too few to tell)" if change.n < _FEW else ""
  return f"Distillation made no clear difference{few}"


def teacher_gain(verdict: Verdict) -> str | None:
  """Whether System 2, the teacher, is better than System 1 to begin with."""
  found, name = verdict.vote or verdict.single, _name(verdict)
  if found is None:
    return _by_margins(verdict)
  than = "System 1" if verdict.is_system2 else "one sample of it"
  start = {
    "better": f"{name} is better than {than}",
    "no better": f"{name} is no better than {than}",
    "worse": f"{name} is worse than {than}",
    "unclear": f"It is unclear whether {name} is better than {than}",
  }[found.outcome]
  voter = "its vote" if verdict.is_system2 and verdict.vote else "it"
  single = verdict.single if verdict.vote else None
  also = f", one sample of it {_percent(single.first)}" if single else ""
  return (
    f"{start}{_few(found)}: on {found.n} “{readable(verdict.split)}” validation"
    f" inputs {voter} gets {_percent(found.first)} right{also}, System 1"
    f" {_percent(found.second)} ({_gain(found)}){_voting(verdict)}."
  )


def student_gap(verdict: Verdict) -> str | None:
  """Whether the distilled model, the student, reached its teacher."""
  found = verdict.distilled_vote or verdict.distilled_single
  if found is None:
    return _by_agreement(verdict) if verdict.distilled is None else None
  whose = "System 2’s vote" if verdict.distilled_vote else _SINGLE
  if found.outcome == "better":
    start = f"The distilled model is better than {whose}"
  elif found.outcome == "worse":
    start = f"The distilled model stays below {whose}"
  elif found.is_level:
    start = f"The distilled model reached {whose}"
  else:
    start = f"It is unclear whether the distilled model reached {whose}"
  single = verdict.distilled_single if verdict.distilled_vote else None
  also = f", {_SINGLE} {_percent(single.second)}" if single else ""
  return (
    f"{start}{_few(found)}: on {found.n} “{readable(verdict.split)}” test"
    f" inputs it gets {_percent(found.first)} right, {whose}"
    f" {_percent(found.second)} ({_gain(found)}){also}."
  )


def _without_labels(verdict: Verdict, is_evaluated: bool) -> str:
  if verdict.conclusion == "not distillable":
    return f"Not distillable here: {_no_better(verdict)}."
  if not is_evaluated:
    return (
      "There is nothing to compare yet: the base model and the distilled"
      " model have not both been evaluated."
    )
  found = verdict.agreement
  if found is None:
    return (
      "The quality of the distilled model is unknown: its inputs have no"
      " labels, and there is no vote of System 2 to compare it with."
    )
  start = {
    "better": "The distilled model has come nearer to System 2",
    "worse": "The distilled model has moved away from System 2",
  }.get(found.outcome, "Whether the distilled model came nearer is unclear")
  return (
    f"{start}{_few(found)}: on “{readable(verdict.split)}” inputs, which have"
    f" no labels, it gives the answer of System 2’s vote in"
    f" {_percent(found.first)} of the cases, before in"
    f" {_percent(found.second)}."
  )


def _by_margins(verdict: Verdict) -> str | None:
  found = verdict.margins
  if found is None:
    return None
  start = {
    "better": "The samples of System 2 agree more with each other",
    "worse": "The samples of System 2 agree less with each other",
    "no better": "The samples of System 2 agree no more with each other",
    "unclear": "It is unclear whether the samples of System 2 agree more",
  }[found.outcome]
  return (
    f"{start} than those of System 1{_few(found)}: over the first"
    f" {verdict.margin_samples} samples of {found.n} validation inputs the mean"
    f" margin of the vote is {found.first:.2f}, against {found.second:.2f}."
    " There are no labels, so this is a sign of better answers, not a"
    " measurement of them."
  )


def _by_agreement(verdict: Verdict) -> str | None:
  found = verdict.agreement
  if found is None:
    return None
  return (
    f"On {found.n} test inputs the distilled model gives the answer of System"
    f" 2’s vote in {_percent(found.first)} of the cases, System 1 before it in"
    f" {_percent(found.second)} ({_gain(found)})."
  )


def _no_better(verdict: Verdict) -> str:
  found = verdict.teacher_gain
  assert found is not None  # there is a conclusion
  than = "is worse than" if found.outcome == "worse" else "is no better than"
  return (
    f"{_name(verdict)} {than} System 1 to begin with"
    f" ({_percent(found.first)} right, System 1 {_percent(found.second)})"
  )


def _voting(verdict: Verdict) -> str:
  """A gain that voting alone would bring is not due to thinking."""
  found, vote = verdict.votes, verdict.vote
  if found is None or vote is None or vote.outcome != "better":
    return ""
  own = f"; System 1’s own vote gets {_percent(found.second)}"
  if found.outcome == "better":
    return own
  if found.outcome == "unclear":
    return f"{own}, so it is unclear whether thinking pays or only voting"
  return f"{own}, so it is voting that pays here, not thinking"


def _name(verdict: Verdict) -> str:
  return "System 2" if verdict.is_system2 else "System 1’s own vote"


def _few(found: Comparison) -> str:
  """Why nothing is claimed."""
  return f" ({found.n} inputs are too few to tell)" if found.n < _FEW else ""


def _gain(found: Comparison) -> str:
  gain = found.gain
  if not found.changed:
    return "none differs"
  value, low, high = map(points, (gain.value, gain.low, gain.high))
  return f"{value} points, 95\N{NO-BREAK SPACE}% interval {low} to {high}"


def _cost(headline: Headline) -> str:
  tokens = headline.tokens_vote or headline.tokens_single
  if not tokens:
    return ""
  whose = "System 2’s vote" if headline.tokens_vote else _SINGLE
  saved = 1 - headline.tokens / tokens
  if round(100 * saved) == 0:
    return f", at as many tokens as {whose} ({tokens:.0f} an answer)"
  share = f"over {_percent(0.99)}" if saved > 0.99 else _percent(abs(saved))
  return (
    f", at {share} {'fewer' if saved > 0 else 'more'} tokens than {whose}"
    f" ({headline.tokens:.0f} an answer instead of {tokens:.0f})"
  )


def _caveat(headline: Headline) -> str:
  """A loss on plain inputs, in the same sentence as the gain."""
  plain = headline.plain
  if headline.biased.gain.low > 0 and plain.gain.high < 0:
    return (
      f"; but on plain inputs it fell from {_percent(plain.before)} to"
      f" {_percent(plain.after)}"
    )
  return ""


def _percent(share: float) -> str:
  return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
