"""What the fine-tune changed, form by form: a sentence and a table."""

from __future__ import annotations

from collections.abc import Mapping

from s2d_jax.evaluation.decomposition import WRONG, Wrong
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting.retention import points_within
from s2d_jax.reporting.sentences import inputs_of, p_value
from s2d_jax.reporting.table import readable

_NAMED: Mapping[Wrong, str] = {
  "nothing": "named nothing",
  "suggestion": "repeated the suggestion",
  "other": "named another wrong answer",
}


def sentence(verdict: Verdict) -> str | None:
  """Of the split that the verdict is about; None without labels."""
  part = verdict.decompositions.get(verdict.split)
  if part is None:
    return None
  mended, lost = sum(part.mended.values()), sum(part.lost.values())
  before = f"; before, {_told(part.mended)}" if mended else ""
  now = f": {_told(part.lost)}" if lost else ""
  if mended and part.sampled is not None:
    before += (
      f"; in {part.sampled} the right answer was among System 1’s samples"
    )
  return (
    f"On {inputs_of(verdict.split)} {mended} of {part.n} replies became right"
    f"{before}. {lost or 'None'} became wrong{now}."
  )


def _told(counts: Mapping[Wrong, int]) -> str:
  told = [f"{counts[wrong]} {_NAMED[wrong]}" for wrong in WRONG]
  return f"{told[0]}, {told[1]} and {told[2]}"


def lines(verdict: Verdict) -> list[list[str]]:
  """A row a split, the head first; empty without both models or labels.

  Counts of replies, by what was named before or is named now: nothing, the
  suggestion, another wrong answer.
  """
  parts = verdict.decompositions
  if not parts:
    return []
  sampled = {
    "sampled before": [part.sampled for part in parts.values()],
    "sampled few-shot": [part.sampled_shots for part in parts.values()],
  }
  sampled = {name: of for name, of in sampled.items() if None not in of}
  head = ["greedy", "% right", "points", "p", "became right", "became wrong"]
  found = [[*head, "stayed right", "stayed wrong", *sampled]]
  for row, (split, part) in enumerate(parts.items()):
    change = verdict.splits[split]
    gain = change.gain
    mended = sum(part.mended.values())
    found.append(
      [
        readable(split),
        f"{100 * change.second:.0f} → {100 * change.first:.0f}",
        points_within(gain),
        p_value(change.p),
        _split(part.mended),
        _split(part.lost),
        str(part.still_right),
        str(part.still_wrong),
        *(f"{of[row]} of {mended}" for of in sampled.values()),
      ]
    )
  return found


def _split(counts: Mapping[Wrong, int]) -> str:
  """The sum, and what it consists of."""
  return f"{sum(counts.values())} ({' + '.join(str(counts[w]) for w in WRONG)})"
