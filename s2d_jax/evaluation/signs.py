"""Signs that rounds have gone too far, none of which needs a label.

A model that learns from its own votes gets better, and then worse: it comes to
agree with itself on what is wrong, gives every input the same answer, or stops
thinking and is as sure as before. Each round is compared with the one before
it, or with the first.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Literal, TypeVar

import numpy as np

from s2d_jax.evaluation.members import count_units
from s2d_jax.evaluation.metrics import Interval, share_interval
from s2d_jax.evaluation.paired import FEWEST, Comparison, compare
from s2d_jax.evaluation.results import Score

T = TypeVar("T")

Sign = Literal[
  "kept", "taught", "agreement", "changed", "entropy", "thought", "movement"
]

# A smaller fall is not worth stopping for, however clear many inputs make it.
_FALL = 0.05
# Of two answers that differ one is wrong: if so many differ, one of the rounds
# has a tenth wrong at least. Who thinks better changes few that were clear.
_MOST_CHANGED = 0.2
# exp(entropy) is how many answers there are, if they were equally frequent.
# Half of the entropy is their square root: of yes and no in equal parts 89 %
# would be one of them.
_LEAST_ENTROPY = 0.5
# A thought of less than half of its length is another way to answer: the model
# does at once what it was taught to do at once.
_LEAST_THOUGHT = 0.5
# Each round from the base model moves about as far as the first, and what goes
# on from the last adds up: with more than three times the first, something else
# than the task is being learnt.
_MOST_MOVEMENT = 3.0


@dataclasses.dataclass(frozen=True)
class Decided:
  """What a round found of an input, by its own samples.

  Attributes:
    winner: of its vote; None without one.
    agreement: share of the forms of its example with this winner.
    is_kept: whether curation accepts it.
  """

  winner: str | None
  agreement: float
  is_kept: bool


# Those of a round, by example id and variant.
Decisions = Mapping[tuple[str, str], Decided]
# Likewise, whether each is taught, or held out to choose by.
Taught = Mapping[tuple[str, str], bool]


@dataclasses.dataclass(frozen=True)
class Signs:
  """Of one round.

  Attributes:
    number: of the round.
    kept: share of the inputs that it decided.
    taught: share of the inputs that are taught, with what is believed since
      earlier rounds and without what was dropped for balance.
    agreement: mean over the inputs.
    entropy: of the answers that won, over the inputs, in nats.
    thought: tokens of a sample of System 2, its mean.
    movement: mean KL(base || distilled) of the next token on a text that is
      unrelated to the task, in nats; None where it was not measured.
    fewer_kept: its share of decided inputs against that of the round before,
      on the same inputs with as many samples of each.
    fewer_taught: its share of taught inputs against that of the round before.
    less_agreement: as `fewer_kept`.
    changed: share of the inputs that both decided whose answer is another one;
      None where they are few.
  """

  number: int
  kept: float
  taught: float
  agreement: float
  entropy: float
  thought: float
  movement: float | None = None
  fewer_kept: Comparison | None = None
  fewer_taught: Comparison | None = None
  less_agreement: Comparison | None = None
  changed: Interval | None = None


def signs(
  number: int,
  decisions: Decisions,
  taught: Taught,
  thought: float,
  movement: float | None,
  pair: tuple[Decisions, Decisions] | None = None,
  taught_before: Taught | None = None,
) -> Signs:
  """The signs of a round.

  Args:
    number: of the round.
    decisions: by all of its samples.
    taught: which of the inputs are.
    thought: tokens of a sample of System 2, its mean.
    movement: of the model that was fine-tuned in it.
    pair: the decisions of this round and of the one before it by equally many
      samples of each input; None for the first round.
    taught_before: which were taught in the round before.
  """
  found = list(decisions.values())
  compared = {}
  if pair is not None:
    compared = {
      "fewer_kept": _compare(*pair, lambda one: one.is_kept),
      "less_agreement": _compare(*pair, lambda one: one.agreement),
      "changed": _changed(*pair),
    }
  if taught_before is not None:
    compared["fewer_taught"] = _compare(taught, taught_before, float)
  return Signs(
    number=number,
    kept=sum(one.is_kept for one in found) / len(found),
    taught=sum(taught.values()) / len(taught),
    agreement=sum(one.agreement for one in found) / len(found),
    entropy=entropy([one.winner for one in found]),
    thought=thought,
    movement=movement,
    **compared,
  )


def entropy(winners: Sequence[str | None]) -> float:
  """Of the distribution of answers, in nats; those without one left out."""
  counts = collections.Counter(one for one in winners if one is not None)
  shares = [count / counts.total() for count in counts.values()]
  return -sum(share * math.log(share) for share in shares) + 0.0


def stopping_sign(rounds: Sequence[Signs]) -> tuple[int, Sign] | None:
  """The first round with a sign that is bad, and that sign.

  Args:
    rounds: the signs of each, from the first on.
  """
  for found in rounds[1:]:
    first = rounds[0]
    bad: dict[Sign, bool] = {
      "kept": _fell(found.fewer_kept),
      "taught": _fell(found.fewer_taught),
      "agreement": _fell(found.less_agreement),
      "changed": _is_other(found.changed),
      "entropy": found.entropy < _LEAST_ENTROPY * first.entropy,
      "thought": found.thought < _LEAST_THOUGHT * first.thought,
      "movement": _is_far(found.movement, first.movement),
    }
    for sign, is_bad in bad.items():
      if is_bad:
        return found.number, sign
  return None


def _fell(change: Comparison | None) -> bool:
  return (
    change is not None
    and change.outcome == "worse"
    and change.gain.value <= -_FALL
  )


def _is_other(changed: Interval | None) -> bool:
  return changed is not None and changed.low > _MOST_CHANGED


def _is_far(movement: float | None, first: float | None) -> bool:
  if movement is None or first is None:
    return False
  return movement > _MOST_MOVEMENT * first


def _compare(
  now: Mapping[tuple[str, str], T],
  before: Mapping[tuple[str, str], T],
  value: Callable[[T], float],
) -> Comparison | None:
  """The forms of an example are one cluster."""
  scores = [
    {
      "/".join(name): Score({"value": value(one)}, 0, (), None, name[0])
      for name, one in found.items()
    }
    for found in (now, before)
  ]
  return compare(*scores, lambda _, score: float(score.metrics["value"]))


def _changed(now: Decisions, before: Decisions) -> Interval | None:
  both = [
    name
    for name, one in now.items()
    if name in before and one.is_kept and before[name].is_kept
  ]
  clusters = [example_id for example_id, _ in both]
  if count_units(clusters) < FEWEST:
    return None
  other = [float(now[one].winner != before[one].winner) for one in both]
  return share_interval(np.array(other), clusters)
