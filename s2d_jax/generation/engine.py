"""The host side of generation: a queue of requests that keeps a batch full.

    engine = Engine(model, params, tokenizer, eos_ids, slots=16, rows=8, ...)
    engine.submit(Request(prompt, key, Sampling(temperature=0.7), tag))
    while engine.busy:
      for tag, completion in engine.step():
        ...

Requests with the same prompt are read once and share its keys and values. A
slot whose rows have all ended is refilled while the others go on. Each program
is compiled once a shape, and the shapes are the length buckets of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any, Literal

import jax
from jax.sharding import Mesh
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.generation import decode as device, prefixes, stopping
from s2d_jax.generation.sampling import Sampling, knobs
from s2d_jax.models.attention import KeyValues
from s2d_jax.models.llama import Llama, Params
from s2d_jax.parallel import mesh as meshes

# Steps between two looks of the host for stop strings that span tokens.
_STEPS_PER_LOOK = 8

# The network is part of the program; engines of equal networks share these.
_prefill = jax.jit(device.prefill, static_argnums=0)
_insert = jax.jit(device.insert, donate_argnums=0)
_decode = jax.jit(device.decode, static_argnums=0, donate_argnums=2)
_empty = jax.jit(device.empty_batch, static_argnums=range(6))
_lengthen = jax.jit(device.lengthen_prompts, static_argnums=1)


def random_key(*parts: str | int) -> int:
  """64 random bits that belong to what `parts` name, on every machine.

  A sample's key is made from its run seed, example, variant, sample and ask:
  its text depends on nothing else, not on batch mates, hosts or restarts.
  """
  name = "\x1f".join(str(part) for part in parts)
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(digest, "big")


def bucket(length: int) -> int:
  """Rounds a length up to 16, 32, 48, 64, 96, 128, 192, 256, …"""
  size = 16
  while size < length:
    if size >= 32 and size * 3 // 2 >= length:
      return size * 3 // 2
    size *= 2
  return size


@dataclasses.dataclass(frozen=True)
class Request:
  """One completion to draw; `tag` comes back with it."""

  prompt: tuple[int, ...]
  key: int
  sampling: Sampling
  tag: Any = None


@dataclasses.dataclass(frozen=True)
class Completion:
  """One reply.

  Attributes:
    text: without end token or stop string.
    tokens: every generated token, the end token too: what the reply cost.
    logprob: sum of the log-probabilities of `tokens` under the model itself
      (before temperature and filters), in nats.
    finish_reason: "stop" (end token or stop string) or "length".
  """

  text: str
  tokens: tuple[int, ...]
  logprob: float
  finish_reason: Literal["stop", "length"]


class Engine:
  """Draws completions for requests, `slots` prompts × `rows` samples at once.

  Args:
    model: the network; its `dtype` is also that of the keys and values.
    params: parameter tree, on the devices of `mesh`.
    tokenizer: a Hugging Face tokenizer.
    eos_ids: tokens that end every completion.
    slots: prompts in the batch.
    rows: samples a prompt in the batch; a prompt with more takes more slots.
    max_new_tokens: the most that any request will ask for.
    mesh: devices to run on; default: the first device.
  """

  def __init__(
    self,
    model: Llama,
    params: Params,
    tokenizer,
    eos_ids: Sequence[int],
    *,
    slots: int,
    rows: int,
    max_new_tokens: int,
    mesh: Mesh | None = None,
  ):
    self._model = model
    self._params = params
    self._tokenizer = tokenizer
    self._mesh = mesh or meshes.make_mesh()
    self._slots, self._rows = slots, rows
    shards = meshes.batch_shards(self._mesh)
    if slots % shards:
      raise UserError(
        f"{slots} prompts at once do not divide over the {shards} copies of"
        " the model; make it a multiple of them"
      )
    # Prompts read at once: some of the slots, as many on each copy.
    self._width = max(1, slots // 4 // shards) * shards
    self._shards = shards
    self._own_length = bucket(max_new_tokens)
    self._eos_ids = frozenset(eos_ids)
    self._stops = stopping.StopTable(
      tokenizer, eos_ids, model.config.vocab_size
    )
    with meshes.use(self._mesh):
      self._prefixes = prefixes.PrefixStore(model.config, model.dtype)
    self._queue: dict[tuple[int, ...], list[Request]] = {}
    self._running: list[Request | None] = [None] * (slots * rows)
    self._batch: device.Batch | None = None
    self._drawn: device.Drawn | None = None
    self._shared: device.Shared | None = None

  @property
  def busy(self) -> bool:
    """Whether a completion is still to come."""
    return bool(self._queue) or any(r is not None for r in self._running)

  def share_prefix(self, prefix: Sequence[int]) -> None:
    """Reads a common prefix once; prompts that begin with it skip it."""

    def read(prefix: tuple[int, ...]) -> KeyValues:
      # A row for each copy of the model, which has nothing else to do.
      tokens = np.zeros((self._shards, bucket(len(prefix))), np.int32)
      tokens[:, : len(prefix)] = prefix
      lengths = [len(prefix)] * self._shards
      numbers = [prefixes.NONE] * self._shards
      return self._read(tokens, lengths, numbers).prompt

    with meshes.use(self._mesh):
      if self._prefixes.add(prefix, read):
        self._shared = None

  def submit(self, request: Request) -> None:
    """Queues a request; raises UserError if it does not fit the window."""
    new, window = (
      request.sampling.max_new_tokens,
      self._model.config.max_context,
    )
    if not request.prompt:
      raise UserError("a prompt has no tokens; give at least one")
    if len(request.prompt) + new > window:
      raise UserError(
        f"a prompt of {len(request.prompt)} tokens and {new} new ones do not"
        f" fit the model's window of {window}; shorten the prompt or lower"
        " max_new_tokens"
      )
    if new > self._own_length:
      raise ValueError(f"max_new_tokens={new} > {self._own_length}")
    known = len(self._stops)
    self._stops.number(request.sampling.stop)
    if len(self._stops) > known:
      self._shared = None
    self._queue.setdefault(request.prompt, []).append(request)

  def step(self) -> list[tuple[Any, Completion]]:
    """Fills free slots, decodes until some are free again, harvests."""
    while self._queue and self._fill():
      pass
    running = [r is not None for r in self._running]
    look = any(
      r and stopping.needs_text(r.sampling.stop) for r in self._running
    )
    steps = _STEPS_PER_LOOK if look else self._own_length
    wanted = min(self._slots, len(self._free_slots()) + self._width)
    with meshes.use(self._mesh):
      self._batch, self._drawn = _decode(
        self._model,
        self._params,
        self._batch,
        self._shared_arrays(),
        np.array(running),
        np.int32(steps),
        np.int32(wanted),
      )
    return self._harvest()

  def _free_slots(self) -> list[int]:
    running = np.array([r is not None for r in self._running])
    return list(np.flatnonzero(~running.reshape(self._slots, -1).any(-1)))

  def _shared_arrays(self) -> device.Shared:
    if self._shared is None:
      whole = meshes.replicated(self._mesh)
      self._shared = device.Shared(
        self._prefixes.keys_values,
        jax.device_put(self._prefixes.numbers, whole),
        jax.device_put(self._stops.rows, whole),
      )
    return self._shared

  def _read(self, tokens, lengths, numbers) -> device.Prefilled:
    with meshes.use(self._mesh):
      return _prefill(
        self._model,
        self._params,
        tokens,
        np.array(lengths, np.int32),
        np.array(numbers, np.int32),
        self._shared_arrays(),
      )

  def _fill(self) -> bool:
    """Reads prompts of one length bucket into free slots; False if none fit."""
    free = self._free_slots()
    prompts, length = self._pick(len(free))
    if not prompts:
      return False
    tokens = np.zeros((self._width, length), np.int32)
    lengths, numbers = [1] * self._width, [prefixes.NONE] * self._width
    slots = np.full(self._slots, self._slots)  # out of range: not filled
    source = np.zeros(self._slots, np.int32)
    filled = 0
    for index, prompt in enumerate(prompts):
      numbers[index], start = self._prefixes.match(prompt)
      lengths[index] = len(prompt) - start
      tokens[index, : lengths[index]] = prompt[start:]
      for group in self._take(prompt, len(free) - filled):
        self._seat(free[filled], group)
        slots[filled], source[filled] = free[filled], index
        filled += 1
    rows = self._describe()
    self._reserve(length)
    prefilled = self._read(tokens, lengths, numbers)
    with meshes.use(self._mesh):
      self._batch = _insert(self._batch, prefilled, slots, source, rows)
    return True

  def _pick(self, free: int) -> tuple[list[tuple[int, ...]], int]:
    """Prompts to read next, oldest first, and their common bucket."""
    picked, length = [], 0
    for prompt, requests in self._queue.items():
      needed = min(-(-len(requests) // self._rows), self._slots)
      size = bucket(self._read_length(prompt))
      if needed > free or length not in (0, size):
        continue
      picked, length, free = picked + [prompt], size, free - needed
      if len(picked) == self._width or not free:
        break
    return picked, length

  def _read_length(self, prompt: tuple[int, ...]) -> int:
    """Tokens of a prompt that stand behind its shared prefix."""
    return len(prompt) - self._prefixes.match(prompt)[1]

  def _take(self, prompt: tuple[int, ...], slots: int) -> list[list[Request]]:
    """Takes a prompt's requests off the queue, a list for each slot."""
    requests = self._queue.pop(prompt)
    room = slots * self._rows
    if len(requests) > room:  # more samples than the whole batch holds
      self._queue[prompt] = requests[room:]
    starts = range(0, min(len(requests), room), self._rows)
    return [requests[start : start + self._rows] for start in starts]

  def _seat(self, slot: int, requests: list[Request]) -> None:
    first = slot * self._rows
    self._running[first : first + len(requests)] = requests

  def _describe(self) -> device.Rows:
    """The running requests as arrays, one entry a row."""
    some = next(request for request in self._running if request is not None)
    rows = [request or some for request in self._running]  # idle: not active
    keys = np.array([row.key for row in rows], np.uint64)
    stops = [self._stops.number(row.sampling.stop) for row in rows]
    return device.Rows(
      active=np.array([r is not None for r in self._running]),
      key=keys[:, None].view(np.uint32),
      limit=np.array([r.sampling.max_new_tokens for r in rows], np.int32),
      prefix=np.array(
        [self._prefixes.match(r.prompt)[0] for r in rows], np.int32
      ),
      stop=np.array(stops, np.int32),
      knobs=knobs([row.sampling for row in rows]),
    )

  def _reserve(self, length: int) -> None:
    """Makes the batch, or lengthens its room for prompts."""
    model = self._model
    if self._batch is None:
      longest = max(map(self._read_length, self._queue), default=0)
      with meshes.use(self._mesh):
        self._batch = _empty(
          model.config,
          model.dtype,
          self._slots,
          self._rows,
          max(length, bucket(longest)),
          self._own_length,
        )
    room = self._batch.prompt.keys.shape[-2]
    if length > room:
      with meshes.use(self._mesh):
        self._batch = _lengthen(self._batch, length - room)

  def _harvest(self) -> list[tuple[Any, Completion]]:
    """Takes what has ended off the batch."""
    active, count, tokens, logprobs = jax.device_get(self._drawn)
    ended = []
    for row, request in enumerate(self._running):
      if request is None:
        continue
      drawn = tokens[row, : count[row]]
      completion = self._completion(request, drawn, logprobs[row])
      if not active[row] or completion.finish_reason == "stop":
        ended.append((request.tag, completion))
        self._running[row] = None
    return ended

  def _completion(self, request, tokens, logprobs) -> Completion:
    stop = request.sampling.stop
    ended = bool(len(tokens)) and int(tokens[-1]) in self._eos_ids
    text = self._tokenizer.decode(
      tokens[:-1] if ended else tokens, skip_special_tokens=True
    )
    text, found = stopping.cut(text, stop)
    return Completion(
      text=text,
      tokens=tuple(tokens.tolist()),
      logprob=float(logprobs[: len(tokens)].sum()),
      finish_reason="stop" if ended or found else "length",
    )
