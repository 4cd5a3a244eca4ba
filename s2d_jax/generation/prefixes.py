"""Token prefixes that many prompts begin with, prefilled once.

A system message or a few worked examples stand in front of every prompt of a
run. Their keys and values lie one after another in one store that all rows of
a batch see through a mask, so a row costs no copy of its prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Llama

NONE = -2  # id of the prefix of a prompt that has none
_PADDING = -1


class PrefixStore:
  """Prefixes by id, and their keys and values side by side.

  Attributes:
    keys_values: [L, 1, K, X, H]; callers make `valid` from `prefix_ids`.
    prefix_ids: whose key each of the X is; padding belongs to nobody.
  """

  def __init__(self, model: Llama):
    self.keys_values = _empty(model)
    self.prefix_ids = np.full(16, _PADDING, np.int32)
    self._prefixes: list[tuple[int, ...]] = []

  def add(
    self,
    tokens: Sequence[int],
    prefill: Callable[[tuple[int, ...]], KeyValues],
  ) -> bool:
    """Prefills a prefix unless it is there already; says whether it was new."""
    tokens = tuple(tokens)
    if not tokens or tokens in self._prefixes:
      return False
    new = prefill(tokens)
    length = new.keys.shape[-2]
    ids = np.full(length, _PADDING, np.int32)
    ids[: len(tokens)] = len(self._prefixes)
    # The padding that the store begins with is in nobody's way.
    old = [self.keys_values] if self._prefixes else []
    known = self.prefix_ids if self._prefixes else self.prefix_ids[:0]
    self.prefix_ids = np.concatenate([known, ids])
    self.keys_values = _join([*old, new])
    self._prefixes.append(tokens)
    return True

  def match(self, tokens: Sequence[int]) -> tuple[int, int]:
    """Id and length of the longest stored proper prefix of `tokens`."""
    tokens = tuple(tokens)
    found, length = NONE, 0
    for prefix_id, prefix in enumerate(self._prefixes):
      size = len(prefix)
      if length < size < len(tokens) and tokens[:size] == prefix:
        found, length = prefix_id, size
    return found, length


@functools.partial(jax.jit, static_argnums=0)
def _empty(model: Llama) -> KeyValues:
  return model.empty_cache(1, 16)._replace(valid=jnp.zeros((1, 1, 1), bool))


@jax.jit
def _join(parts: list[KeyValues]) -> KeyValues:
  """One behind the other; the first row of each, since all rows are alike."""
  keys, values = (
    jnp.concatenate([part[field][:, :1] for part in parts], axis=-2)
    for field in range(2)
  )
  return KeyValues(keys, values, jnp.ones((1, 1, 1), bool))
