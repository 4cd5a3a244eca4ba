"""The model's own choice among its replies, asked for in several orders.

A model may choose by position: it names the first response, say, whatever that
is. Over random orders such choices fall on any reply, so only a reply that is
chosen in most orders is taken. Positions themselves are compared with the
uniform distribution: as orders are random, a model that reads the replies
chooses every position equally often, whichever reply it prefers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import dataclasses

import numpy as np
import scipy  # its stats are loaded where they are used

from s2d_jax.curation.vote import Vote, vote
from s2d_jax.records import Record

_SIGNIFICANT = 0.05


def same_words(replies: Sequence[str]) -> list[int]:
  """For each reply the number of the first one with the same words."""
  words = [tuple(reply.split()) for reply in replies]
  return [words.index(own) for own in words]


def choices_of(row: Record) -> list[int | None]:
  """The numbers of the replies chosen, one an order; None: none was named.

  Replies with the same words have the number of the first of them.

  Args:
    row: of selections/; one without orders has a single choice.
  """
  if "orders" not in row:
    return [row["chosen"]]
  same = row["same_as"]
  return [None if c is None else same[c] for c in row["choices"]]


def choice_vote(choices: Sequence[int | None]) -> Vote:
  """The vote of the orders; answers are numbers of replies."""
  return vote([None if c is None else str(c) for c in choices])


def survivor(choices: Sequence[int | None]) -> int | None:
  """The reply chosen in more than half of the orders; None without one."""
  result = choice_vote(choices)
  most = max(result.counts.values(), default=0)
  return int(result.winner) if 2 * most > len(choices) else None


@dataclasses.dataclass(frozen=True)
class PositionBias:
  """What choices owe to position.

  Attributes:
    shares: of all choices, the share of each position in the order shown.
    p_value: of these counts if every position is equally likely (Pearson's
      chi-square).
    pairs: of orders of an input, with a choice in both.
    agree: pairs with the same choice.
    by_chance: of `pairs`, how many would agree if replies were drawn.
    chance_p_value: of so much agreement or more by drawing (binomial; pairs
      have no order in common, so they are independent).
  """

  shares: tuple[float, ...]
  p_value: float
  pairs: int
  agree: int
  by_chance: float
  chance_p_value: float

  @property
  def is_biased(self) -> bool:
    return self.p_value < _SIGNIFICANT

  @property
  def is_chance(self) -> bool:
    """Whether the choices cannot be told from random ones."""
    return self.pairs > 0 and self.chance_p_value >= _SIGNIFICANT

  def __str__(self) -> str:
    shares = ", ".join(f"{100 * share:.0f}" for share in self.shares)
    which = "differs from" if self.is_biased else "fits"
    return (
      f"by position {shares} % were chosen (this {which} equal shares,"
      f" p = {self.p_value:.2g}); {self.agree} of {self.pairs} pairs of orders"
      f" chose the same reply, {self.by_chance:.1f} by chance"
    )


def position_bias(rows: Iterable[Record]) -> PositionBias | None:
  """Measures the choices of selections/; None where there are none in orders.

  Args:
    rows: of selections/. Those of inputs without two different replies tell
      nothing, and are left out.
  """
  rows = [row for row in rows if len(set(row.get("same_as", ()))) > 1]
  positions = [
    (order.index(choice), len(order))
    for row in rows
    for order, choice in zip(row["orders"], row["choices"], strict=True)
    if choice is not None
  ]
  if not positions:
    return None
  places = np.arange(max(count for _, count in positions))
  counts = np.bincount([at for at, _ in positions], minlength=len(places))
  expected = sum((places < count) / count for _, count in positions)
  pairs = [pair for row in rows for pair in _pairs(row)]
  agree = sum(is_same for is_same, _ in pairs)
  by_chance = sum(chance for _, chance in pairs)
  chance_p = 1.0
  if pairs:
    share = by_chance / len(pairs)
    test = scipy.stats.binomtest(
      agree, len(pairs), share, alternative="greater"
    )
    chance_p = float(test.pvalue)
  return PositionBias(
    shares=tuple((counts / counts.sum()).tolist()),
    p_value=float(scipy.stats.chisquare(counts, expected).pvalue),
    pairs=len(pairs),
    agree=agree,
    by_chance=by_chance,
    chance_p_value=chance_p,
  )


def _pairs(row: Record) -> list[tuple[bool, float]]:
  """Of orders 1 and 2, 3 and 4, …: do they agree, and how likely by chance?"""
  _, sizes = np.unique(row["same_as"], return_counts=True)
  chance = float(np.square(sizes / sizes.sum()).sum())
  choices = choices_of(row)
  return [
    (first == second, chance)
    for first, second in zip(choices[::2], choices[1::2], strict=False)
    if first is not None and second is not None
  ]
