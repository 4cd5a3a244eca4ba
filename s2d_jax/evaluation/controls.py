"""The grid of comparisons: who is asked, and how a reply is drawn.

Whatever System 2 is said to gain is compared with what needs no thinking:
System 1, and System 1 behind the same worked examples, each greedily, in
single samples and by the vote of as many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
import dataclasses
from typing import Literal, NamedTuple

from s2d_jax.records import Record

SYSTEM1 = "system1"
SHOTS = "system1_shots"  # behind worked examples
ALOUD = "system1_aloud"  # by a student that was taught to think first

Drawn = Literal["greedy", "sample", "nested", "vote"]


class Way(NamedTuple):
  """How an answer was had.

  Attributes:
    method: "system1", "system1_shots" or a method of System 2.
    drawn: the greedy reply, a single sample (of which there are several, and
      the mean is taken), the majority of several answers to the thought of a
      single sample, or the vote of all samples.
  """

  method: str
  drawn: Drawn

  @classmethod
  def of(cls, name: str) -> Way:
    """By its name in results.json, as "cot", "cot_greedy" or "cot_vote"."""
    method, _, drawn = name.rpartition("_")
    if method and drawn in ("greedy", "nested", "vote"):
      return cls(method, drawn)
    return cls(name, "sample")

  def __str__(self) -> str:
    is_sample = self.drawn == "sample"
    return self.method if is_sample else f"{self.method}_{self.drawn}"


def directly(*models: Collection[str]) -> str:
  """The method that stands for a direct answer of all these models.

  The greedy one; a run of an older version calls that "system1".

  Args:
    models: the methods of each.
  """
  greedy = str(Way(SYSTEM1, "greedy"))
  return greedy if all(greedy in methods for methods in models) else SYSTEM1


@dataclasses.dataclass(frozen=True)
class Cost:
  """Tokens of an evaluation, and how many of them the controls took.

  Attributes:
    generated, prompt: tokens of all replies, and of all prompts, as if none
      were shared.
    control_generated, control_prompt: those of the controls among them.
  """

  generated: int
  prompt: int
  control_generated: int
  control_prompt: int

  def __add__(self, other: Cost) -> Cost:
    pairs = zip(
      dataclasses.astuple(self), dataclasses.astuple(other), strict=True
    )
    return Cost(*(sum(pair) for pair in pairs))

  def __str__(self) -> str:
    share = self.control_generated / max(self.generated, 1)
    return (
      f"{self.control_generated:,} of {self.generated:,} generated tokens"
      f" ({100 * share:.0f} %) and {self.control_prompt:,} of"
      f" {self.prompt:,} of prompts"
    )


def cost(rows: Iterable[Record], method: str) -> Cost | None:
  """What the controls of an evaluation cost; None where there are none.

  Whatever config.evaluation.controls adds is a control: all but the greedy
  reply of System 1 and the samples of the run's own method.

  Args:
    rows: of eval/base.jsonl or eval/distilled.jsonl.
    method: the run's own; "" for the distilled model, which has none.
  """
  total = Cost(0, 0, 0, 0)
  for row in rows:
    samples = _spent(row["passes"], is_control=row["method"] != method)
    greedy = [row["greedy"]] if "greedy" in row else []
    is_direct = row["method"] == SYSTEM1
    total += samples + _spent(greedy, is_control=not is_direct)
  return total if total.control_generated else None


def replies_of(row: Record) -> list[Record]:
  """The samples of a row of eval/, and its greedy reply."""
  return [*row["passes"], *([row["greedy"]] if "greedy" in row else [])]


def _spent(replies: list[Record], is_control: bool) -> Cost:
  replies = [reply.get("nested", reply) for reply in replies]
  generated = sum(reply["tokens"] for reply in replies)
  prompt = sum(reply.get("prompt_tokens", 0) for reply in replies)
  return Cost(generated, prompt, generated * is_control, prompt * is_control)
