"""Has a model read a data set in its own order? (Oren et al. 2023)

The rows of a data set can be put in any order without changing what they say.
So a model that has never read it finds its own order no likelier than others,
and a p-value that holds for any model follows from how many are likelier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import random

from jaxtyping import Float
import numpy as np
import scipy  # its stats are loaded where they are used

Tokens = Sequence[int]
# Log-probability of each text, in nats.
Score = Callable[[Sequence[Tokens]], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Exchangeability:
  """Whether a data set's own order is likelier than random ones.

  Attributes:
    rows: that were read in several orders.
    left_out: rows that fit no window together with another.
    shards: runs of consecutive rows, each read at once.
    shuffles: random orders of every shard.
    p_value: of the permutation test on the log-probability of all shards; at
      least 1 / (shuffles + 1).
    p_of_shards: of the t-test over the shards, each with the difference of its
      own order to the mean of its random ones; None with fewer than two shards
      or without any difference.
  """

  rows: int
  left_out: int
  shards: int
  shuffles: int
  p_value: float
  p_of_shards: float | None


def exchangeability(
  rows: Sequence[Tokens],
  window: int,
  shuffles: int,
  score: Score,
  seed: int = 0,
  advance: Callable[[], None] = lambda: None,
) -> Exchangeability | None:
  """Compares the own order of rows with random ones.

  Rows are shuffled within shards, so a shard has the same tokens in every
  order, and fits the window in all of them. That is a group of permutations
  like any other, for which the test of the paper is exact.

  Args:
    rows: tokens of each, with what separates it from the next.
    window: tokens that a shard may have.
    shuffles: random orders.
    score: log-probability of each of several texts.
    seed: of the orders.
    advance: is called when an order has been read.

  Returns:
    None if no two consecutive rows fit the window.
  """
  shards = [shard for shard in _shards(rows, window) if len(shard) > 1]
  if not shards:
    return None
  rng = random.Random(seed)

  def read(order: Sequence[Sequence[Tokens]]) -> list[float]:
    found = score([[t for row in shard for t in row] for shard in order])
    advance()
    return list(found)

  own = read(shards)
  others = [
    read([rng.sample(shard, len(shard)) for shard in shards])
    for _ in range(shuffles)
  ]
  used = sum(map(len, shards))
  return Exchangeability(
    rows=used,
    left_out=len(rows) - used,
    shards=len(shards),
    shuffles=shuffles,
    p_value=permutation_p(np.array(own), np.array(others)),
    p_of_shards=shard_p(np.array(own), np.array(others)),
  )


def permutation_p(
  own: Float[np.ndarray, " S"], others: Float[np.ndarray, "M S"]
) -> float:
  """(1 + orders at least as likely as the own) / (1 + M)."""
  as_likely = (others.sum(-1) >= own.sum()).sum()
  return float((1 + as_likely) / (1 + len(others)))


def shard_p(
  own: Float[np.ndarray, " S"], others: Float[np.ndarray, "M S"]
) -> float | None:
  """One-sided p-value of the mean over shards being above zero."""
  differences = own - others.mean(0)
  if len(differences) < 2 or np.ptp(differences) == 0:
    return None
  return float(
    scipy.stats.ttest_1samp(differences, 0, alternative="greater").pvalue
  )


def _shards(rows: Sequence[Tokens], window: int) -> Iterator[list[Tokens]]:
  """Runs of consecutive rows that fit the window."""
  shard: list[Tokens] = []
  for row in rows:
    if shard and sum(map(len, shard)) + len(row) > window:
      yield shard
      shard = []
    if len(row) <= window:
      shard.append(row)
  if shard:
    yield shard
