"""What a round takes over from the round before: its beliefs and its doubts.

What a round decides is believed. Where it decides nothing, the belief of the
round before stands. Where it was in doubt, the next round draws more samples,
and where it was sure, just enough to notice that a belief no longer holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from s2d_jax.curation.curate import InputId
from s2d_jax.records import Record

# Reasons of records of distill/rejected that are no decision; the others leave
# out what was decided, or could never be asked.
_DOUBTS = ("given up", "unparsable", "tie", "votes", "margin", "disagrees")
_FEWEST = 3  # samples: two that differ say nothing


class Beliefs(NamedTuple):
  """Of a round, with those that it takes over.

  Attributes:
    accepted: what is taught, each with its "round".
    rejected: inputs of which nothing is believed.
    undecided: what this round found of inputs with an older belief.
  """

  accepted: list[Record]
  rejected: list[Record]
  undecided: list[Record]


def join(
  accepted: Iterable[Record],
  rejected: Iterable[Record],
  earlier: Iterable[Record],
  number: int,
) -> Beliefs:
  """Joins what a round decided with what was believed before it.

  Args:
    accepted: what curation accepts of the samples of this round.
    rejected: what it rejects, with reasons.
    earlier: what the round before taught, older beliefs among it.
    number: of this round.
  """
  believed = {_input(row): row for row in earlier}
  known = {_input(row) for row in rejected if is_doubt(row)} & believed.keys()
  return Beliefs(
    [
      *(row | {"round": number} for row in accepted),
      *(believed[name] for name in believed if name in known),
    ],
    [row for row in rejected if _input(row) not in known],
    [row for row in rejected if _input(row) in known],
  )


def most_samples(
  accepted: Iterable[Record], doubted: Iterable[Record], n: int, number: int
) -> dict[str, int]:
  """Most samples of an example in a round, by id.

  An example with an input that the round before could not decide may have
  `number` times `n`; one that is decided in whole has half of `n`, at least 3.

  Args:
    accepted: what the round before taught.
    doubted: its rejected and undecided records.
    n: samples of an input in the first round.
    number: of this round.
  """
  few = min(n, max(_FEWEST, -(-n // 2)))
  found = {row["example_id"]: few for row in accepted}
  doubts = {row["example_id"] for row in doubted if is_doubt(row)}
  return found | dict.fromkeys(doubts, number * n)


def is_doubt(row: Record) -> bool:
  """Whether a rejected record is of an input that could not be decided."""
  return row["reason"] in _DOUBTS


def _input(row: Record) -> InputId:
  return row["example_id"], row["variant"]
