"""From logits to one token a row: temperature, filters, inverse CDF.

Every number is a traced value a row, so one compiled program serves any mix of
temperatures and filters. B rows, V vocabulary.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.errors import UserError

_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a completion is drawn and where it ends.

  Filters apply in the order top-k, top-p (over what top-k left), min-p.

  Attributes:
    temperature: divides the logits; 0 is greedy.
    top_k: keep the k most likely tokens (and ties); 0 keeps all.
    top_p: keep the smallest set of most likely tokens with at least this
      probability (Holtzman et al. 2019); 1 keeps all.
    min_p: keep tokens at least this fraction as likely as the likeliest (Nguyen
      et al. 2024); 0 keeps all.
    max_new_tokens: the longest completion, the end token included.
    stop: strings that end a completion, or one; the text is cut before them.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  max_new_tokens: int = 64
  stop: tuple[str, ...] = ()

  def __post_init__(self):
    stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
    object.__setattr__(self, "stop", stop)  # frozen
    for name, ok, want in (
      ("temperature", self.temperature >= 0, "0 (greedy) or more"),
      ("top_k", self.top_k >= 0, "0 (off) or more"),
      ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (off)"),
      ("min_p", 0 <= self.min_p <= 1, "from 0 (off) to 1"),
      ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
      ("stop", all(self.stop), "a tuple of strings that are not empty"),
    ):
      if not ok:
        raise UserError(f"{name}={getattr(self, name)!r} must be {want}")


GREEDY = Sampling(temperature=0.0)


def knobs(rows: list[Sampling]) -> dict[str, np.ndarray]:
  """The distribution of each row as arrays [B]."""
  return {
    "temperature": np.array([r.temperature for r in rows], np.float32),
    "top_k": np.array([r.top_k for r in rows], np.int32),
    "top_p": np.array([r.top_p for r in rows], np.float32),
    "min_p": np.array([r.min_p for r in rows], np.float32),
  }


def sample(
  logits: Float[Array, "B V"],
  uniform: Float[Array, " B"],
  knobs: dict[str, Array],
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
  """Draws a token a row and gives its log-probability.

  The log-probability is the model's own: of the untempered, unfiltered
  distribution.

  Args:
    logits: of the next token.
    uniform: a random number a row, at least 0 and below 1.
    knobs: see `knobs`.
  """
  weights = filtered_weights(logits, knobs)
  # Greedy: only the likeliest tokens are left, and the first of them is taken.
  uniform = jnp.where(knobs["temperature"] > 0, uniform, 0.0)
  token = _inverse_cdf(weights, uniform).astype(jnp.int32)
  # Logits that are no numbers may lead anywhere; their log-probability tells.
  token = jnp.minimum(token, logits.shape[-1] - 1)
  below = logits - logits.max(-1, keepdims=True)
  chosen = jnp.take_along_axis(below, token[:, None], axis=-1)
  return token, chosen.squeeze(-1) - jnp.log(jnp.exp(below).sum(-1))


def filtered_weights(
  logits: Float[Array, "B V"], knobs: dict[str, Array]
) -> Float[Array, "B V"]:
  """Unnormalised probabilities: the likeliest token has 1, dropped ones 0."""
  temperature = knobs["temperature"][:, None]
  below = logits - logits.max(-1, keepdims=True)
  weights = jnp.exp(below / jnp.where(temperature > 0, temperature, 1.0))
  threshold = jax.lax.cond(
    jnp.any(knobs["top_k"] > 0) | jnp.any(knobs["top_p"] < 1),
    _nucleus_threshold,
    lambda weights, knobs: jnp.zeros_like(knobs["min_p"]),
    weights,
    knobs,
  )
  threshold = jnp.maximum(threshold, knobs["min_p"])
  threshold = jnp.where(knobs["temperature"] > 0, threshold, 1.0)
  return jnp.where(weights >= threshold[:, None], weights, 0.0)


def _nucleus_threshold(weights, knobs) -> Float[Array, " B"]:
  """The smallest weight that both top-k and top-p keep."""
  k = jnp.where(knobs["top_k"] > 0, knobs["top_k"], weights.shape[-1])
  by_count = _largest_threshold(weights, jnp.ones_like(weights), k)
  kept = jnp.where(weights >= by_count[:, None], weights, 0.0)
  enough = knobs["top_p"] * kept.sum(-1)
  by_mass = _largest_threshold(weights, kept, enough)
  by_mass = jnp.where(knobs["top_p"] < 1, by_mass, 0.0)
  return jnp.maximum(by_count, by_mass)


def _largest_threshold(
  weights, measure, target: Float[Array, " B"]
) -> Float[Array, " B"]:
  """Largest t with sum(measure[weights >= t]) >= target, without sorting.

  Non-negative floats sort like their bits, so 30 halvings of the bit pattern
  between 0 and 1 find t exactly.
  """

  def halve(_, bounds):
    low, high = bounds  # low satisfies the target, high does not
    middle = (low + high) // 2
    t = jax.lax.bitcast_convert_type(middle, jnp.float32)
    kept = weights >= t[:, None]
    enough = jnp.where(kept, measure, 0).sum(-1) >= target
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  one = np.float32(1.0).view(np.int32)
  low = jnp.zeros(target.shape, jnp.int32)
  high = jnp.full(target.shape, one + 1, jnp.int32)
  low, _ = jax.lax.fori_loop(0, 31, halve, (low, high))
  return jax.lax.bitcast_convert_type(low, jnp.float32)


def _inverse_cdf(
  weights: Float[Array, "B V"], uniform: Float[Array, " B"]
) -> Int[Array, " B"]:
  """The token at which the cumulative weight passes uniform * total.

  One random number a row instead of one a token, and two short cumulative
  sums (over blocks, then within a block) instead of one over the vocabulary.
  """
  padding = -weights.shape[-1] % _BLOCK
  weights = jnp.pad(weights, ((0, 0), (0, padding)))
  blocks = weights.reshape(len(weights), -1, _BLOCK)
  block, rest = _first_above(blocks.sum(-1), lambda total: uniform * total)
  inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1).squeeze(1)
  index, _ = _first_above(inside, lambda _: rest)
  return block * _BLOCK + index


def _first_above(weights: Float[Array, "B W"], target_of):
  """First index whose cumulative weight exceeds target, and what is left.

  The target is a function of the total. Rounding can leave it below zero or at
  the total, and make sums grow where nothing is added. So the first index with
  any weight from there on is taken, or else the last one: a dropped token is
  never drawn.
  """
  total = jnp.cumsum(weights, axis=-1)
  target = target_of(total[:, -1])
  index = jnp.sum(total <= target[:, None], axis=-1)
  width = weights.shape[-1]
  has_weight = weights > 0
  from_there = has_weight & (jnp.arange(width) >= index[:, None])
  last = width - 1 - jnp.argmax(has_weight[:, ::-1], axis=-1)
  index = jnp.where(from_there.any(-1), jnp.argmax(from_there, axis=-1), last)
  before = jnp.take_along_axis(total - weights, index[:, None], axis=-1)[:, 0]
  return index, target - before
