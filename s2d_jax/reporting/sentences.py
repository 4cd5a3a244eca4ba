"""The conclusions of a run in a few sentences, decided by its figures."""

from __future__ import annotations

from s2d_jax.evaluation.controls import Drawn
from s2d_jax.evaluation.paired import FEWEST, Comparison
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
_ONE = "one reply of System 1"
_EXAMPLES = "behind the same worked examples"
_REPLIES: dict[Drawn, str] = {
  "vote": "vote",
  "greedy": "greedy reply",
  "sample": "single sample",
}
_PAYS: dict[Pays, str] = {
  "thinking pays": "Thinking pays",
  "the vote": "It was the vote, not the thinking",
  "the form": "It was the form, not the thinking",
  "worse": "System 2 is worse than",
  "no better": "System 2 is no better than",
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
      f" after{_uncertainty(change)}"
    )
  also = hopeless and change.outcome in ("better", "worse")
  although = f"; and yet {_no_better(verdict)}" if also else ""
  return f"{found}{_cost(headline)}{_losses(verdict)}{although}."


def inputs_of(split: str) -> str:
  """What a sentence calls the inputs of a split."""
  return _INPUTS.get(split, f"“{readable(split)}” prompts")


def _no_difference(verdict: Verdict) -> str:
  """Why there is no difference, or none for certain."""
  change = verdict.distilled
  assert change is not None  # or nothing would be compared
  if verdict.thinking and verdict.thinking.outcome == "saturated":
    return f"{_PAYS['saturated']}, {_end_of_scale(verdict.thinking)}"
  if verdict.conclusion == "not distillable":
    return f"Not distillable here: {_no_better(verdict)}"
  if verdict.conclusion == "not kept":
    return (
      f"{_name(verdict)} is better, but the distilled model did not keep it"
    )
  few = f" ({change.n} inputs are too few to tell)" if change.n < FEWEST else ""
  return f"Distillation made no clear difference{few}"


def thinking_pays(verdict: Verdict) -> str | None:
  """Whether System 2 beats System 1 of the same budget, on test inputs."""
  found = verdict.thinking
  if found is None:
    return None
  compared = found.best or found.single
  assert compared is not None  # or there would be nothing to say
  than = "System 1 of the same budget" if found.best else _ONE
  lacking = f" ({_missing(found)} was not asked)" if _missing(found) else ""
  doubt = _or(found) + lacking + _few(compared) + _needed(compared, ", ")
  more = {
    "worse": f" {than}",
    "no better": f" {than}",
    "saturated": f", {_end_of_scale(found)}",
    "no control": lacking,
    "unclear": doubt,
  }.get(found.outcome, "")
  return (
    f"{_PAYS[found.outcome]}{more}: on {compared.n}"
    f" “{readable(verdict.split)}” test inputs {_against(found)}."
  )


def thinking_details(verdict: Verdict) -> list[str]:
  """The same greedily, and over all test inputs."""
  details = []
  found = verdict.thinking
  greedy = found and (found.greedy or found.greedy_shots)
  if found and greedy and found.reply != "greedy":
    details.append(
      f"Greedily, on the same {greedy.n} inputs: System 2 gets"
      f" {_percent(greedy.first)} right{_rivals(found.greedy, 'System 1')}"
      f"{_rivals(found.greedy_shots, f'System 1 {_EXAMPLES}')}."
    )
  overall = verdict.overall
  if overall and (compared := overall.best or overall.single):
    details.append(
      f"Over all {compared.n} test inputs of {compared.units} examples"
      f" {_against(overall)}."
    )
  return details


def student_details(verdict: Verdict) -> list[str]:
  """The distilled model against other ways to ask the base model."""
  others = {
    "System 2’s greedy reply": verdict.distilled_greedy,
    "System 1’s own vote": verdict.distilled_own_vote,
    f"System 1’s greedy reply {_EXAMPLES}": verdict.distilled_shots,
    f"System 1’s vote {_EXAMPLES}": verdict.distilled_shots_vote,
  }
  told = [
    f"{_reached(found, name, 'It')}: on {found.n} inputs it gets"
    f" {_percent(found.first)} right, the other {_percent(found.second)}"
    f" ({_gain(found)})."
    for name, found in others.items()
    if found is not None
  ]
  if found := verdict.distilled_overall:
    told.append(
      f"Over all {found.n} test inputs of {found.units} examples it gets"
      f" {_percent(found.first)} right, System 1 before it"
      f" {_percent(found.second)} ({_gain(found)})."
    )
  return told


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
  # Where System 2 answered greedily too, a sample is no fair comparison.
  is_shown = verdict.distilled_vote and not verdict.distilled_greedy
  single = verdict.distilled_single if is_shown else None
  also = f", {_SINGLE} {_percent(single.second)}" if single else ""
  return (
    f"{_reached(found, whose, 'The distilled model')}: on {found.n}"
    f" “{readable(verdict.split)}” test inputs it gets"
    f" {_percent(found.first)} right, {whose} {_percent(found.second)}"
    f" ({_gain(found)}){also}."
  )


def _reached(found: Comparison, whose: str, subject: str) -> str:
  """Whether the distilled model is as good as another way to answer."""
  few = _few(found)
  if found.outcome == "better":
    return f"{subject} is better than {whose}{few}"
  if found.outcome == "worse":
    return f"{subject} stays below {whose}{few}"
  if found.is_level:
    return f"{subject} reached {whose}{few}"
  name = subject[0].lower() + subject[1:]
  return (
    f"It is unclear whether {name} reached {whose}{few}{_needed(found, ', ')}"
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


def _against(found: Thinking) -> str:
  """The figures of System 2, of System 1, and of System 1 of equal budget."""
  reply = _REPLIES[found.reply]
  compared = found.best or found.single
  assert compared is not None
  single = found.single if found.reply == "vote" else None
  return (
    f"System 2’s {reply} gets {_percent(compared.first)} right"
    f"{_rivals(single, _ONE)}"
    f"{_rivals(found.own, f'System 1’s own {reply}')}"
    f"{_rivals(found.shots, f'its {reply} {_EXAMPLES}')}"
  )


def _rivals(found: Comparison | None, name: str) -> str:
  if found is None:
    return ""
  return f", {name} {_percent(found.second)} ({_gain(found)})"


def _missing(found: Thinking) -> str:
  reply = _REPLIES[found.reply]
  controls = {f"System 1’s own {reply}": found.own}
  if found.has_shots:
    controls[f"System 1’s {reply} {_EXAMPLES}"] = found.shots
  return ", ".join(name for name, one in controls.items() if one is None)


def _or(found: Thinking) -> str:
  """What else it may have been, where System 2 is better than one reply."""
  if found.single is None or found.single.outcome != "better":
    return ""
  voting = "voting and " if found.reply == "vote" else ""
  return f" or only {voting}the form of the prompt"


def _end_of_scale(found: Thinking) -> str:
  compared = found.best or found.single
  assert compared is not None
  share = "nearly all" if compared.first > 0.5 else "next to none"
  return f"as {share} of all answers are right, whoever gives them"


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
      f"; {start} {inputs_of(split)} it fell from {_percent(found.second)} to"
      f" {_percent(found.first)} ({_gain(found)}{doubt})"
    )
    start = "on"
  return told


def _few(found: Comparison) -> str:
  """Why nothing is claimed."""
  few = f" ({found.n} inputs are too few to tell)"
  return few if found.n < FEWEST else ""


def _uncertainty(found: Comparison) -> str:
  if found.outcome != "unclear":
    return f" ({_gain(found)})"
  return f" ({_gain(found)}{_needed(found, '; ')})"


def _needed(found: Comparison, start: str) -> str:
  """How many inputs would do, to two digits and rather too many."""
  if found.needed is None or found.needed <= found.n:
    return ""
  digits = max(0, len(str(found.needed)) - 2)
  about = -(-found.needed // 10**digits) * 10**digits
  return (
    f"{start}about {about:,} inputs would be needed to see a difference of this"
    " size"
  )


def _gain(found: Comparison) -> str:
  gain = found.gain
  if not found.changed:
    return "none differs"
  value, low, high = map(points, (gain.value, gain.low, gain.high))
  return (
    f"{value} points, 95\N{NO-BREAK SPACE}% interval {low} to {high},"
    f" p\N{NO-BREAK SPACE}{_p(found.p)}"
  )


def _p(value: float) -> str:
  return "< 0.001" if value < 0.001 else f"= {value:.2g}"


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


def _percent(share: float) -> str:
  return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
