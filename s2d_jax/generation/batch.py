"""The batch that is decoded: which request runs in which row, how far it is."""

from __future__ import annotations

from collections.abc import Callable, Container
import itertools
from typing import NamedTuple

import jax
from jaxtyping import Bool
import numpy as np

from s2d_jax.generation import decode as device, prefixes
from s2d_jax.generation.programs import Programs, Shared
from s2d_jax.generation.queue import Prompt, Request
from s2d_jax.generation.sampling import knobs

_SLOTS_PER_PUT = 8
# Rows that are to be free before the host fills them, of all.
_SHARE_FREE = 1 / 16


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


class DecodeBatch:
  """Slots with a prompt each, and their rows, which draw samples of it.

  What is put and seated reaches the devices with `start`.

  Args:
    programs: of the network.
    slots: prompts that there is place for.
    rows_per_slot: samples of a prompt side by side.
    prompt_capacity: tokens of a prompt behind its shared prefix; grows.
    own_capacity: tokens of a row that there is capacity for at first.
    max_own: and at the most.

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
    own_capacity: int,
    max_own: int,
  ):
    self.slots, self.rows = slots, slots * rows_per_slot
    self.steps = 0
    self._programs = programs
    self._rows_per_slot = rows_per_slot
    self._prompt_capacity = prompt_capacity
    self._own_capacity, self._max_own = own_capacity, max_own
    self._state = programs.empty_batch(
      slots, rows_per_slot, prompt_capacity, own_capacity
    )
    self._drawn: device.Drawn | None = None
    self._prompts: list[Prompt | None] = [None] * slots
    self._puts: list[tuple[device.Prefilled, int, int]] = []
    self._requests: list[Request | None] = [None] * self.rows
    self._prefix_ids = np.full(self.rows, prefixes.NONE, np.int32)
    self._counts = np.zeros(self.rows, np.int32)  # tokens drawn
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
    self._counts[row] = 0
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
    steps = self._reserve_own()
    more = [prompt and prompt.tokens in waiting for prompt in self._prompts]
    self._state, self._drawn = self._programs.decode(
      self._state,
      shared,
      self._is_running(),
      np.array(more, bool),
      min(max_steps or self._max_own, steps),
      max(1, int(self.rows * _SHARE_FREE)),
    )

  def collect(self) -> list[Drawn]:
    """Waits for the devices; what each running row has drawn."""
    active, counts, tokens, logprobs, steps = jax.device_get(self._drawn)
    self._drawn = None
    self._counts, self.steps = np.array(counts), int(steps)
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

  def end(self, row: int) -> None:
    """Frees a row."""
    self._requests[row] = None

  def reserve_prompt(self, length: int) -> None:
    """Grows the capacity for prompts if need be."""
    more = length - self._prompt_capacity
    if more > 0:
      self._state = self._programs.extend_prompts(self._state, more)
      self._prompt_capacity = length

  def _reserve_own(self) -> int:
    """Steps that every running row has capacity for, at least one."""
    longest = 0  # of those that may need more
    for count, request in zip(self._counts, self._requests, strict=True):
      if request and request.sampling.max_new_tokens > self._own_capacity:
        longest = max(longest, count)
    if longest == self._own_capacity:
      more = min(self._own_capacity, self._max_own - self._own_capacity)
      self._state = self._programs.extend_own(self._state, more)
      self._own_capacity += more
    return self._own_capacity - longest

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
