"""The conclusions of a run in a few sentences, decided by its figures."""

from __future__ import annotations

from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Drawn, Way
from s2d_jax.evaluation.paired import Comparison
from s2d_jax.evaluation.results import Headline
from s2d_jax.evaluation.thinking import Pays, Thinking
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting.retention import points
from s2d_jax.reporting.table import readable

_LARGE = 0.05  # a fall that is said, though it is not clear
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
_EXAMPLES = "behind the same worked examples"
_REPLIES: dict[Drawn, str] = {
  "vote": "vote",
  "greedy": "greedy reply",
  "sample": "single sample",
}
_BUDGET = "System 1 of the same budget"
_PAYS: dict[Pays, str] = {
  "thinking pays": "Thinking pays",
  "the vote": "It was the vote, not the thinking",
  "the form": "It was the form, not the thinking",
  "worse": f"System 2 is worse than {_BUDGET}",
  "no better": f"System 2 is no better than {_BUDGET}",
  "saturated": "These inputs can show nothing",
  "no control": "Whether thinking pays is not known, as a control is missing",
  "unclear": "It is unclear whether thinking pays",
}


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
  measure = f"{_MEASURES.get(task, 'accuracy')} on {inputs_of(verdict.split)}"
  before, after = percent(change.second), percent(change.first)
  if change.outcome == "better":
    found = f"Distillation raised {measure} from {before} to {after}"
  elif change.outcome == "worse":
    found = f"Distillation lowered {measure} from {before} to {after}"
  else:
    found = (
      f"{_no_difference(verdict)}: {measure} was {before} before and is {after}"
      f" after{uncertainty(change)}"
    )
  return f"{found}{_cost(headline)}{_although(verdict)}{_losses(verdict)}."


def inputs_of(split: str) -> str:
  """What a sentence calls the inputs of a split."""
  return _INPUTS.get(split, f"“{readable(split)}” prompts")


def _no_difference(verdict: Verdict) -> str:
  """Why there is no difference, or none for certain."""
  change = verdict.distilled
  assert change is not None  # or nothing would be compared
  found = verdict.thinking
  if found and found.outcome == "saturated":
    end = _end_of_scale(found.rivals[found.decisive])
    return f"{_PAYS['saturated']}, {end}"
  if verdict.conclusion == "not distillable":
    return f"Not distillable here: {_no_better(verdict)}"
  if verdict.conclusion == "not kept":
    return (
      f"{_name(verdict)} is better, but the distilled model did not keep it"
    )
  return f"Distillation made no clear difference{few(change)}"


def _although(verdict: Verdict) -> str:
  """What a change is not due to, in the same sentence as the change."""
  change, found = verdict.distilled, verdict.thinking
  assert change is not None
  if change.outcome not in ("better", "worse"):
    return ""
  if verdict.conclusion == "not distillable":
    return f"; and yet {_no_better(verdict)}"
  if change.outcome == "worse" or found is None:
    return ""
  if found.outcome in ("the vote", "the form"):
    because = _PAYS[found.outcome].replace("It was", "but it was")
    rival = found.rivals[found.decisive]
    return (
      f"; {because} ({_called(found.decisive)} gets {percent(rival.second)},"
      f" System 2’s {_REPLIES[found.reply]} {percent(rival.first)})"
    )
  if found.outcome == "no control":
    return "; whether thinking pays is not known, as a control is missing"
  if found.outcome != "thinking pays":
    return "; it is unclear whether thinking pays"
  shots = verdict.distilled_shots
  if shots and not verdict.has_gained:
    return (
      f"; but untrained, {_called(Way(SHOTS, 'greedy'))} gets"
      f" {percent(shots.second)}{uncertainty(shots)}"
    )
  return ""


def thinking_pays(verdict: Verdict) -> str | None:
  """Whether System 2 beats System 1 of the same budget, on test inputs."""
  found = verdict.thinking
  if found is None:
    return None
  rival = found.rivals[found.decisive]
  is_open = found.outcome in ("no control", "unclear")
  missing = " and ".join(map(_called, found.missing)) if is_open else ""
  more = {
    "saturated": f", {_end_of_scale(rival)}",
    "unclear": _or(found) + few(rival),
  }.get(found.outcome, "")
  lacking = f" (not asked: {missing})" if missing else ""
  return (
    f"{_PAYS[found.outcome]}{more}{lacking}: on {rival.n}"
    f" “{readable(verdict.split)}” test inputs System 2’s"
    f" {_REPLIES[found.reply]} gets {percent(rival.first)} right"
    f"{_single(found)}, {_called(found.decisive)} {percent(rival.second)}"
    f"{uncertainty(rival)}."
  )


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
  also = f", one sample of it {percent(single.first)}" if single else ""
  return (
    f"{start}{few(found)}: on {found.n} “{readable(verdict.split)}” validation"
    f" inputs {voter} gets {percent(found.first)} right{also}, System 1"
    f" {percent(found.second)} ({difference(found)}){_voting(verdict)}."
  )


def student_gap(verdict: Verdict) -> str | None:
  """Whether the distilled model, the student, reached its teacher."""
  found = verdict.distilled_vote or verdict.distilled_single
  if found is None:
    return _by_agreement(verdict) if verdict.distilled is None else None
  whose = "System 2’s vote" if verdict.distilled_vote else _SINGLE
  # Where System 2 answered greedily too, a sample is no fair comparison.
  is_shown = verdict.distilled_vote and not verdict.distilled_greedy
  single = verdict.distilled_single if is_shown else None
  also = f", {_SINGLE} {percent(single.second)}" if single else ""
  return (
    f"{_reached(found, whose)}: on {found.n}"
    f" “{readable(verdict.split)}” test inputs it gets"
    f" {percent(found.first)} right, {whose} {percent(found.second)}"
    f"{uncertainty(found)}{also}."
  )


def _reached(found: Comparison, whose: str) -> str:
  """Whether the distilled model is as good as another way to answer."""
  if found.outcome == "better":
    said = "The distilled model is better than"
  elif found.outcome == "worse":
    said = "The distilled model stays below"
  elif found.is_level:
    said = "The distilled model reached"
  else:
    said = "It is unclear whether the distilled model reached"
  return f"{said} {whose}{few(found)}"


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
    f"{start}{few(found)}: on “{readable(verdict.split)}” inputs, which have"
    f" no labels, it gives the answer of System 2’s vote in"
    f" {percent(found.first)} of the cases, before in"
    f" {percent(found.second)}."
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
    f"{start} than those of System 1{few(found)}: over the first"
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
    f" 2’s vote in {percent(found.first)} of the cases, System 1 before it in"
    f" {percent(found.second)} ({difference(found)})."
  )


def _no_better(verdict: Verdict) -> str:
  """That System 2 is no better; the figures that the conclusion rests on."""
  found, name = verdict.teacher_gain, "System 1"
  if thinking := verdict.thinking:
    found = thinking.rivals[thinking.decisive]
    name = _called(thinking.decisive)
  assert found is not None  # there is a conclusion
  than = "is worse than" if found.outcome == "worse" else "is no better than"
  return (
    f"{_name(verdict)} {than} System 1 to begin with"
    f" ({percent(found.first)} right, {name} {percent(found.second)})"
  )


def _voting(verdict: Verdict) -> str:
  """A gain that voting alone would bring is not due to thinking."""
  found, vote = verdict.votes, verdict.vote
  if found is None or vote is None or vote.outcome != "better":
    return ""
  own = f"; System 1’s own vote gets {percent(found.second)}"
  if found.outcome == "better":
    return own
  if found.outcome == "unclear":
    return f"{own}, so it is unclear whether thinking pays or only voting"
  return f"{own}, so it is voting that pays here, not thinking"


def _name(verdict: Verdict) -> str:
  return "System 2" if verdict.is_system2 else "System 1’s own vote"


def _called(way: Way) -> str:
  """A way to ask System 1."""
  if way.method == SHOTS:
    return f"System 1’s {_REPLIES[way.drawn]} {_EXAMPLES}"
  own = "own " if way.drawn == "vote" else ""
  return f"System 1’s {own}{_REPLIES[way.drawn]}"


def _single(found: Thinking) -> str:
  """What one reply of System 1 gets, where another one decides."""
  if found.single in (None, found.decisive):
    return ""
  share = found.rivals[found.single].second
  return f", {_called(found.single)} {percent(share)}"


def _or(found: Thinking) -> str:
  """What else it may have been, where System 2 is better than one reply."""
  if not found.gains:
    return ""
  own = found.rivals.get(Way(SYSTEM1, "vote"))
  shots = [one for way, one in found.rivals.items() if way.method == SHOTS]
  is_behind_all = shots and all(one.outcome == "better" for one in shots)
  causes = {
    "voting": found.reply == "vote"
    and (own is None or own.outcome != "better"),
    "the form of the prompt": (found.has_shots or shots) and not is_behind_all,
  }
  open_ = [cause for cause, is_open in causes.items() if is_open]
  return f" or only {' and '.join(open_)}" if open_ else ""


def _end_of_scale(found: Comparison) -> str:
  share = "nearly all" if found.first > 0.5 else "next to none"
  return (
    f"as {share} of the base model’s answers are right, however it is asked"
  )


def _losses(verdict: Verdict) -> str:
  """What the gain was paid with, in the same sentence as the gain."""
  told = ""
  start = "but on"
  for split, found in verdict.splits.items():
    is_clear = found.outcome == "worse"
    if split == verdict.split or not (is_clear or found.gain.value <= -_LARGE):
      continue
    doubt = "" if is_clear else ", not clear"
    told += (
      f"; {start} {inputs_of(split)} it fell from {percent(found.second)} to"
      f" {percent(found.first)} ({difference(found)}{doubt})"
    )
    start = "on"
  return told


def few(found: Comparison) -> str:
  """Why nothing is claimed."""
  if not found.is_too_small:
    return ""
  units = ""
  if found.units < found.n:
    kind = "members" if found.shares_members else "clusters"
    units = f" of {found.units} {kind}"
  return f" ({found.n} inputs{units} are too few to tell)"


def uncertainty(found: Comparison) -> str:
  if found.outcome != "unclear":
    return f" ({difference(found)})"
  return f" ({difference(found)}{_needed(found)})"


def _needed(found: Comparison) -> str:
  if found.needed is None or found.needed <= found.n:
    return ""
  members = found.members_needed
  of = f" of {rounded_up(members)} members" if members else ""
  return (
    f"; about {rounded_up(found.needed)} inputs{of} would be needed to see a"
    " difference of this size"
  )


def rounded_up(count: int) -> str:
  """To two digits."""
  digits = max(0, len(str(count)) - 2)
  return f"{-(-count // 10**digits) * 10**digits:,}"


def difference(found: Comparison) -> str:
  gain = found.gain
  if not found.changed:
    return "none differs"
  value, low, high = map(points, (gain.value, gain.low, gain.high))
  return (
    f"{value} points, 95\N{NO-BREAK SPACE}% interval {low} to {high},"
    f" p\N{NO-BREAK SPACE}{_equal(p_value(found.p))}"
  )


def _equal(value: str) -> str:
  return value if value.startswith("<") else f"= {value}"


def p_value(value: float) -> str:
  """To two digits, but not below a thousandth."""
  return "< 0.001" if value < 0.001 else f"{value:.2g}"


def _cost(headline: Headline) -> str:
  tokens = headline.tokens_vote or headline.tokens_single
  if not tokens:
    return ""
  whose = "System 2’s vote" if headline.tokens_vote else _SINGLE
  saved = 1 - headline.tokens / tokens
  if round(100 * saved) == 0:
    return f", at as many tokens as {whose} ({tokens:.0f} an answer)"
  share = f"over {percent(0.99)}" if saved > 0.99 else percent(abs(saved))
  return (
    f", at {share} {'fewer' if saved > 0 else 'more'} tokens than {whose}"
    f" ({headline.tokens:.0f} an answer instead of {tokens:.0f})"
  )


def percent(share: float) -> str:
  return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
