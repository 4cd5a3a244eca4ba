"""The gate: whether a direct answer stands, or System 2 thinks about it.

It learns on validation inputs, those that curation rejected included, how
likely System 2's vote says the same as a direct answer of this confidence. The
map is monotone (isotonic regression), and no label is read.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

from jaxtyping import Bool, Float, Int
import numpy as np
import scipy  # its optimize is loaded where it is used

from s2d_jax.errors import UserError
from s2d_jax.evaluation.members import (
  Cluster,
  count_units,
  mean_of_sharing,
)
from s2d_jax.evaluation.paired import FEWEST
from s2d_jax.gate.confidence import SIGNALS, UNANSWERED, confidence, cost
from s2d_jax.records import Record

_FOLDS = 5
_LEAST_SURE = UNANSWERED / 10  # below every answer, above none


@dataclasses.dataclass(frozen=True)
class Answered:
  """A validation input: the direct answer, and System 2's vote.

  Attributes:
    greedy: the distilled model's greedy reply, a pass of eval/.
    samples: of the distilled model.
    vote: System 2's answer; None where its samples have none.
    vote_tokens: generated for it.
    cluster: of inputs that are right or wrong together.
  """

  greedy: Record
  samples: Sequence[Record]
  vote: str | None
  vote_tokens: float
  cluster: Cluster

  @property
  def agrees(self) -> bool:
    """Whether System 2's vote says the same; no answer agrees with none."""
    answer = self.greedy["answer"]
    return answer is not None and answer == self.vote


@dataclasses.dataclass(frozen=True)
class Gate:
  """A confidence, what it is worth, and where System 2 begins to think.

  Attributes:
    signal: which confidence, a key of `SIGNALS`.
    confidences: of N validation inputs, ascending.
    probabilities: N, that System 2's vote says the same, ascending.
    fast_tokens: N, generated for the direct answer and its confidence.
    slow_tokens: N, generated for System 2's vote.
    least: a direct answer of this confidence stands; below, System 2 thinks.
  """

  signal: str
  confidences: tuple[float, ...]
  probabilities: tuple[float, ...]
  fast_tokens: tuple[float, ...]
  slow_tokens: tuple[float, ...]
  least: float = math.inf

  def confidence(self, greedy: Record, samples: Sequence[Record]) -> float:
    return confidence(self.signal, greedy, samples)

  def probability(self, confidence: float) -> float:
    """That System 2's vote says the same as an answer of this confidence."""
    if confidence == UNANSWERED:
      return 0.0  # also where no validation input was without an answer
    found = np.interp(confidence, self.confidences, self.probabilities)
    return float(found)

  def thinks(self, confidence: float) -> bool:
    return confidence < self.least

  def within(self, budget: float) -> Gate:
    """Thinks as often as `budget` allows, in mean generated tokens an answer.

    Raises:
      UserError: not even the direct answers are as cheap.
    """
    fast = np.mean(self.fast_tokens)
    if budget < fast:
      raise UserError(
        f"a budget of {budget:g} tokens an answer is less than the {fast:.1f}"
        " that a direct answer takes; give more"
      )
    tokens = fast + np.cumsum(self.slow_tokens) / len(self.slow_tokens)
    affordable = int(np.searchsorted(tokens, budget, side="right"))
    return dataclasses.replace(self, least=self._least(affordable))

  def with_share(self, share: float) -> Gate:
    """Within this share of what System 2's vote takes, if that is enough.

    Direct answers that take more stand, all of them.
    """
    fast, slow = np.mean(self.fast_tokens), np.mean(self.slow_tokens)
    return self.within(max(fast, share * slow))

  def agreeing(self, probability: float) -> Gate:
    """Thinks where System 2 says the same with less than this probability."""
    fewer = int(np.searchsorted(self.probabilities, probability, side="left"))
    return dataclasses.replace(self, least=self._least(fewer))

  def _least(self, thought_about: int) -> float:
    """The confidence below which so many validation inputs are, at most."""
    if thought_about == len(self.confidences):
      return math.inf
    if thought_about:
      return self.confidences[thought_about]
    # What is less sure than all of them is an answer, too, and stands.
    return min(self.confidences[0], _LEAST_SURE)

  def to_record(self) -> Record:
    record = dataclasses.asdict(self)
    record["least"] = None if math.isinf(self.least) else self.least
    return record

  @classmethod
  def from_record(cls, record: Record) -> Gate:
    lists = {k: tuple(v) for k, v in record.items() if isinstance(v, list)}
    least = math.inf if record["least"] is None else record["least"]
    return cls(**record | lists | {"least": least})


def too_few(clusters: Sequence[Cluster]) -> str:
  """Why so few inputs are not enough to learn from; empty if they are."""
  units = count_units(clusters) if clusters else 0
  if units >= FEWEST:
    return ""
  return (
    f"the validation split has {units} independent inputs, and a gate needs"
    f" {FEWEST}"
  )


def why_not(answered: Sequence[Answered]) -> str:
  """Why no gate can be learnt from these inputs; empty if it can."""
  agrees = {one.agrees for one in answered}
  if few := too_few([one.cluster for one in answered]):
    return few
  if agrees == {True}:
    return "System 2's vote says the same as every direct answer"
  if agrees == {False}:
    return "System 2's vote says the same as no direct answer"
  return ""


def learn(answered: Sequence[Answered]) -> Gate:
  """The gate of the cheapest signal that predicts inputs it has not seen.

  By the Brier score, the mean square of what is predicted less what is, over
  folds that have no cluster in common. What is worse than the best by no more
  than the standard error of the difference is as good (Breiman et al. 1984).
  """
  most = min(len(one.samples) for one in answered)
  usable = [name for name, one in SIGNALS.items() if one.samples <= most]
  errors = {name: _held_out_errors(name, answered) for name in usable}
  best = min(errors.values(), key=np.mean)
  clusters = [one.cluster for one in answered]

  def is_as_good(name: str) -> bool:
    worse = mean_of_sharing(errors[name] - best, clusters)
    return worse.value <= worse.error

  return _learn(next(filter(is_as_good, usable)), answered)


def _learn(name: str, answered: Sequence[Answered]) -> Gate:
  """Isotonic regression of agreement on one signal."""
  values = [confidence(name, one.greedy, one.samples) for one in answered]
  order = np.argsort(values, kind="stable")
  ranked = [answered[index] for index in order]
  confidences = np.array(values)[order]
  agrees = np.array([one.agrees for one in ranked])
  return Gate(
    signal=name,
    confidences=tuple(confidences.tolist()),
    probabilities=tuple(_isotonic(confidences, agrees).tolist()),
    fast_tokens=tuple(cost(name, o.greedy, o.samples) for o in ranked),
    slow_tokens=tuple(one.vote_tokens for one in ranked),
  )


def _isotonic(
  confidences: Float[np.ndarray, " N"], agrees: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
  """The ascending probabilities that fit best; alike where confidence is."""
  _, which, counts = np.unique(
    confidences, return_inverse=True, return_counts=True
  )
  means = np.bincount(which, agrees) / counts
  fit = scipy.optimize.isotonic_regression(means, weights=counts)
  return fit.x[which]


def _held_out_errors(
  name: str, answered: Sequence[Answered]
) -> Float[np.ndarray, " N"]:
  """Squared errors, each by a gate that has not seen the input's cluster."""
  errors = np.empty(len(answered))
  folds = _folds(answered)
  for fold in np.unique(folds):
    inside = [
      one for one, own in zip(answered, folds, strict=True) if own != fold
    ]
    gate = _learn(name, inside)
    for index in np.flatnonzero(folds == fold):
      one = answered[index]
      found = gate.probability(gate.confidence(one.greedy, one.samples))
      errors[index] = (found - one.agrees) ** 2
  return errors


def _folds(answered: Sequence[Answered]) -> Int[np.ndarray, " N"]:
  """The fold of each input: whole clusters, which take turns."""
  numbers: dict[Cluster, int] = {}
  return (
    np.array(
      [numbers.setdefault(one.cluster, len(numbers)) for one in answered]
    )
    % _FOLDS
  )
