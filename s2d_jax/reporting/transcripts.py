"""Inputs to read: thinking, votes and targets; answers before and after."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import json

from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.records import Record
from s2d_jax.reporting.run_files import Run, samples_of
from s2d_jax.reporting.votes import Place, Votes

_CHANGES = 3  # of each kind
# Four of inputs with a label, two of those without.
_KINDS = ("fixed", "broken", "still wrong", "still right", "changed", "same")


@dataclasses.dataclass(frozen=True)
class Transcript:
  """An input of the training data, why it is shown, and its samples."""

  why: str | None  # of the first few
  record: Record
  wrong: bool  # by the label, where there is one
  samples: Sequence[Record]


@dataclasses.dataclass(frozen=True)
class Change:
  """A test input, and the direct answers of both models."""

  # "fixed", "broken" or "still wrong"; "changed" where there is no label
  kind: str
  variant: str
  question: str
  before: str
  after: str


def transcripts(run: Run, biased: str, most: int) -> list[Transcript]:
  """Inputs to read: a few instructive ones first, then of every kind alike.

  The first have a `why`: kept ones from sure to barely sure, and one for each
  reason to reject. The others cycle through the outcomes and the variants,
  spread evenly over each, so that rare kinds are there as well as common ones.

  Args:
    run: its samples are read once.
    biased: the variant that the first are of.
    most: inputs at the most, but for the first ones.
  """
  picked: dict[Place, str | None] = {}
  for why, place in _picked(run.votes, biased):
    picked.setdefault(place, why)
  for place in _spread(run.votes):
    if len(picked) >= most:
      break
    picked.setdefault(place, None)
  found = run.votes.read(picked)
  outcomes = run.votes.outcomes(picked)
  samples = samples_of(run.workdir, [*map(_name, found.values())])
  return [
    Transcript(
      picked[place],
      record,
      outcomes[place].is_right is False,
      samples[_name(record)],
    )
    for place, record in found.items()
  ]


def _name(record: Record) -> tuple[str, str]:
  return record["example_id"], record["variant"]


def _spread(votes: Votes) -> Iterator[Place]:
  """One of every reason and variant, right or wrong, in turn."""
  kinds = collections.defaultdict(list)
  for outcome in votes.places:
    kind = outcome.reason, outcome.variant, outcome.is_right
    kinds[kind].append(outcome)
  groups = map(votes.in_order, kinds.values())
  for together in itertools.zip_longest(*map(_scattered, groups)):
    yield from (place for place in together if place is not None)


def _scattered(items: Sequence[Record]) -> Iterator[Record]:
  """All of them, so that the first few come from everywhere: 0, 1/2, 1/4, …"""
  size = 1 << max(len(items) - 1, 0).bit_length()
  width = size.bit_length() - 1
  for index in range(size):
    place = int(f"{index:0{width}b}"[::-1], 2) if width else 0
    if place < len(items):
      yield items[place]


def _picked(votes: Votes, biased: str) -> Iterator[tuple[str, Place]]:
  kept = [one for one in votes.places if one.reason is None]
  kept = [one for one in kept if one.variant == biased] or kept
  # The surest first; of those as sure, in the order of the records.
  key = lambda one: (-(one.margin or 0), -one.agreement)
  first = lambda one: (key(one), votes.places[one][0])
  last = lambda one: (key(one), votes.places[one][-1])
  if kept:
    yield "kept, the surest", first(min(kept, key=first))[1]
    yield "kept, the least sure", last(max(kept, key=last))[1]
  wrong = [one for one in kept if one.is_right is False]
  if wrong:
    yield "kept, sure", first(min(wrong, key=first))[1]
  for reason in votes.reasons:
    same = (one for one in votes.places if one.reason == reason)
    yield f"rejected: {reason}", min(votes.places[one][0] for one in same)


def changes(run: Run, split: str) -> tuple[dict[str, int], list[Change]]:
  """How many test inputs of a split changed, and the first few of each kind."""
  after = {
    row["example_id"]: row
    for row in run.distilled
    if (row["method"], row["variant"]) == (SYSTEM1, split)
  }
  kinds: dict[str, list[Change]] = {kind: [] for kind in _KINDS}
  for old in run.base:
    new = after.get(old["example_id"])
    if (old["method"], old["variant"]) != (SYSTEM1, split) or new is None:
      continue
    before, now = _direct(old), _direct(new)
    kind = _kind(before, now)
    kinds[kind].append(
      Change(
        kind,
        split,
        question(run, old["example_id"], split),
        before["text"],
        now["text"],
      )
    )
  shown = [
    change
    for kind in ("fixed", "broken", "still wrong", "changed")
    for change in kinds[kind][:_CHANGES]
  ]
  # The kinds of the other case, labelled or not, are there only if needed.
  is_labelled = any(kinds[kind] for kind in _KINDS[:4])
  counts = {
    kind: len(found)
    for kind, found in kinds.items()
    if found or is_labelled == (kind in _KINDS[:4])
  }
  return counts, shown


def question(run: Run, example_id: str, variant: str) -> str:
  """The question as the examples have it, with what this variant suggests."""
  inputs = run.examples.get(example_id, {}).get("inputs", {})
  text = inputs.get("question")
  if not isinstance(text, str):
    return json.dumps(inputs, ensure_ascii=False) if inputs else example_id
  suggestions = inputs.get("suggestions")
  suggested = isinstance(suggestions, dict) and suggestions.get(variant)
  return f"{text} ({suggested}?)" if suggested else text


def _direct(row: Record) -> Record:
  """The greedy reply; in a run of an older version it is a row's only one."""
  return row.get("greedy") or row["passes"][0] | {"metrics": row["metrics"]}


def _kind(old: Record, new: Record) -> str:
  if not all("accuracy" in one["metrics"] for one in (old, new)):
    was, now = (one["answer"] for one in (old, new))
    return "same" if was == now else "changed"
  was, now = (one["metrics"]["accuracy"] >= 0.5 for one in (old, new))
  if was == now:
    return "still right" if now else "still wrong"
  return "fixed" if now else "broken"
