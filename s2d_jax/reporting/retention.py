"""What the fine-tune did to the rest, in a table and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.retention import (
  Answers,
  Moved,
  Outcome,
  Replies,
  Retention,
  outcome_of,
)
from s2d_jax.reporting.table import readable

NOTE = (
  "Direct, greedy replies of both models. Changes are paired by question, with"
  " the 95 % bootstrap interval; they are not corrected for their number, so"
  " that harm is said rather once too often."
)
_VERDICTS: Mapping[Outcome, str] = {
  "at its floor": "at its floor: shows nothing",
  "at its ceiling": "at its ceiling: shows nothing",
  "too few": "too few to say",
}
_LENGTHS: Mapping[Outcome, str] = {
  "fell": "replies became shorter",
  "rose": "replies became longer",
  "no change seen": "no change is seen",
  "unclear": "that may be chance",
  "too few": "they are too few to say",
}
_WORST_FIRST: Sequence[Outcome] = (
  "fell",
  "unclear",
  "rose",
  "no change seen",
  "too few",
  "at its floor",
  "at its ceiling",
)
# What a model reads, and what a sentence calls it.
_READ = {
  "everyday": "the base model’s own replies to everyday questions",
  "text": "a text that is unrelated to the task",
  "targets": "the targets of the validation split, which are what was taught",
}
_HARMS = 2  # at the head, at most
_STUMP = 0.5  # of a reply's length: less is no shorter reply, but another one
_SHOWN = 5  # places where a model moved furthest


class Line(NamedTuple):
  """Of the table."""

  measure: str
  before: str
  after: str
  change: str
  of: str
  verdict: str


HEAD = Line("", "before", "after", "change", "of", "verdict")
FURTHEST = ("behind", "base", "distilled", "nats")


def lines(found: Retention) -> list[Line]:
  """The table, what fell first, without its head."""
  return [
    *map(_of_answers, _worst_first(found.answers)),
    *(_of_replies(found.replies) if found.replies else ()),
    *_of_text(found),
  ]


def sentences(found: Retention) -> list[str]:
  """What is worse first, and what shows nothing."""
  said = [
    *_changes(found.answers),
    *(_said_of_replies(found.replies) if found.replies else ()),
    _said_of_movement(found.moved),
    _said_of_text(found),
  ]
  return [sentence for sentence in said if sentence]


def harm(found: Retention) -> str:
  """What became clearly worse, to stand at the head; empty if nothing did."""
  fell = [one for one in _worst_first(found.answers) if one.outcome == "fell"]
  parts = list(map(_from_to, fell[:_HARMS]))
  replies = found.replies
  if (
    replies
    and replies.outcome == "fell"
    and replies.after < _STUMP * replies.before
  ):
    parts.append(
      f"an everyday reply takes {replies.after:.0f} tokens, where it took"
      f" {replies.before:.0f}"
    )
  return (
    f"Outside of the task it did harm: {'; '.join(parts)}." if parts else ""
  )


def furthest(found: Retention) -> list[list[str]]:
  """Where the model moved furthest on what has nothing to do with the task."""
  places = [
    place
    for kind, moved in found.moved.items()
    if kind != "targets"
    for place in moved.furthest
  ]
  places.sort(key=lambda place: -place["kl"])
  return [
    [
      f"… {' '.join(place['before'].split())}",
      _quoted(place["base"]),
      _quoted(place["distilled"]),
      f"{place['kl']:.2f}",
    ]
    for place in places[:_SHOWN]
  ]


def points(share: float) -> str:
  """A difference of two shares, in percentage points with its sign."""
  rounded = round(100 * share)
  return f"{rounded:+d}".replace("-", "−") if rounded else "0"


def points_within(gain: Interval) -> str:
  """The same with its interval, as "+9 [+2 to +16]"."""
  return f"{points(gain.value)} [{points(gain.low)} to {points(gain.high)}]"


def _worst_first(answers: Sequence[Answers]) -> list[Answers]:
  return sorted(
    answers,
    key=lambda one: (
      _WORST_FIRST.index(one.outcome),
      one.change.gain.value if one.outcome == "fell" else 0,
    ),
  )


def _name(found: Answers) -> str:
  variant = "" if found.variant == "plain" else f", {readable(found.variant)}"
  return readable(found.label) + variant


def _verdict(outcome: Outcome) -> str:
  return _VERDICTS.get(outcome, outcome)


def _of_answers(found: Answers) -> Line:
  change, gain = found.change, found.change.gain
  span = f"{points(gain.low)} to {points(gain.high)}"
  return Line(
    f"{_name(found)}, % right",
    f"{100 * change.second:.1f}",
    f"{100 * change.first:.1f}",
    f"{points(gain.value)} [{span}]" if change.changed else "none differs",
    f"{change.n} questions",
    _verdict(found.outcome),
  )


def _of_replies(found: Replies) -> Iterator[Line]:
  questions, cut = f"{found.n} questions", found.cut
  span = f"{_signed(found.change.low)} to {_signed(found.change.high)}"
  yield Line(
    "tokens of an everyday reply",
    f"{found.before:.1f}",
    f"{found.after:.1f}",
    f"{_signed(found.change.value)} [{span}]",
    questions,
    _verdict(found.outcome),
  )
  span = f"{points(cut.gain.low)} to {points(cut.gain.high)}"
  yield Line(
    "everyday replies cut at the limit, %",
    f"{100 * cut.second:.1f}",
    f"{100 * cut.first:.1f}",
    f"{points(cut.gain.value)} [{span}]" if cut.changed else "none differs",
    questions,
    _verdict(outcome_of(cut)),
  )


def _of_text(found: Retention) -> Iterator[Line]:
  if found.perplexity_change is None:
    return
  yield Line(
    "perplexity of a text",
    f"{found.before:.2f}",
    f"{found.after:.2f}",
    f"{_signed(100 * found.perplexity_change)} %",
    f"{found.tokens:,} tokens",
    "not tested",
  )


def _changes(answers: Sequence[Answers]) -> Iterator[str]:
  """What fell, what rose, what did neither, and what cannot tell."""
  by_outcome: dict[Outcome, list[Answers]] = {}
  for one in _worst_first(answers):
    by_outcome.setdefault(one.outcome, []).append(one)
  for outcome, start in (
    ("fell", "Worse after the fine-tune: "),
    ("unclear", "Whether these changed is unclear: "),
    ("rose", "Better after the fine-tune: "),
  ):
    if outcome in by_outcome:
      yield f"{start}{'; '.join(map(_from_to, by_outcome[outcome]))}."
  if "no change seen" in by_outcome:
    names = ", ".join(map(_widest, by_outcome["no change seen"]))
    yield f"No change is seen in {names}."
  for outcome, why in (
    ("at its floor", "at the floor before the fine-tune: it shows nothing"),
    ("at its ceiling", "at the ceiling before the fine-tune: it shows nothing"),
    ("too few", "asked of too few questions to say anything"),
  ):
    for one in by_outcome.get(outcome, ()):
      yield f"“{_name(one)}” is {why} ({100 * one.before.value:.0f} % right)."


def _from_to(found: Answers) -> str:
  change, gain = found.change, found.change.gain
  return (
    f"“{_name(found)}” from {100 * change.second:.0f} % right to"
    f" {100 * change.first:.0f} % ({points(gain.value)} points,"
    f" {points(gain.low)} to {points(gain.high)})"
  )


def _widest(found: Answers) -> str:
  """With how large a change the figures are still consistent."""
  gain = found.change.gain
  span = f"{points(gain.low)} to {points(gain.high)}"
  return f"“{_name(found)}” ({span} points)"


def _said_of_replies(found: Replies) -> Iterator[str]:
  change = found.change
  yield (
    f"A reply to an everyday question takes {found.after:.0f} tokens, where it"
    f" took {found.before:.0f} ({_signed(change.value)},"
    f" {_signed(change.low)} to {_signed(change.high)}):"
    f" {_LENGTHS[found.outcome]}. {_share(found.same)} of {found.n} replies are"
    " the same, word for word."
  )


def _said_of_movement(moved: Mapping[str, Moved]) -> str:
  """Beside the movement on what was taught, which is a scale for it."""
  parts = [
    f"{_nats(moved[kind].kl)} on {called} (another token is the likeliest at"
    f" {100 * moved[kind].other_token:.1f} % of"
    f" {moved[kind].positions:,} places)"
    for kind, called in _READ.items()
    if kind in moved
  ]
  if not parts:
    return ""
  *most, last = parts
  listed = f"{', '.join(most)} and {last}" if most else last
  return (
    "How far the model moved, as the KL divergence of the next token from the"
    f" base model (0 nats a token is no movement): {listed}."
  )


def _said_of_text(found: Retention) -> str:
  if found.perplexity_change is None:
    return ""
  return (
    f"Perplexity of a text of {found.tokens:,} tokens that is unrelated to the"
    f" task: {found.before:.2f} before, {found.after:.2f} after"
    f" ({_signed(100 * found.perplexity_change)} %)."
  )


def _nats(kl: Interval) -> str:
  return f"{kl.value:.3f} ({kl.low:.3f} to {kl.high:.3f})"


def _share(share: Interval) -> str:
  low, high = f"{100 * share.low:.0f}", f"{100 * share.high:.0f}"
  return f"{100 * share.value:.0f} % ({low} to {high})"


def _signed(value: float) -> str:
  return f"{value:+.1f}".replace("-", "−")


def _quoted(token: str) -> str:
  """A token as it is seen: with its spaces, and its newline as a sign."""
  shown = token.replace("\n", "↵")
  return f"“{shown}”"
