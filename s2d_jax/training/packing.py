"""Examples packed into rows of one length, so that little is padding.

Examples of a row share their common prefixes: a system message, the question
that several variants ask. A row is then a tree in the order of its depth-first
walk, and a token is attended to by the stretch of the row after it that its
branches fill (`PackedRows.until`). The states of a shared token, and its
contribution to the gradients, are those it would have in each example.

Axis letters: R rows, T tokens a row, M target slots a row.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import heapq
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.training.examples import Tokenised

_TARGET_BUCKET = 8  # M is rounded up to a multiple of this
_NO_ROW = np.iinfo(np.int64).max


class PackedRows(NamedTuple):
  """Packed rows; the fields of a batch of rows are the same.

  Token i of a row is attended to by itself and those after it up to
  until[i] - 1. Padding has until 0 and weight 0. The hidden state at
  `target_index` predicts `target_token`: it is that of the token before. There
  are fewer target slots than tokens, so that logits are computed only where
  they are needed; a target that n examples share has weight n.
  """

  tokens: Int[np.ndarray, "R T"]
  positions: Int[np.ndarray, "R T"]  # from 0 in each example
  until: Int[np.ndarray, "R T"]
  target_index: Int[np.ndarray, "R M"]
  target_token: Int[np.ndarray, "R M"]
  target_weight: Float[np.ndarray, "R M"]

  @property
  def padding(self) -> float:
    """Share of the tokens that are padding, 0 … 1."""
    return float((self.until == 0).mean())

  def take(self, indices: Int[np.ndarray, " I"], size: int) -> PackedRows:
    """The rows at `indices`, followed by empty rows up to `size` of them."""

    def padded(field: np.ndarray) -> np.ndarray:
      out = np.zeros((size, *field.shape[1:]), field.dtype)
      out[: len(indices)] = field[indices]
      return out

    return PackedRows(*map(padded, self))


class OnPolicyRows(NamedTuple):
  """The same replies in rows of the student, and in rows of its teacher.

  Slot j of a row is the same token of the same reply in both.
  """

  student: PackedRows
  teacher: PackedRows

  @property
  def until(self) -> Int[np.ndarray, "R T"]:
    """Of the rows that are learnt from."""
    return self.student.until

  @property
  def target_weight(self) -> Float[np.ndarray, "R M"]:
    return self.student.target_weight


class Placed(NamedTuple):
  """An example in its row, and the tokens it shares with the one before."""

  example: Tokenised
  shared: int


def pack(
  examples: Mapping[str, Tokenised], row_length: int, share: bool = True
) -> PackedRows:
  """Packs named examples into few rows: see `arrange`."""
  return stack(arrange(examples, row_length, share), row_length)


def arrange(
  examples: Mapping[str, Tokenised], row_length: int, share: bool = True
) -> list[list[Placed]]:
  """Gives named examples places in few rows. Nothing is truncated.

  Either the examples are sorted by their tokens, so that common prefixes follow
  each other, and each goes into the first row that has space for it and whose
  last example shares most with it. Or the longest goes first, each into the
  first row that has space, and nothing is shared (first-fit decreasing, Johnson
  1973: at most 11/9 of the fewest rows possible). The one with fewer rows is
  taken. The same examples give the same rows.

  Args:
    examples: by name.
    row_length: T.
    share: whether examples may share tokens. Not all attention kernels can
      (`attention.OF_SEGMENTS`).

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
  by_length = sorted(examples.values(), key=lambda e: -len(e.tokens))
  rows = _first_fit(by_length, [0] * len(by_length), row_length)
  if share:
    by_tokens = sorted(examples.values(), key=_sort_key)
    pairs = zip([by_tokens[0], *by_tokens], by_tokens, strict=False)
    overlaps = [_overlap(a.tokens, b.tokens) for a, b in pairs]
    rows = min(_first_fit(by_tokens, overlaps, row_length), rows, key=len)
  return rows


def _sort_key(example: Tokenised) -> bytes:
  """Orders examples by their tokens, at few bytes each."""
  return example.tokens.astype(">u4").tobytes()


def _overlap(a: Int[np.ndarray, " T"], b: Int[np.ndarray, " T"]) -> int:
  """Length of the common prefix of two examples."""
  length = min(len(a), len(b))
  differ = np.flatnonzero(a[:length] != b[:length])
  return int(differ[0]) if differ.size else length


def _first_fit(
  examples: Sequence[Tokenised], overlaps: Sequence[int], row_length: int
) -> list[list[Placed]]:
  """Each example into the row with space whose last one it shares most with.

  `overlaps` are those of each example with the one before it in the order of
  tokens; with one further before it, it shares the least of those between. So
  rows that share alike stay together: they stand in groups on a stack, those
  that share most on top, and an overlap joins all groups that share more. That
  takes n log² n steps.
  """
  rows: list[list[Placed]] = []
  groups = [_AlikeRows(0, row_length)]
  for example, overlap in zip(examples, overlaps, strict=True):
    while groups[-1].shared > overlap:
      top = groups.pop()
      if groups[-1].shared >= overlap:
        groups[-1].join(top)
      else:
        top.shared = overlap
        groups.append(top)
    length = len(example.tokens)
    row, shared, space = len(rows), 0, row_length  # a new one, if none has it
    for group in reversed(groups):
      found = group.take(length - group.shared)
      if found is not None:
        (row, space), shared = found, group.shared
        break
    if row == len(rows):
      rows.append([])
    rows[row].append(Placed(example, shared))
    top = _AlikeRows(length, row_length)
    top.add(row, space - (length - shared))
    groups.append(top)
  return rows


class _AlikeRows:
  """Rows that share as many tokens with an example, by the space they have."""

  def __init__(self, shared: int, row_length: int):
    self.shared = shared
    self._by_space: dict[int, list[int]] = {}  # heaps of rows
    self._first = np.full(row_length + 1, _NO_ROW)  # of each heap
    self._count = 0

  def add(self, row: int, space: int) -> None:
    heap = self._by_space.setdefault(space, [])
    heapq.heappush(heap, row)
    self._first[space] = heap[0]
    self._count += 1

  def take(self, needed: int) -> tuple[int, int] | None:
    """The first row with so much space, and its space; it is in here no more.

    None if there is no such row.
    """
    spaces = self._first[needed:]
    space = needed + int(np.argmin(spaces))
    row = int(self._first[space])
    if row == _NO_ROW:
      return None
    heap = self._by_space[space]
    heapq.heappop(heap)
    self._first[space] = heap[0] if heap else _NO_ROW
    self._count -= 1
    return row, space

  def join(self, others: _AlikeRows) -> None:
    """Takes in other rows, which are gone after it; the fewer move."""
    fewer = others._by_space
    if others._count > self._count:
      fewer = self._by_space
      self._by_space, self._first = others._by_space, others._first
      self._count = others._count
    for space, heap in fewer.items():
      for row in heap:
        self.add(row, space)


def in_order(examples: Sequence[Tokenised], share: bool) -> list[Placed]:
  """Places for all examples of a row, in this order.

  An example shares what it has in common with the one before, but no target,
  and no token that predicts one: each target is that of one example.
  """
  places = []
  before = None
  for example in examples:
    shared = 0
    if share and before is not None:
      first_target = min(e.is_target.argmax() for e in (before, example))
      common = _overlap(before.tokens, example.tokens)
      shared = max(0, min(common, int(first_target) - 1))
    places.append(Placed(example, shared))
    before = example
  return places


def _lay_out(
  row: Sequence[Placed], length: int
) -> tuple[list[Int[np.ndarray, " T"]], collections.Counter]:
  """Tokens, positions and until; and the weight of each target.

  A target is its index and its token.
  """
  tokens, positions, until = fields = [
    np.zeros(length, np.int32) for _ in range(3)
  ]
  targets = collections.Counter()
  path = np.zeros(0, int)  # where each token of the example stands
  filled = 0
  for example, shared in row:
    stop = filled + len(example.tokens) - shared
    path = np.concatenate([path[:shared], np.arange(filled, stop)])
    tokens[path] = example.tokens
    positions[path] = np.arange(len(path))
    until[path] = stop
    # Nothing precedes an example's first token, so nothing predicts it.
    learnt = np.flatnonzero(example.is_target[1:])
    learnt_tokens = example.tokens[learnt + 1].tolist()
    targets.update(zip(path[learnt].tolist(), learnt_tokens, strict=True))
    filled = stop
  return fields, targets


def stack(
  rows: Sequence[Sequence[Placed]], row_length: int, slots: int | None = None
) -> PackedRows:
  """Examples in their places as arrays.

  Args:
    rows: examples, each with room for it.
    row_length: T.
    slots: M; by default as many as the fullest row needs.
  """
  laid_out = [_lay_out(row, row_length) for row in rows]
  if slots is None:
    most = max(len(targets) for _, targets in laid_out)
    slots = -(-most // _TARGET_BUCKET) * _TARGET_BUCKET
  stacked = []
  for fields, targets in laid_out:
    index, token = np.zeros((2, slots), np.int32)
    weight = np.zeros(slots, np.float32)
    for slot, ((at, wanted), examples) in enumerate(targets.items()):
      index[slot], token[slot], weight[slot] = at, wanted, examples
    stacked.append([*fields, index, token, weight])
  return PackedRows(*map(np.stack, zip(*stacked, strict=True)))
