"""What a confidence is worth on test inputs: accuracy against tokens.

A gate that thinks about more inputs costs more. The curve has all gates of one
confidence, whatever their threshold; its chord is thinking about as many
inputs, chosen at random.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from jaxtyping import Bool, Float
import numpy as np
import scipy  # its parts are loaded where they are used

from s2d_jax.evaluation.members import Cluster, mean_of_sharing
from s2d_jax.evaluation.metrics import Interval

_LEVEL = 0.95
_BINS = 10


@dataclasses.dataclass(frozen=True)
class Curve:
  """From a gate that never thinks to one that always does.

  Attributes:
    tokens: K, generated, mean an answer; ascending.
    accuracy: K, share of right answers.
  """

  tokens: tuple[float, ...]
  accuracy: tuple[float, ...]

  @property
  def area(self) -> float:
    """Between the curve and its chord: the mean gain over all budgets."""
    span = self.tokens[-1] - self.tokens[0]
    if not span:
      return 0.0
    below = scipy.integrate.trapezoid(self.accuracy, self.tokens) / span
    return float(below) - (self.accuracy[0] + self.accuracy[-1]) / 2

  def at_random(self, tokens: float) -> float:
    """Accuracy on the chord, at as many tokens."""
    ends = [self.tokens[0], self.tokens[-1]]
    return float(np.interp(tokens, ends, [self.accuracy[0], self.accuracy[-1]]))

  def reaching(self, accuracy: float) -> float | None:
    """The least tokens with which it is as accurate; None if it never is."""
    pairs = zip(self.tokens, self.accuracy, strict=True)
    return next((tokens for tokens, own in pairs if own >= accuracy), None)


def trade_off(
  confidences: Float[np.ndarray, " N"],
  fast: Float[np.ndarray, " N"],
  slow: Float[np.ndarray, " N"],
  fast_tokens: Float[np.ndarray, " N"],
  slow_tokens: Float[np.ndarray, " N"],
) -> Curve:
  """The curve of N inputs; those that are equally sure are thought about alike.

  Args:
    confidences: of the direct answers.
    fast: 1 where the direct answer is right.
    slow: 1 where System 2's is.
    fast_tokens: of the direct answer.
    slow_tokens: of System 2's, on top.
  """
  _, at = np.unique(confidences, return_inverse=True)

  def means(before, more) -> tuple[float, ...]:
    sums = np.sum(before) + np.cumsum([0, *np.bincount(at, more)])
    return tuple((sums / len(at)).tolist())

  return Curve(
    tokens=means(fast_tokens, slow_tokens),
    accuracy=means(fast, np.subtract(slow, fast, dtype=float)),
  )


def calibration_error(
  probabilities: Float[np.ndarray, " N"], happened: Bool[np.ndarray, " N"]
) -> float:
  """Expected calibration error, over ten bins of as many inputs each.

  The mean distance of a bin's probability from how often it happened (Naeini et
  al. 2015; of equal mass: Nguyen and O'Connor 2015). Inputs of one probability
  count as their mean, so that it does not matter how bins part them.
  """
  values, at = np.unique(probabilities, return_inverse=True)
  happens = (np.bincount(at, happened) / np.bincount(at))[at]
  order = np.argsort(at, kind="stable")
  apart = values[at] - happens
  bins = np.array_split(apart[order], min(_BINS, len(order)))
  return float(sum(abs(part.sum()) for part in bins) / len(order))


def auroc(
  confidences: Float[np.ndarray, " N"],
  happened: Bool[np.ndarray, " N"],
  clusters: Sequence[Cluster],
) -> Interval | None:
  """How often what happened has more confidence than what did not.

  Area under the ROC curve: the statistic of Mann and Whitney (1947) over the
  number of pairs, ties counting half. The interval is that of the placements
  of DeLong et al. (1988), robust to clusters, as in Obuchowski (1997).

  Returns:
    None where all of it happened, or nothing.
  """
  happened = np.asarray(happened, bool)
  n, ups = len(happened), int(happened.sum())
  if ups in (0, n):
    return None
  ranks = scipy.stats.rankdata(confidences)
  placed = np.empty(n)
  # The share of the other kind that is below an input, or above it.
  own_ups = scipy.stats.rankdata(np.asarray(confidences)[happened])
  placed[happened] = (ranks[happened] - own_ups) / (n - ups)
  own_downs = scipy.stats.rankdata(np.asarray(confidences)[~happened])
  placed[~happened] = 1 - (ranks[~happened] - own_downs) / ups
  value = float(placed[happened].mean())
  weights = np.where(happened, n / ups, n / (n - ups))
  mean = mean_of_sharing(value + (placed - value) * weights, clusters)
  reach = mean.reach(_LEVEL)
  return Interval(value, max(0.0, value - reach), min(1.0, value + reach))
