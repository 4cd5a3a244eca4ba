"""The table of what the fine-tune changed, form by form."""

from __future__ import annotations

from s2d_jax.evaluation.decomposition import WRONG
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting.retention import points
from s2d_jax.reporting.table import readable


def lines(verdict: Verdict) -> list[list[str]]:
  """A row a split, the head first; empty without both models or labels."""
  parts = verdict.decompositions
  if not parts:
    return []
  sampled = {
    "among System 1’s samples": [part.sampled for part in parts.values()],
    "behind examples": [part.sampled_shots for part in parts.values()],
  }
  sampled = {name: of for name, of in sampled.items() if None not in of}
  head = ["greedy, % right", "before → after", "points", "p"]
  head += [f"{wrong} → right" for wrong in WRONG]
  head += [f"right → {wrong}" for wrong in WRONG]
  found = [[*head, "still right", "still wrong", *sampled]]
  for row, (split, part) in enumerate(parts.items()):
    change = verdict.splits[split]
    gain = change.gain
    counts = [*(part.mended[wrong] for wrong in WRONG)]
    counts += [part.lost[wrong] for wrong in WRONG]
    counts += [part.still_right, part.still_wrong]
    mended = sum(part.mended.values())
    found.append(
      [
        readable(split),
        f"{100 * change.second:.0f} → {100 * change.first:.0f}",
        f"{points(gain.value)} [{points(gain.low)} to {points(gain.high)}]",
        f"{change.p:.2g}",
        *map(str, counts),
        *(f"{of[row]} of {mended}" for of in sampled.values()),
      ]
    )
  return found
