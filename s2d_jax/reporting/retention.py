"""What the fine-tune did to other tasks and to the perplexity of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.evaluation.results import by_group
from s2d_jax.evaluation.verdict import Comparison, compare
from s2d_jax.records import Record


@dataclasses.dataclass(frozen=True)
class Retention:
  """Other tasks, and the perplexity of a text before and after.

  Attributes:
    tasks: name → the distilled model against the base model.
    before: perplexity of the base model; None where it was not measured.
    after: of the distilled model.
    tokens: of the text.
  """

  tasks: Mapping[str, Comparison]
  before: float | None
  after: float | None
  tokens: int

  def lines(self) -> list[list[str]]:
    """The table as text, the head first; empty without both models."""
    lines = [["% right", "before", "after", "points", "questions"]]
    for name, found in self.tasks.items():
      gain = found.gain
      lines.append(
        [
          name.replace("_", " "),
          f"{100 * found.second:.1f}",
          f"{100 * found.first:.1f}",
          f"{points(gain.value)} [{points(gain.low)} to {points(gain.high)}]"
          if found.changed
          else "none differs",
          str(found.n),
        ]
      )
    return lines if self.tasks else []

  @property
  def change(self) -> float | None:
    """Of the perplexity, as a share of what it was."""
    if self.before is None or self.after is None:
      return None
    return self.after / self.before - 1


def retention(base: Sequence[Record], distilled: Sequence[Record]) -> Retention:
  """Compares the rows of eval/retention-base.jsonl and -distilled.jsonl."""
  before, after = map(_by_task, (base, distilled))
  found = {}
  for task, rows in after.items():
    old, new = (
      by_group(part).get((SYSTEM1, rows[0]["variant"]), {})
      for part in (before.get(task, []), rows)
    )
    compared = compare(new, old)
    if compared:
      found[task] = compared
  old, new = map(_of_text, (base, distilled))
  return Retention(
    found,
    old.get("perplexity"),
    new.get("perplexity"),
    old.get("tokens", 0),
  )


def points(share: float) -> str:
  """A difference of two shares, in percentage points with its sign."""
  rounded = round(100 * share)
  return f"{rounded:+d}".replace("-", "−") if rounded else "0"


def _by_task(rows: Sequence[Record]) -> dict[str, list[Record]]:
  groups: dict[str, list[Record]] = {}
  for row in rows:
    if "passes" in row:
      groups.setdefault(row["task"], []).append(row)
  return groups


def _of_text(rows: Sequence[Record]) -> Record:
  return next((row for row in rows if "perplexity" in row), {})
