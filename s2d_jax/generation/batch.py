"""The batch that is decoded: which request runs in which row, how far it is."""

from __future__ import annotations

from collections.abc import Callable, Container
import itertools
import math
from typing import NamedTuple

import jax
from jaxtyping import Bool
import numpy as np

from s2d_jax.generation import decode as device, prefixes
from s2d_jax.generation.programs import Programs, Shared
from s2d_jax.generation.queue import Prompt, Request
from s2d_jax.generation.sampling import knobs
from s2d_jax.generation.shapes import Room

_SLOTS_PER_PUT = 8
# Rows that are to be free before the host fills them, of all: at the most, and
# where replies have so many tokens in the mean. Half of them are idle at any
# time, and the host polls as often as a reply lasts by them, so the best share
# goes by the root of the length.
_SHARE_FREE, _OF_LENGTH = 1 / 16, 64
# Pages that are to be free before steps read fewer, a row.
_SHARE_SPARE = 1 / 4


class Drawn(NamedTuple):
  """What a row has drawn for its request.

  Attributes:
    row: of the batch.
    request: that runs there.
    tokens: drawn so far.
    logprobs: of each of them, in nats.
    is_over: whether the device has ended the row.
  """

  row: int
  request: Request
  tokens: np.ndarray
  logprobs: np.ndarray
  is_over: bool


class _PagesRead:
  """How many pages a step reads: one of few counts, of a shard.

  Each is `growth` times the one before, and those that are used fit into it.

  Args:
    rows: of a shard.
    most: pages of a row.
    room: what there is for replies.
  """

  def __init__(self, rows: int, most: int, room: Room):
    self._counts = [rows * room.pages_per_row]
    while self._counts[-1] < rows * most:
      more = math.ceil(self._counts[-1] * room.growth)
      self._counts.append(min(more, rows * most))
    self._spare = rows * _SHARE_SPARE if room.shrinks else math.inf
    self._number = 0

  @property
  def count(self) -> int:
    return self._counts[self._number]

  def fit(self, used: int, is_full: bool) -> None:
    """Follows the pages that are used on the fullest shard."""
    if is_full:
      self._number += 1
    elif self._number:
      fewer = self._counts[self._number - 1]
      self._number -= used + self._spare <= fewer


class DecodeBatch:
  """Slots with a prompt each, and their rows, which draw samples of it.

  What is put and seated reaches the devices with `start`.

  Args:
    programs: of the network.
    slots: prompts that there is place for.
    rows_per_slot: samples of a prompt side by side.
    prompt_capacity: tokens of a prompt behind its shared prefix; grows.
    max_own: the most tokens of a reply.
    room: pages for replies; grows.

  Attributes:
    slots: how many.
    rows: how many, running or not.
    steps: decoded so far.
    is_decoding: whether the devices were set to decode, and what they draw is
      not collected yet.
  """

  def __init__(
    self,
    programs: Programs,
    slots: int,
    rows_per_slot: int,
    prompt_capacity: int,
    max_own: int,
    room: Room,
  ):
    self.slots, self.rows = slots, slots * rows_per_slot
    self.steps = 0
    self._programs = programs
    self._rows_per_slot = rows_per_slot
    self._prompt_capacity = prompt_capacity
    self._max_own = max_own
    rows = self.rows // programs.shards
    self._pages_read = _PagesRead(rows, -(-max_own // room.page), room)
    self._state, self._pages = programs.empty_batch(
      slots,
      rows_per_slot,
      device.Capacity(
        prompt_capacity, max_own, room.page, self._pages_read.count
      ),
    )
    self._drawn: device.Drawn | None = None
    self._ended = self._ended_tokens = 0  # replies, and their tokens
    self._prompts: list[Prompt | None] = [None] * slots
    self._puts: list[tuple[device.Prefilled, int, int]] = []
    self._requests: list[Request | None] = [None] * self.rows
    self._prefix_ids = np.full(self.rows, prefixes.NONE, np.int32)
    self._fresh = np.zeros(self.rows, bool)

  @property
  def is_decoding(self) -> bool:
    return self._drawn is not None

  def running(self) -> list[Request]:
    """The requests under way."""
    return [request for request in self._requests if request is not None]

  def idle_rows(self) -> list[int]:
    return np.flatnonzero(~self._is_running()).tolist()

  def idle_slots(self) -> list[int]:
    """Those in which no row runs: they may have another prompt."""
    by_slot = self._is_running().reshape(self.slots, -1)
    return np.flatnonzero(~by_slot.any(-1)).tolist()

  def rows_of(self, slot: int) -> range:
    return range(slot * self._rows_per_slot, (slot + 1) * self._rows_per_slot)

  def prompt_of(self, row: int) -> Prompt | None:
    """The prompt in a row's slot."""
    return self._prompts[row // self._rows_per_slot]

  def forget_prompts(self) -> None:
    """No row that is idle shall go on with the prompt of its slot."""
    self._prompts = [None] * self.slots

  def put(
    self, slot: int, prompt: Prompt, prefilled: device.Prefilled, source: int
  ) -> None:
    """Puts a prompt, which is `source` of those prefilled, into a slot."""
    self._prompts[slot] = prompt
    self._puts.append((prefilled, slot, source))

  def seat(self, row: int, request: Request) -> None:
    """Gives a row a request for the prompt of its slot."""
    self._requests[row] = request
    self._prefix_ids[row] = self.prompt_of(row).prefix_id
    self._fresh[row] = True

  def start(self, stop_number: Callable[[tuple[str, ...]], int]) -> None:
    """Starts what was seated; `stop_number` gives rows of the stop table."""
    for _, group in itertools.groupby(self._puts, key=lambda put: id(put[0])):
      self._put_prompts(list(group))
    self._puts = []
    if self._fresh.any():
      rows = self._describe(stop_number)
      self._state = self._programs.start_rows(self._state, self._fresh, rows)
      self._fresh = np.zeros(self.rows, bool)

  def decode(
    self,
    shared: Shared,
    waiting: Container[tuple[int, ...]],
    max_steps: int | None,
  ) -> None:
    """Sets the devices to draw, until enough rows are free to be filled.

    Args:
      shared: what all rows share.
      waiting: prompts that there are more requests for.
      max_steps: after which they stop anyway; None: when they must.
    """
    self._reserve_pages()
    more = [prompt and prompt.tokens in waiting for prompt in self._prompts]
    self._state, self._pages, self._drawn = self._programs.decode(
      self._pages_read.count,
      self._state,
      self._pages,
      shared,
      self._is_running(),
      np.array(more, bool),
      max_steps or self._max_own,
      self._rows_to_free(),
    )

  def collect(self) -> list[Drawn]:
    """Waits for the devices; what each running row has drawn."""
    active, counts, tokens, logprobs, steps, used, is_full = jax.device_get(
      self._drawn
    )
    self._drawn, self.steps = None, int(steps)
    self._pages_read.fit(int(used.max()), bool(is_full))
    return [
      Drawn(
        row,
        request,
        tokens[row, : counts[row]],
        logprobs[row, : counts[row]],
        not active[row],
      )
      for row, request in enumerate(self._requests)
      if request is not None
    ]

  def end(self, row: int, tokens: int) -> None:
    """Frees a row that has drawn so many tokens."""
    self._requests[row] = None
    self._ended += 1
    self._ended_tokens += tokens

  def reserve_prompt(self, length: int) -> None:
    """Grows the capacity for prompts if need be."""
    more = length - self._prompt_capacity
    if more > 0:
      self._state = self._programs.extend_prompts(self._state, more)
      self._prompt_capacity = length

  def _rows_to_free(self) -> int:
    """How many rows are to end before the host is asked."""
    length = self._ended_tokens / max(self._ended, 1)
    share = _SHARE_FREE * math.sqrt(_OF_LENGTH / max(length, _OF_LENGTH))
    return max(1, int(self.rows * share))

  def _reserve_pages(self) -> None:
    """There are as many pages as are to be read."""
    more = self._pages_read.count - self._pages.row.shape[1]
    if more > 0:
      self._pages = self._programs.extend_own(self._pages, more)

  def _is_running(self) -> Bool[np.ndarray, " B"]:
    return np.array([request is not None for request in self._requests], bool)

  def _put_prompts(self, puts: list[tuple[device.Prefilled, int, int]]) -> None:
    """Of one prefill, some a call."""
    for start in range(0, len(puts), _SLOTS_PER_PUT):
      part = puts[start : start + _SLOTS_PER_PUT]
      slots = np.full(_SLOTS_PER_PUT, self.slots)  # out of range: nowhere
      sources = np.zeros(_SLOTS_PER_PUT, np.int32)
      slots[: len(part)] = [slot for _, slot, _ in part]
      sources[: len(part)] = [source for _, _, source in part]
      self._state = self._programs.put_prompts(
        self._state, part[0][0], slots, sources
      )

  def _describe(
    self, stop_number: Callable[[tuple[str, ...]], int]
  ) -> device.RowSettings:
    """The running requests as arrays, one entry a row."""
    some = self.running()[0]
    rows = [request or some for request in self._requests]  # idle: not active
    keys = np.array([row.key for row in rows], np.uint64)
    stops = [stop_number(row.sampling.stop) for row in rows]
    return device.RowSettings(
      active=self._is_running(),
      key=keys[:, None].view(np.uint32),
      limit=np.array([r.sampling.max_new_tokens for r in rows], np.int32),
      prefix=self._prefix_ids.copy(),  # it changes while the devices read
      stop=np.array(stops, np.int32),
      knobs=knobs([row.sampling for row in rows]),
    )
