"""The gate: whether a direct answer stands, or System 2 thinks about it.

It learns on validation inputs, those that curation rejected included, how
likely System 2's vote says the same as a direct answer of this confidence. The
map is monotone (isotonic regression), and no label is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import math

from jaxtyping import Bool, Float
import numpy as np
import scipy  # its optimize is loaded where it is used

from s2d_jax.errors import UserError
from s2d_jax.evaluation.members import Cluster, count_units
from s2d_jax.evaluation.paired import FEWEST
from s2d_jax.gate.confidence import SIGNALS, confidence, cost
from s2d_jax.records import Record

_FOLDS = 5


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
  vote_tokens: int
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
        f"gate.budget={budget:g} is less than the {fast:.1f} tokens that a"
        " direct answer takes; give more, or 0 to have gate.agreement decide"
      )
    tokens = fast + np.cumsum(self.slow_tokens) / len(self.slow_tokens)
    affordable = int(np.searchsorted(tokens, budget, side="right"))
    return dataclasses.replace(self, least=self._least(affordable))

  def agreeing(self, probability: float) -> Gate:
    """Thinks where System 2 says the same with less than this probability."""
    fewer = int(np.searchsorted(self.probabilities, probability, side="left"))
    return dataclasses.replace(self, least=self._least(fewer))

  def _least(self, thought_about: int) -> float:
    """The confidence below which so many validation inputs are, at most."""
    if thought_about == len(self.confidences):
      return math.inf
    return self.confidences[thought_about]

  def to_record(self) -> Record:
    record = dataclasses.asdict(self)
    record["least"] = None if math.isinf(self.least) else self.least
    return record

  @classmethod
  def from_record(cls, record: Record) -> Gate:
    lists = {k: tuple(v) for k, v in record.items() if isinstance(v, list)}
    least = math.inf if record["least"] is None else record["least"]
    return cls(**record | lists | {"least": least})


def why_not(answered: Sequence[Answered]) -> str:
  """Why no gate can be learnt from these inputs; empty if it can."""
  units = count_units([one.cluster for one in answered]) if answered else 0
  if units < FEWEST:
    return (
      f"the validation split has {units} independent inputs, and a gate needs"
      f" {FEWEST}"
    )
  agrees = {one.agrees for one in answered}
  if agrees == {True}:
    return "System 2's vote says the same as every direct answer"
  if agrees == {False}:
    return "System 2's vote says the same as no direct answer"
  return ""


def learn(answered: Sequence[Answered]) -> Gate:
  """The gate of the signal that predicts best inputs it has not seen.

  By the Brier score, the mean square of what is predicted less what is, over
  folds that have no cluster in common.
  """
  errors = {name: _held_out_error(name, answered) for name in SIGNALS}
  best = min(errors, key=errors.get)
  return _learn(best, answered)


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


def _held_out_error(name: str, answered: Sequence[Answered]) -> float:
  errors = []
  for inside, outside in _folds(answered):
    gate = _learn(name, inside)
    for one in outside:
      found = gate.probability(gate.confidence(one.greedy, one.samples))
      errors.append((found - one.agrees) ** 2)
  return float(np.mean(errors))


def _folds(
  answered: Sequence[Answered],
) -> Iterator[tuple[list[Answered], list[Answered]]]:
  """What is learnt from, and what it is tested on: whole clusters."""
  numbers = {one.cluster: None for one in answered}
  fold_of = {name: i % _FOLDS for i, name in enumerate(numbers)}
  for fold in range(_FOLDS):
    inside = [one for one in answered if fold_of[one.cluster] != fold]
    outside = [one for one in answered if fold_of[one.cluster] == fold]
    if inside and outside:
      yield inside, outside
