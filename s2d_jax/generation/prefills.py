"""The prompts that were prefilled, and when they are forgotten."""

from __future__ import annotations

import collections
from collections.abc import Container, Sequence
import itertools

from s2d_jax.generation.decode import Prefilled
from s2d_jax.generation.queue import Prompt


class PrefillCache:
  """Where prompts lie that were prefilled, by their tokens.

  Passes of a question often rewrite it to the same words, and what is asked
  behind it is then the same prompt again: some prefills stay known although
  nobody waits for them.

  Args:
    kept: how many.
  """

  def __init__(self, kept: int):
    self._kept = kept
    # The oldest prefill comes first.
    self._places: dict[tuple[int, ...], tuple[Prefilled, int]] = {}

  def __contains__(self, tokens: tuple[int, ...]) -> bool:
    return tokens in self._places

  def __getitem__(self, tokens: tuple[int, ...]) -> tuple[Prefilled, int]:
    """The prefill that holds a prompt, and which of its rows."""
    return self._places[tokens]

  def add(self, prompts: Sequence[Prompt], prefilled: Prefilled) -> None:
    """Remembers prompts that were prefilled together, in this order."""
    for index, prompt in enumerate(prompts):
      self._places[prompt.tokens] = prefilled, index

  def forget(self, waiting: Container[tuple[int, ...]]) -> None:
    """Drops the oldest of the prefills that nobody waits for, but a few."""
    together = collections.defaultdict(list)
    for tokens, (prefilled, _) in self._places.items():
      together[id(prefilled)].append(tokens)
    idle = [
      prompts
      for prompts in together.values()
      if not any(tokens in waiting for tokens in prompts)
    ]
    too_many = max(len(idle) - self._kept, 0)
    for tokens in itertools.chain(*idle[:too_many]):
      del self._places[tokens]

  def clear(self) -> None:
    self._places.clear()
