"""Where a reply ends: one rule for the host, and its table for the device.

A reply ends with the first token after which it is over: the token ends it by
itself, or the text up to and including it contains a stop string. An end token
ends a reply by itself, and so does a token whose own text has a stop string in
it. Those stand in the device's table. Stop strings that several tokens spell
are looked for by the host, every few steps; what was drawn since is dropped.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
import functools
from typing import NamedTuple

from jaxtyping import Bool
import numpy as np

from s2d_jax.conversation import special_tokens

_INCOMPLETE = "\ufffd"  # what a character decodes to that lacks some bytes
# Bytes of a character, each of which may be a token.
MOST_TOKENS = 4


class End(NamedTuple):
  """The end of a reply.

  Attributes:
    length: tokens up to and including the one that ends it.
    text: without end token or stop string.
  """

  length: int
  text: str


class ReplyEnd:
  """The rule, for one tokenizer.

  Args:
    tokenizer: a Hugging Face tokenizer.
    end_tokens: those that end every reply.
    vocab_size: of the model, V.
  """

  def __init__(self, tokenizer, end_tokens: Sequence[int], vocab_size: int):
    self._tokenizer = tokenizer
    self._end_tokens = list(end_tokens)
    self._vocab_size = vocab_size
    self._alone: dict[tuple[str, ...], Bool[np.ndarray, " V"]] = {}

  def find(self, tokens: Sequence[int], stop: tuple[str, ...]) -> End | None:
    """The end of the reply that begins with `tokens`; None: it goes on."""
    ends = self.alone(stop)[np.asarray(tokens, np.int64)]
    length = int(ends.argmax()) + 1 if ends.any() else None
    tokens = list(map(int, tokens[:length]))
    if stop and self._before(tokens, stop) is not None:
      length = 1 + bisect.bisect_left(
        range(1, len(tokens)),
        True,
        key=lambda n: self._before(tokens[:n], stop) is not None,
      )
      return End(length, self._before(tokens[:length], stop))
    return length and End(length, self.text(tokens[:-1]))

  def alone(self, stop: tuple[str, ...]) -> Bool[np.ndarray, " V"]:
    """Which tokens end a reply by themselves, whatever stands before them."""
    if stop not in self._alone:
      ends = np.zeros(self._vocab_size, bool)
      ends[self._end_tokens] = True
      if stop:
        for token, text in enumerate(self._token_texts):
          ends[token] |= _first(text, stop) is not None
      self._alone[stop] = ends
    return self._alone[stop]

  def text(self, tokens: Sequence[int]) -> str:
    """What a reader sees of `tokens`: no special ones."""
    return self._decode(tokens, skip_special=True)

  def _before(self, tokens: list[int], stop: tuple[str, ...]) -> str | None:
    """What a reader sees before the first stop string; None: there is none."""
    text = self._complete(tokens, skip_special=True)
    start = _first(text, stop)
    if start is not None:
      return text[:start]
    if self._special.isdisjoint(tokens):
      return None
    return self._before_special(tokens, stop)

  def _before_special(
    self, tokens: list[int], stop: tuple[str, ...]
  ) -> str | None:
    """The same where special tokens are part of the stop string."""
    spelled = self._complete(tokens, skip_special=False)
    start = _first(spelled, stop)
    if start is None:
      return None
    width = lambda n: len(self._complete(tokens[:n], skip_special=False))
    # Tokens that stand before it as a whole, and part of the next.
    whole = bisect.bisect_right(range(len(tokens)), start, key=width) - 1
    text = self._complete(tokens[:whole], skip_special=True)
    if tokens[whole] in self._special:
      return text
    return text + spelled[width(whole) : start]

  def _complete(self, tokens: list[int], skip_special: bool) -> str:
    """The text without a last character that lacks some of its bytes.

    So the text of the first tokens of a reply is the beginning of its text. A
    tokenizer that falls back to bytes spoils those before it too, so up to
    three tokens are left out.
    """
    text = self._decode(tokens, skip_special)
    if not text.endswith(_INCOMPLETE):
      return text
    fewer = range(len(tokens) - 1, max(len(tokens) - MOST_TOKENS, -1), -1)
    texts = [text, *(self._decode(tokens[:n], skip_special) for n in fewer)]
    return max((text.rstrip(_INCOMPLETE) for text in texts), key=len)

  def _decode(self, tokens: Sequence[int], skip_special: bool) -> str:
    # Cleaning up would change spaces that stand there already.
    return self._tokenizer.decode(
      tokens,
      skip_special_tokens=skip_special,
      clean_up_tokenization_spaces=False,
    )

  @functools.cached_property
  def _token_texts(self) -> list[str]:
    count = min(len(self._tokenizer), self._vocab_size)
    texts = self._tokenizer.batch_decode(
      [[token] for token in range(count)], clean_up_tokenization_spaces=False
    )
    return [text.rstrip(_INCOMPLETE) for text in texts]

  @functools.cached_property
  def _special(self) -> frozenset[int]:
    return special_tokens(self._tokenizer)


class StopTable:
  """For the device: which tokens end a reply, by its stop strings.

  Attributes:
    rows: [Z, V], a row for each tuple of stop strings; spare ones are False.
  """

  def __init__(self, ends: ReplyEnd, vocab_size: int):
    self._ends = ends
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
      self.rows[self._numbers[stop]] = self._ends.alone(stop)
    return self._numbers[stop]


def may_span_tokens(stop: tuple[str, ...]) -> bool:
  """Whether the table may miss one of these stop strings.

  An ASCII character is never spread over tokens. A space may be seen only
  behind another token: some tokenizers drop it at the beginning of a text.
  """
  return any(
    len(string) > 1 or string == " " or not string.isascii() for string in stop
  )


def _first(text: str, stop: tuple[str, ...]) -> int | None:
  """Where the first stop string begins."""
  return min((text.find(s) for s in stop if s in text), default=None)
