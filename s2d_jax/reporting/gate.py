"""What the gate buys: a sentence, its figures, and points of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from s2d_jax.evaluation.metrics import Interval
from s2d_jax.gate.confidence import SIGNALS
from s2d_jax.gate.verdict import Worth, worth
from s2d_jax.records import Record
from s2d_jax.reporting.retention import points, points_within
from s2d_jax.reporting.run_files import Run
from s2d_jax.reporting.sentences import difference, few, percent, uncertainty
from s2d_jax.reporting.ways import Point, ways_of


@dataclasses.dataclass(frozen=True)
class GateReport:
  """What is known of a run's gate.

  Attributes:
    why_not: why there is none; empty if there is one.
    signal: what its confidence is, in words.
    aim: the budget or the agreement that it was given, in words.
    worth: what it buys; None where test inputs were not evaluated.
    ways: other ways to answer, where there are labels.
  """

  why_not: str = ""
  signal: str = ""
  aim: str = ""
  worth: Worth | None = None
  ways: Sequence[Point] = ()

  def __bool__(self) -> bool:
    return bool(self.why_not or self.worth)

  @property
  def sentence(self) -> str:
    """What it buys, or why there is none; empty if neither is known."""
    if self.why_not:
      return f"There is no gate: {self.why_not}."
    return _sentence(self.worth) if self.worth else ""


def of_run(run: Run) -> GateReport:
  if not run.gate or "why_not" in run.gate:
    return GateReport(run.gate.get("why_not", ""))
  method = run.config.get("method", "")
  found = worth(run.gated, run.distilled, run.base, method)
  return GateReport(
    signal=SIGNALS[run.gate["gate"]["signal"]].told,
    aim=_aim(run.gate["target"]),
    worth=found,
    ways=ways_of("base", run.base) + ways_of("distilled", run.distilled),
  )


def _aim(target: Mapping[str, float]) -> str:
  if "budget" in target:
    return f"{target['budget']:g} tokens an answer, on validation inputs"
  if "share" in target:
    return f"{percent(target['share'])} of the tokens of System 2’s vote"
  sure = percent(target["agreement"])
  return f"System 2’s vote says the same with {sure} probability"


def _sentence(found: Worth) -> str:
  gained, vote = found.over_direct, found.vote_over_direct
  direct = percent(gained.second)
  thinking = (
    f"thinking about {percent(found.thought)} of {found.n:,} test inputs"
  )
  at = f"at {found.tokens:.1f} tokens an answer"
  outcome = found.outcome
  if outcome == "pays":
    return (
      f"The gate pays: {thinking} it gets {percent(gained.first)} right {at},"
      f" {_against_vote(found)}; the direct answers get {direct} at"
      f" {found.direct_tokens:.1f}{uncertainty(gained)}."
    )
  if outcome == "costs":
    return (
      f"The gate costs accuracy: {thinking} it gets {percent(gained.first)}"
      f" right, the direct answers {direct}{uncertainty(gained)}."
    )
  if outcome == "no labels":
    return (
      "What the gate buys is not known, as there are no labels:"
      f" {thinking}, {at} instead of {found.vote_tokens:.1f}, it says what"
      f" System 2’s vote says in {percent(gained.first)} of the cases, the"
      f" direct answers in {direct}."
    )
  if outcome == "unclear":
    no_more = vote.outcome == "unclear"
    doubt = f", not clearly more ({difference(vote)})" if no_more else ""
    return (
      f"It is unclear what the gate buys{few(gained)}: {thinking} it gets"
      f" {percent(gained.first)} right {at}, the direct answers {direct} at"
      f" {found.direct_tokens:.1f} ({difference(gained)}), and System 2’s vote"
      f" {percent(vote.first)} at {found.vote_tokens:.1f}{doubt}."
    )
  return f"The gate buys nothing: {_nothing(found)}."


def _nothing(found: Worth) -> str:
  """Why it buys nothing."""
  vote = found.vote_over_direct
  shares = f"{percent(vote.second)} right, the vote {percent(vote.first)}"
  if found.outcome == "direct":
    than = "better than" if vote.outcome == "worse" else "as good as"
    return (
      f"the direct answers are {than} System 2’s vote ({shares};"
      f" {difference(vote)})"
    )
  if found.outcome == "never":
    return (
      f"it lets every direct answer stand ({shares}); a higher gate.agreement,"
      " or a budget, has System 2 think"
    )
  if found.outcome == "always":
    return (
      f"it has System 2 think about {percent(found.thought)} of the inputs, at"
      f" {found.tokens:.1f} tokens an answer, and System 2’s vote on all takes"
      f" {found.vote_tokens:.1f} (a budget, or a lower gate.agreement, has it"
      " think less)"
    )
  return (
    f"where it thinks is no better than chance (AUROC {auroc(found.right)})"
  )


def _against_vote(found: Worth) -> str:
  over = found.over_vote
  word = {"better": "more than", "worse": "less than"}.get(over.outcome)
  if word is None:
    word = "as much as" if over.is_level else "against"
  vote = f"{percent(over.second)} at {found.vote_tokens:.1f}"
  return f"{word} System 2’s vote ({vote})"


def auroc(found: Interval | None) -> str:
  """With its interval."""
  if found is None:
    return "–"
  return f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f}"


def lines(found: GateReport) -> list[list[str]]:
  """The systems as a table, the head first; empty without a gate."""
  own = found.worth
  if own is None:
    return []
  vote, gated = own.vote_over_direct, own.over_direct
  share = "% right" if own.is_labelled else "% as System 2’s vote"
  return [
    ["system", share, "tokens", "% thought about", "the gate over it"],
    *(
      [who, f"{100 * right:.1f}", f"{tokens:.1f}", thought, over]
      for who, right, tokens, thought, over in (
        ("direct answers", vote.second, own.direct_tokens, "0",
         points_within(gated.gain)),
        ("the gate", gated.first, own.tokens, f"{100 * own.thought:.0f}", ""),
        ("thinking at random", own.over_random.second, own.tokens, "",
         points_within(own.over_random.gain)),
        ("System 2’s vote", vote.first, own.vote_tokens, "100",
         points_within(own.over_vote.gain)),
      )
    ),
  ]  # fmt: skip


def figures(found: GateReport) -> dict[str, str]:
  """What describes a gate, by what the page calls it."""
  own = found.worth
  if own is None:
    return {}
  told = {
    "confidence": found.signal,
    "aim": found.aim,
    "AUROC: is the direct answer right": auroc(own.right),
    "AUROC: does the vote say the same": auroc(own.agreeing),
    "calibration error": f"{100 * own.calibration:.1f} points",
    "area above chance": f"{points(own.curve.area)} points",
  }
  if own.is_labelled:
    told["as good as the vote"] = (
      "at no budget"
      if own.enough is None
      else f"from {own.enough:.1f} tokens on,"
      f" {percent(own.share_of_vote)} of the vote’s"
    )
  return told


def as_json(found: GateReport) -> Record | None:
  """For verdict.json; None where nothing is known."""
  own = found.worth
  if own is None:
    told = {"sentence": found.sentence, "why_not": found.why_not}
    return told if found.why_not else None
  made = dataclasses.asdict(own) | {"share_of_vote": own.share_of_vote}
  made["curve"] |= {"area": own.curve.area}
  for name in ("over_direct", "over_vote", "over_random", "vote_over_direct"):
    made[name]["outcome"] = getattr(own, name).outcome
  told = {"sentence": found.sentence, "outcome": own.outcome}
  return told | {"signal": found.signal, "aim": found.aim} | made
