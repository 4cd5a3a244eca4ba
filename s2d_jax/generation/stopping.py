"""Where a completion ends: end tokens and stop strings.

The device stops a row at a token; which tokens those are stands in a table
with a row for each distinct tuple of stop strings. A stop string that lies
inside one token is such a token. One that can be spread over several tokens
is looked for by the host, every few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools

import numpy as np


class StopTable:
  """Numbers the tuples of stop strings, and knows the tokens that end each."""

  def __init__(self, tokenizer, eos_ids: Sequence[int], vocab_size: int):
    self._tokenizer = tokenizer
    self._eos_ids = list(eos_ids)
    self._vocab_size = vocab_size
    self._numbers: dict[tuple[str, ...], int] = {}
    self.rows = np.zeros((4, vocab_size), bool)

  def __len__(self) -> int:
    return len(self._numbers)

  def number(self, stop: tuple[str, ...]) -> int:
    """The table's row for these stop strings; makes it on first sight."""
    if stop not in self._numbers:
      self._numbers[stop] = len(self._numbers)
      if len(self._numbers) > len(self.rows):
        self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
      self.rows[self._numbers[stop]] = self._ends(stop)
    return self._numbers[stop]

  def _ends(self, stop: tuple[str, ...]) -> np.ndarray:
    ends = np.zeros(self._vocab_size, bool)
    ends[self._eos_ids] = True
    if stop:
      for token, text in enumerate(self._token_texts):
        ends[token] |= any(string in text for string in stop)
    return ends

  @functools.cached_property
  def _token_texts(self) -> list[str]:
    count = min(len(self._tokenizer), self._vocab_size)
    return self._tokenizer.batch_decode([[token] for token in range(count)])


def needs_text(stop: tuple[str, ...]) -> bool:
  """Whether a stop string may be spread over several tokens."""
  return any(len(string) > 1 for string in stop)


def cut(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
  """The text before the first stop string, and whether there was one."""
  found = [text.find(string) for string in stop if string in text]
  return (text[: min(found)], True) if found else (text, False)
