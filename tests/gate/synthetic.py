"""Rows of a gated run that never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from s2d_jax.gate import gate as gates, rows as gate_rows
from s2d_jax.records import Record

METHOD = "cot"


class Rows(NamedTuple):
  """Of System 2 by the base model, of the distilled model, of the gate."""

  base: list[Record]
  distilled: list[Record]
  gated: list[Record]


def rows(
  direct: float = 0.6,
  vote: float = 0.9,
  sure: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
  n: int = 400,
  labels: bool = True,
  seed: int = 0,
  budget: float | None = 20.0,
) -> Rows:
  """A gate that was learnt on as many validation inputs of the same kind.

  Args:
    direct: how often the direct answer is right.
    vote: how often System 2's is, whatever the direct answer.
    sure: log-probabilities of direct answers that are right, or not; by default
      those that are right are surer.
    n: inputs.
    labels: whether there are any.
    seed: of all draws.
    budget: of the gate; None: it never thinks.
  """
  rng = np.random.default_rng(seed)
  sure = sure or knows
  valid = _both(direct, vote, sure, n, labels, rng)
  gate = gates.learn([gate_rows.answered(a, b, 5) for a, b in valid])
  gate = gate.agreeing(0.0) if budget is None else gate.within(budget)
  test = _both(direct, vote, sure, n, labels, rng)
  return Rows(
    [thought for _, thought in test],
    [one for one, _ in test],
    [gate_rows.gated(gate, *pair) for pair in test],
  )


def knows(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Surer where it is right, by two standard deviations."""
  return rng.normal(size=len(right)) + 2.0 * right - 6


def guesses(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  return rng.normal(size=len(right)) - 6


def _both(direct, vote, sure, n, labels, rng) -> list[tuple[Record, Record]]:
  fast, slow = rng.random(n) < direct, rng.random(n) < vote
  found = []
  for index, logprob in enumerate(sure(fast, rng)):
    reply = _reply("right" if fast[index] else "wrong", 2, labels)
    reply["logprob"] = float(logprob)
    thought = _reply("right" if slow[index] else f"other {index}", 8, labels)
    found.append(
      (
        _row(index, "system1", reply) | {"greedy": reply},
        _row(index, METHOD, thought)
        | {"vote": thought | {"tokens": 40, "margin": 1.0}},
      )
    )
  return found


def _row(index: int, method: str, reply: Record) -> Record:
  return {
    "example_id": str(index),
    "variant": "plain",
    "method": method,
    "passes": [reply],
    "metrics": reply["metrics"],
  }


def _reply(answer: str, tokens: int, labels: bool) -> Record:
  return {
    "text": answer,
    "answer": answer,
    "tier": "strict",
    "tokens": tokens,
    "prompt_tokens": 10 * tokens,
    "metrics": {"accuracy": float(answer == "right")} if labels else {},
  }
