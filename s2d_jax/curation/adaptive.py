"""Adaptive sampling: when the vote on an input is decided before all samples.

Adaptive-Consistency (Aggarwal et al. 2023) stops sampling an input once the
leader is most likely the winner. Here the question is sharper: would the vote
over all `total` samples be accepted, and for this answer? With a uniform prior
on the share of the leader, the number X of the r remaining samples that go to
it is beta-binomial, X ~ BetaBinomial(r, a + 1, b + 1), after a votes for the
leader and b samples for anything else. Whatever does not go to the leader is
assumed to go to the runner-up, so the probability is a lower bound.

The filter of curation sees only what was drawn, and takes the rest to be split
like it (`Thresholds.accept`): a votes of k samples are a·n/k of all n. Sampling
stops where that and the full vote agree:

- not even r further votes for the leader could get the full vote accepted.
  The filter then rejects, too: a/k ≤ (a + r)/n, and the lead likewise;
- or the filter accepts, and so does the full vote, for the same answer, with
  at least the probability `confidence`.

So every input whose full vote is accepted is accepted, and of those accepted
early a full vote rejects at most the share 1 - confidence, if all shares of
the leader are equally likely beforehand.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
import dataclasses
import functools
import itertools

import numpy as np
import scipy  # its stats are loaded where they are used

from s2d_jax.curation.vote import Thresholds, Vote, vote


@dataclasses.dataclass(frozen=True)
class StoppingRule:
  """When to stop sampling an input.

  Attributes:
    total: most samples of an input.
    confidence: stop once the vote over all of them would come out the same
      with this probability; 0 never stops early.
    thresholds: of an accepted vote.
  """

  total: int
  confidence: float
  thresholds: Thresholds

  def of(self, total: int) -> StoppingRule:
    """The rule for an input of so many samples: as large a share must win."""
    if total == self.total:
      return self
    votes = self.thresholds.min_votes * total / self.total
    thresholds = dataclasses.replace(self.thresholds, min_votes=votes)
    return dataclasses.replace(self, total=total, thresholds=thresholds)

  def samples_needed(self, answers: Sequence[str | None]) -> int:
    """Fewest further samples that could decide the vote; 0: it is decided.

    Args:
      answers: of the samples so far, None where there is none.
    """
    left = self.total - len(answers)
    if not self.confidence:
      return left
    so_far = vote(answers)
    if answers and self._is_lost(so_far, left):
      return 0
    leader = next(iter(so_far.counts.values()), 0)
    return self._fewest(leader, len(answers) - leader)

  def _is_lost(self, so_far: Vote, left: int) -> bool:
    """Whether even all the remaining samples could not get it accepted."""
    first, second, *_ = [*so_far.counts.values(), 0, 0]
    return not self.thresholds.accept(
      first + left, second, self.total, self.total
    )

  @functools.cache  # noqa: B019  a handful of small arguments
  def _fewest(self, leader: int, others: int) -> int:
    left = self.total - leader - others
    for more in range(left):
      if self._is_won(leader + more, others):
        return more
    return left

  def _is_won(self, leader: int, others: int) -> bool:
    """Whether the filter accepts, and most likely the full vote will be."""
    is_kept = self.thresholds.accept(
      leader, others, leader + others, self.total
    )
    return is_kept and self._accepted(leader, others) >= self.confidence

  def _accepted(self, leader: int, others: int) -> float:
    """Probability that the vote over all samples is accepted for the leader."""
    left = self.total - leader - others
    chance = scipy.stats.betabinom(left, leader + 1, others + 1)
    chances = chance.pmf(np.arange(left + 1))
    accepted = [
      self.thresholds.accept(
        leader + x, others + left - x, self.total, self.total
      )
      for x in range(left + 1)
    ]
    return float(chances[accepted].sum())

  def accepted_answer(self, answers: Sequence[str | None]) -> str | None:
    """The winner of the vote if the filter accepts it, else None."""
    result = vote(answers)
    first, second, *_ = [*result.counts.values(), 0, 0]
    accepted = self.thresholds.accept(first, second, result.samples, self.total)
    return result.winner if accepted else None


def stopping_time(answers: Sequence[str | None], rule: StoppingRule) -> int:
  """Samples after which the rule would have stopped.

  Args:
    answers: of all samples, in their order.
    rule: the stopping rule.
  """
  drawn = 0
  while needed := rule.samples_needed(answers[:drawn]):
    drawn += needed
  return drawn


class AdaptiveVote:
  """The vote on one input, sampled in rounds until it is decided.

  Args:
    rule: decides when that is.
    answers: of earlier samples, by their number. Which samples come next
      follows from answers alone, so a run that was killed draws the samples
      that it would have drawn.
  """

  def __init__(self, rule: StoppingRule, answers: Mapping[int, str | None]):
    self._rule = rule
    self._answers = dict(answers)
    self._drawn = 0  # samples of complete rounds
    self._pending: set[int] = set()

  def next_round(self) -> list[int]:
    """Numbers of the samples to draw now; none if the vote is decided."""
    while needed := self._rule.samples_needed(self._so_far()):
      numbers = range(self._drawn, self._drawn + needed)
      self._pending = {n for n in numbers if n not in self._answers}
      if self._pending:
        return sorted(self._pending)
      self._drawn += needed
    return []

  def receive(self, number: int, answer: str | None) -> list[int] | None:
    """Adds a sample; returns the next round, or None while this one lasts."""
    self._answers[number] = answer
    self._pending.discard(number)
    return None if self._pending else self.next_round()

  @property
  def is_decided(self) -> bool:
    return self._drawn > 0 and not self._rule.samples_needed(self._so_far())

  @property
  def winner(self) -> str | None:
    """Of the samples so far."""
    return vote(self._so_far()).winner

  @property
  def is_accepted(self) -> bool:
    """Whether the filter accepts the samples so far."""
    return self._rule.accepted_answer(self._so_far()) is not None

  @property
  def drawn(self) -> int:
    """Samples of complete rounds."""
    return self._drawn

  def _so_far(self) -> list[str | None]:
    return [self._answers[number] for number in range(self._drawn)]


SampleId = tuple[str, int]  # variant, number


class ExampleVotes:
  """The votes on all variants of one example.

  Where several variants must win with the same answer they are sampled in
  waves, and no further once so many disagree that none of them can be kept:
  what is kept is the same, and much of what would be rejected is never sampled.

  Args:
    votes: by variant, in the order in which the variants are sampled.
    needed: variants that must win with the same answer; with one or none all
      variants are sampled at once.
    wave_size: fewest variants of a wave. The first wave has as many as must be
      decided before any example can be lost.
    perturbations: variants that are never kept themselves: they are not needed
      once all others are rejected.
  """

  def __init__(
    self,
    votes: Mapping[str, AdaptiveVote],
    needed: int,
    wave_size: int = 1,
    perturbations: Collection[str] = (),
  ):
    self._votes = votes
    self._taught = set(votes) - set(perturbations)
    self._needed = needed
    first = max(wave_size, len(votes) - max(needed, 1) + 1)
    starts = [0, *range(first, len(votes), wave_size), len(votes)]
    variants = list(votes)
    self._waves = [
      variants[start:end]
      for start, end in itertools.pairwise(starts)
      if start < end
    ]

  def start(self) -> list[SampleId]:
    """The samples to draw first, or next after a wave or a kill."""
    while wave := self._wave():
      samples = [
        (variant, number)
        for variant in wave
        for number in self._votes[variant].next_round()
      ]
      if samples:
        return samples
    return []

  def receive(
    self, variant: str, number: int, answer: str | None
  ) -> list[SampleId]:
    """Adds a sample; returns those to draw because of it."""
    wave = self._wave()
    numbers = self._votes[variant].receive(number, answer)
    if numbers:
      return [(variant, number) for number in numbers]
    return [] if self._wave() == wave else self.start()

  @property
  def is_decided(self) -> bool:
    """Whether every variant is decided, or none can be kept any more."""
    return self._wave() is None

  def _wave(self) -> list[str] | None:
    """The first wave that is not decided, unless it is not needed."""
    winners: collections.Counter[str] = collections.Counter()
    left = len(self._votes)
    may_be_kept = set(self._taught)
    for wave in self._waves:
      if max(winners.values(), default=0) + left < self._needed:
        return None
      if self._needed and not may_be_kept:
        return None
      votes = [self._votes[variant] for variant in wave]
      if not all(v.is_decided for v in votes):
        return wave
      winners.update(v.winner for v in votes if v.winner is not None)
      left -= len(wave)
      may_be_kept -= {v for v in wave if not self._votes[v].is_accepted}
    return None
