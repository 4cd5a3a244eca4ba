"""Rows of eval/ as a gate sees them: a direct answer, and System 2's vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from s2d_jax.evaluation.results import cluster_of
from s2d_jax.gate.confidence import taken
from s2d_jax.gate.gate import Answered, Gate
from s2d_jax.records import Record

METHOD = "gate"  # of the rows of eval/gated.jsonl


def vote_of(row: Record) -> Record:
  """System 2's answer to an input, as a pass of eval/ with its "metrics".

  The vote of its samples; of a single one the majority of the answers to its
  thought, or its only answer.
  """
  if "vote" in row:
    found = row["vote"]
  else:
    (only,) = row["passes"]
    metrics = row.get("nested", row)["metrics"]
    found = only.get("nested", only) | {"metrics": metrics}
  nothing = {"text": "", "tier": None}
  says = (one for one in row["passes"] if one["answer"] == found["answer"])
  said = next(says, nothing)
  return found | {name: said[name] for name in nothing}


def answered(direct: Record, thought: Record, n: int) -> Answered:
  """A validation input, from its rows of both models.

  Args:
    direct: of the distilled model, with its greedy reply.
    thought: of System 2.
    n: samples of the vote that is paid for where System 2 thinks.
  """
  samples = [one.get("nested", one) for one in thought["passes"]]
  return Answered(
    direct["greedy"],
    direct["passes"],
    vote_of(thought)["answer"],
    n * float(np.mean([one["tokens"] for one in samples])),
    cluster_of(direct),
  )


def gated(gate: Gate, direct: Record, thought: Record) -> Record:
  """A row of eval/gated.jsonl: what stands, and all that it took.

  Args:
    gate: with its budget or its agreement.
    direct: row of the distilled model.
    thought: row of System 2 for the same input.
  """
  greedy, samples = direct["greedy"], direct["passes"]
  confidence = gate.confidence(greedy, samples)
  thinks = gate.thinks(confidence)
  vote = vote_of(thought)
  answer = vote if thinks else greedy
  calls = [*taken(gate.signal, greedy, samples), *([vote] if thinks else [])]
  reply = {name: answer[name] for name in ("text", "answer", "tier")}
  reply |= {
    name: sum(call[name] for call in calls)
    for name in ("tokens", "prompt_tokens")
    if all(name in call for call in calls)
  }
  names = ("example_id", "variant", "cluster")
  return {
    **{name: direct[name] for name in names if name in direct},
    "method": METHOD,
    "passes": [reply],
    "metrics": answer["metrics"],
    "confidence": confidence,
    "probability": round(gate.probability(confidence), 4),
    "thought": thinks,
  }


def by_input(
  rows: Iterable[Record], method: str
) -> Mapping[tuple[str, str], Record]:
  """The rows of a method, by example and variant."""
  return {
    (row["example_id"], row["variant"]): row
    for row in rows
    if row["method"] == method
  }
