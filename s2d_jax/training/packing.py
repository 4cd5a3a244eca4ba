"""Examples packed into rows of one length, so that little is padding.

Examples of a row share their common prefixes: a system message, the question
that several variants ask. A row is then a tree in the order of its depth-first
walk, and a token is attended to by the stretch of the row after it that its
branches fill (`PackedRows.until`). The states of a shared token, and its
contribution to the gradients, are those it would have in each example.

Axis letters: R rows, T tokens a row, M target slots a row.
"""

from __future__ import annotations

import array
import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import hashlib
import heapq
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.flat_examples import FlatExamples

NamedExamples = Mapping[str, Tokenised] | FlatExamples

_TARGET_BUCKET = 8  # M is rounded up to a multiple of this
_TOGETHER = 1 << 12  # rows that are looked at together
_NO_ROW = np.iinfo(np.int64).max


class PackedRows(NamedTuple):
  """Packed rows; the fields of a batch of rows are the same.

  Token i of a row is attended to by itself and those after it up to
  until[i] - 1. Padding has until 0 and weight 0. The hidden state at
  `target_index` predicts `target_token`: it is that of the token before. There
  are fewer target slots than tokens, so that logits are computed only where
  they are needed; a target that n examples share has weight n. All rows are
  kept in as few bytes as the numbers need (`stack`), and some of them are taken
  in 32 bits each (`take`).
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
      out = np.zeros((size, *field.shape[1:]), _wide(field))
      out[: len(indices)] = field[indices]
      return out

    return PackedRows(*map(padded, self))

  def digest(self) -> str:
    """Of all numbers, in 32 bits each."""
    digest = hashlib.sha256()
    for field in self:
      digest.update(str(field.shape).encode())
      for start in range(0, len(field), _TOGETHER):
        some = field[start : start + _TOGETHER]
        digest.update(np.ascontiguousarray(some, _wide(field)))
    return digest.hexdigest()


def _wide(field: np.ndarray) -> type[np.generic]:
  return np.float32 if field.dtype.kind == "f" else np.int32


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


class Places(Sequence[list[Placed]]):
  """Examples in their rows, at eight bytes each.

  Args:
    examples: all of them.
    order: numbers of the examples, in that in which they were given places.
    fit: their places.
  """

  def __init__(
    self, examples: FlatExamples, order: Int[np.ndarray, " N"], fit: _Fit
  ):
    by_row = np.argsort(fit.row, kind="stable")
    self._examples = examples
    self._order, self._shared = order[by_row], fit.shared[by_row]
    self._edges = np.searchsorted(fit.row[by_row], np.arange(fit.rows + 1))

  def __len__(self) -> int:
    return len(self._edges) - 1

  def __getitem__(self, index: int) -> list[Placed]:
    index = range(len(self))[index]  # or an IndexError
    first, end = self._edges[index : index + 2]
    return [
      Placed(self._examples[number], shared)
      for number, shared in zip(
        self._order[first:end], self._shared[first:end].tolist(), strict=True
      )
    ]


def pack(
  examples: NamedExamples, row_length: int, share: bool = True
) -> PackedRows:
  """Packs named examples into few rows, of 32 bits a number: see `arrange`."""
  rows = stack(arrange(examples, row_length, share), row_length)
  return rows.take(np.arange(len(rows.tokens)), len(rows.tokens))


def arrange(
  examples: NamedExamples, row_length: int, share: bool = True
) -> Places:
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
  if not isinstance(examples, FlatExamples):
    examples = FlatExamples(examples.items())
  if not len(examples):
    raise UserError(
      "there are no examples to pack; check that curation kept any"
    )
  lengths = examples.lengths
  too_long = np.flatnonzero(lengths > row_length)
  if too_long.size:
    first = too_long[0]
    raise UserError(
      f"example {examples.name(first)} has {lengths[first]} tokens, more than"
      f" finetune.row_length={row_length}; raise it or drop the example"
    )
  order = np.argsort(-lengths, kind="stable")
  fit = _first_fit(lengths[order], np.zeros_like(order), row_length)
  if share:
    by_tokens = _by_tokens(examples)
    overlaps = _overlaps(examples, by_tokens)
    shared = _first_fit(lengths[by_tokens], overlaps, row_length)
    if shared.rows <= fit.rows:
      order, fit = by_tokens, shared
  return Places(examples, order, fit)


def _by_tokens(examples: FlatExamples) -> Int[np.ndarray, " N"]:
  """Their numbers, in the order of their tokens."""
  common = examples.in_common()  # which tells none from another

  def key(index: int) -> bytes:
    tokens = examples[index].tokens[common:]
    return tokens.astype(f">u{tokens.itemsize}").tobytes()

  return np.array(sorted(range(len(examples)), key=key))


def _overlaps(
  examples: FlatExamples, order: Int[np.ndarray, " N"]
) -> Iterator[int]:
  """What each has in common with the one before it, the first with itself."""
  before = examples[order[0]].tokens
  for index in order:
    tokens = examples[index].tokens
    yield _overlap(before, tokens)
    before = tokens


def _overlap(a: Int[np.ndarray, " T"], b: Int[np.ndarray, " T"]) -> int:
  """Length of the common prefix of two examples."""
  length = min(len(a), len(b))
  differ = np.flatnonzero(a[:length] != b[:length])
  return int(differ[0]) if differ.size else length


class _Fit(NamedTuple):
  """Where examples are: each in a row, with tokens that it shares there."""

  rows: int
  row: Int[np.ndarray, " N"]
  shared: Int[np.ndarray, " N"]


def _first_fit(
  lengths: Iterable[int], overlaps: Iterable[int], row_length: int
) -> _Fit:
  """Each example into the row with space whose last one it shares most with.

  `overlaps` are those of each example with the one before it in the order of
  tokens; with one further before it, it shares the least of those between. So
  rows that share alike stay together: they stand in groups on a stack, those
  that share most on top, and an overlap joins all groups that share more. That
  takes n log² n steps.
  """
  count = 0
  row_of, shared_of = array.array("i"), array.array("i")
  groups = [_AlikeRows(0, row_length)]
  for length, overlap in zip(lengths, overlaps, strict=True):
    length, overlap = int(length), int(overlap)
    while groups[-1].shared > overlap:
      top = groups.pop()
      if groups[-1].shared >= overlap:
        groups[-1].join(top)
      else:
        top.shared = overlap
        groups.append(top)
    row, shared, space = count, 0, row_length  # a new one, if none has it
    for group in reversed(groups):
      found = group.take(length - group.shared)
      if found is not None:
        (row, space), shared = found, group.shared
        break
    count += row == count
    row_of.append(row)
    shared_of.append(shared)
    top = _AlikeRows(length, row_length)
    top.add(row, space - (length - shared))
    groups.append(top)
  of_each = (np.frombuffer(found, np.int32) for found in (row_of, shared_of))
  return _Fit(count, *of_each)


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
  row: Sequence[Placed],
  tokens: Int[np.ndarray, " T"],
  positions: Int[np.ndarray, " T"],
  until: Int[np.ndarray, " T"],
) -> collections.Counter[tuple[int, int]]:
  """Fills in a row; returns the weight of each target, an index and a token."""
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
  return targets


def stack(
  rows: Sequence[Sequence[Placed]], row_length: int, slots: int | None = None
) -> PackedRows:
  """Examples in their places as arrays, of as few bytes as the numbers need.

  Args:
    rows: examples, each with room for it.
    row_length: T.
    slots: M; by default as many as the fullest row needs.
  """
  of_token = rows[0][0].example.tokens.dtype
  of_place = np.min_scalar_type(row_length)
  shape = len(rows), row_length
  tokens = np.zeros(shape, of_token)
  positions, until = (np.zeros(shape, of_place) for _ in range(2))
  counts = np.zeros(len(rows), int)
  places, wanted, weights = (array.array(kind) for kind in "iif")
  for number, row in enumerate(rows):
    targets = _lay_out(row, tokens[number], positions[number], until[number])
    counts[number] = len(targets)
    for (place, token), weight in targets.items():
      places.append(place)
      wanted.append(token)
      weights.append(weight)
  if slots is None:
    slots = -(-counts.max() // _TARGET_BUCKET) * _TARGET_BUCKET
  is_used = np.arange(slots) < counts[:, None]

  def in_slots(values: array.array, kind: np.dtype) -> np.ndarray:
    field = np.zeros(is_used.shape, kind)
    field[is_used] = values
    return field

  return PackedRows(
    tokens,
    positions,
    until,
    in_slots(places, of_place),
    in_slots(wanted, of_token),
    in_slots(weights, np.dtype(np.float32)),
  )
