"""Examples packed into rows of one length, so that little is padding.

Axis letters: R rows, T tokens a row, M target slots a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.training.examples import Tokenised

_TARGET_BUCKET = 8  # M is rounded up to a multiple of this


class Rows(NamedTuple):
  """Packed rows; the fields of a batch of rows are the same.

  Padding has segment 0 and weight 0. The hidden state at `target_index`
  predicts `target_token`: it is that of the token before. Slots of targets are
  fewer than tokens, so that the vocabulary is projected only where it is read.
  """

  tokens: Int[np.ndarray, "R T"]
  positions: Int[np.ndarray, "R T"]  # from 0 in each example
  segments: Int[np.ndarray, "R T"]  # from 1 in each row
  target_index: Int[np.ndarray, "R M"]
  target_token: Int[np.ndarray, "R M"]
  target_weight: Float[np.ndarray, "R M"]

  @property
  def padding(self) -> float:
    """Share of the tokens that are padding, 0 … 1."""
    return float((self.segments == 0).mean())

  def take(self, indices: Int[np.ndarray, " I"], size: int) -> Rows:
    """The rows at `indices`, followed by empty rows up to `size` of them."""

    def padded(field: np.ndarray) -> np.ndarray:
      out = np.zeros((size, *field.shape[1:]), field.dtype)
      out[: len(indices)] = field[indices]
      return out

    return Rows(*map(padded, self))


def pack(examples: Mapping[str, Tokenised], row_length: int) -> Rows:
  """Packs named examples into as few rows as first-fit-decreasing finds.

  The longest example goes first, each into the first row with room (Johnson
  1973: at most 11/9 of the fewest rows possible); examples of one length keep
  their order. The same examples give the same rows. Nothing is truncated.

  Raises:
    UserError: an example is longer than `row_length`, or there is none.
  """
  if not examples:
    raise UserError(
      "there are no examples to pack; check that curation kept any"
    )
  for name, example in examples.items():
    if len(example.tokens) > row_length:
      raise UserError(
        f"example {name} has {len(example.tokens)} tokens, more than"
        f" finetune.row_length={row_length}; raise it or drop the example"
      )
  rows = _first_fit_decreasing(list(examples.values()), row_length)
  slots = max(sum(int(e.is_target.sum()) for e in row) for row in rows)
  slots = -(-slots // _TARGET_BUCKET) * _TARGET_BUCKET
  packed = [_lay_out(row, row_length, slots) for row in rows]
  return Rows(*map(np.stack, zip(*packed, strict=True)))


def _first_fit_decreasing(
  examples: list[Tokenised], row_length: int
) -> list[list[Tokenised]]:
  rows: list[list[Tokenised]] = []
  room = np.full(len(examples), row_length)  # of each row, opened or not
  for example in sorted(examples, key=lambda e: -len(e.tokens)):
    row = int(np.argmax(room >= len(example.tokens)))
    room[row] -= len(example.tokens)
    if row == len(rows):
      rows.append([])
    rows[row].append(example)
  return rows


def _lay_out(examples: list[Tokenised], length: int, slots: int) -> Rows:
  """One row, without the leading axis."""
  row = Rows(
    *(np.zeros(length, np.int32) for _ in range(3)),
    *(np.zeros(slots, np.int32) for _ in range(2)),
    np.zeros(slots, np.float32),
  )
  start = filled = 0
  for segment, (tokens, is_target) in enumerate(examples, start=1):
    stop = start + len(tokens)
    row.tokens[start:stop] = tokens
    row.positions[start:stop] = np.arange(len(tokens))
    row.segments[start:stop] = segment
    # Nothing precedes an example's first token, so nothing predicts it.
    targets = np.flatnonzero(is_target[1:]) + 1
    taken = slice(filled, filled + len(targets))
    row.target_index[taken] = start + targets - 1
    row.target_token[taken] = tokens[targets]
    row.target_weight[taken] = 1
    start, filled = stop, taken.stop
  return row
