"""How sure a direct answer seems, by what the model has drawn anyway.

Nothing here reads a label. What a number is worth is learnt on the validation
split (`gate.py`); here larger only means surer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from s2d_jax.records import Record

# Below every answer: a reply in which none can be read.
UNANSWERED = -1e9
# More than a log-probability can make up for.
_DISAGREES = -1e6


class Signal(NamedTuple):
  """A number that is larger for surer answers.

  Attributes:
    told: what it is, in a few words.
    samples: cheap samples that it looks at, besides the greedy reply.
    value: of a greedy reply and of those samples, each with its "answer", its
      "tokens" and its "logprob".
  """

  told: str
  samples: int
  value: Callable[[Record, Sequence[Record]], float]


def _logprob(greedy: Record, samples: Sequence[Record]) -> float:
  return greedy["logprob"]


def _mean_logprob(greedy: Record, samples: Sequence[Record]) -> float:
  return greedy["logprob"] / max(greedy["tokens"], 1)


def _second_sample(greedy: Record, samples: Sequence[Record]) -> float:
  """Those that agree come first, each kind by its log-probability."""
  agrees = samples[0]["answer"] == greedy["answer"]
  return _logprob(greedy, samples) + (0 if agrees else _DISAGREES)


# The cheapest first: of those that predict alike, it is taken.
SIGNALS: Mapping[str, Signal] = {
  "logprob": Signal("log-probability of the reply", 0, _logprob),
  "mean_logprob": Signal("log-probability a token", 0, _mean_logprob),
  "second_sample": Signal(
    "whether a sample gives the same answer", 1, _second_sample
  ),
}


def confidence(name: str, greedy: Record, samples: Sequence[Record]) -> float:
  """Of the greedy reply by the signal `name`; `samples` may be more."""
  if greedy["answer"] is None:
    return UNANSWERED
  return SIGNALS[name].value(greedy, samples)


def taken(name: str, greedy: Record, samples: Sequence[Record]) -> list[Record]:
  """What is drawn for a direct answer and its confidence."""
  return [greedy, *samples[: SIGNALS[name].samples]]


def cost(name: str, greedy: Record, samples: Sequence[Record]) -> int:
  """Tokens that are generated for a direct answer and its confidence."""
  return sum(one["tokens"] for one in taken(name, greedy, samples))
