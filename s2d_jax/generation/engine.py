"""The host side of generation: a queue of requests that keeps a batch full.

    engine = Engine(model, params, tokenizer, eos_ids, rows=128, samples=8, ...)
    engine.submit(Request(prompt, key, Sampling(temperature=0.7), tag))
    while engine.busy:
      for tag, completion in engine.step():
        ...

Requests with the same prompt are read once and share its keys and values. A
row that has ended is filled again while the others go on, and what has ended
is turned into text while the device draws the next tokens. Each program is
compiled once a shape, and the shapes are the length buckets of prompts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import itertools
from typing import Any, Literal

import jax
from jax.sharding import Mesh
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.generation import decode as device, prefixes, stopping
from s2d_jax.generation.sampling import Sampling, knobs
from s2d_jax.models.attention import KeyValues
from s2d_jax.models.llama import Llama, Params, layers_apart, packed
from s2d_jax.parallel import mesh as meshes

# Steps between two polls of the host for stop strings that span tokens.
_STEPS_PER_POLL = 8
# Prompt tokens read at once: enough to keep matrix units busy. A CPU, which
# takes its time for padding too, has enough sooner.
_TOKENS_PER_READ, _TOKENS_PER_READ_CPU = 512, 256
# Prompt tokens that another row to share them pays for.
_TOKENS_PER_SHARER = 32
_SLOTS_PER_PUT = 8
# Rows that are filled at once, of all.
_SHARE_FILLED = 1 / 16
# Own tokens that a batch on a CPU has room for at first: of all rows together,
# and of each at least. All the room is read every step, which a CPU feels; most
# replies end long before their limit, and a program for more room compiles in
# seconds.
_OWN_CPU, _OWN_ROW_CPU = 4096, 32
# Reads that stay known on a CPU although nobody waits for their prompts.
# Elsewhere memory is dearer, and reading is cheap beside drawing.
_READS_KEPT_CPU = 8

# The network is part of the program; engines of equal networks share these.
_prefill = jax.jit(device.prefill, static_argnums=0)
_put_prompts = jax.jit(device.put_prompts, static_argnums=0, donate_argnums=1)
_start_rows = jax.jit(device.start_rows, static_argnums=0, donate_argnums=1)
_decode = jax.jit(device.decode, static_argnums=0, donate_argnums=2)
_empty = jax.jit(device.empty_batch, static_argnums=range(5))
_packed = jax.jit(packed)
_prefixes_apart = jax.jit(device.prefixes_apart)
_lengthen_prompts = jax.jit(device.lengthen_prompts, static_argnums=(0, 2))
_lengthen_own = jax.jit(device.lengthen_own, static_argnums=(0, 2))


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


def rows_per_slot(length: int, samples: int) -> int:
  """How many samples of a prompt stand side by side in a slot: a power of 2.

  The rows of a slot read its prompt once, but the slot takes another prompt
  only when the last of them has ended: short prompts are not worth the wait.

  Args:
    length: tokens of a prompt behind its shared prefix.
    samples: that are drawn of a prompt.
  """
  most = max(1, min(samples, length // _TOKENS_PER_SHARER))
  return 1 << (most.bit_length() - 1)


def prompts_per_read(
  length: int, slots: int, shards: int, tokens: int = _TOKENS_PER_READ
) -> int:
  """Prompts of a bucket that are read at once, as many on each copy."""
  count = min(tokens // length, slots)
  return max(1, count // shards) * shards


def _is_one_cpu(mesh: Mesh) -> bool:
  return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


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
    tokens: up to and including the one that ends it.
    logprob: sum of the log-probabilities of `tokens` under the model itself
      (before temperature and filters), in nats.
    finish_reason: "stop" (end token or stop string) or "length".
  """

  text: str
  tokens: tuple[int, ...]
  logprob: float
  finish_reason: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Usage:
  """What the decode steps of an engine were spent on."""

  steps: int
  rows: int  # of the batch, drawing or not
  tokens: int  # drawn

  @property
  def useful(self) -> float:
    """Share of the row-steps that drew a token, 0 … 1."""
    return self.tokens / max(self.steps * self.rows, 1)


class Engine:
  """Draws completions for requests, `rows` at once.

  Args:
    model: the network.
    params: parameter tree, on the devices of `mesh`.
    tokenizer: a Hugging Face tokenizer.
    eos_ids: tokens that end every completion.
    rows: samples drawn at once.
    samples: how many requests have the same prompt, as a rule.
    slots: prompts in the batch; by default as `rows_per_slot` finds good for
      the first prompts that come.
    max_new_tokens: the most that any request will ask for.
    room: prompt tokens that there is room for at once; longer prompts make
      more, and a program is compiled for it.
    mesh: devices to run on; default: the first device.

  Attributes:
    watch: if set, is told the tag and the text so far of every completion that
      is under way, each time the host polls.
  """

  def __init__(
    self,
    model: Llama,
    params: Params,
    tokenizer,
    eos_ids: Sequence[int],
    *,
    rows: int,
    samples: int = 1,
    slots: int | None = None,
    max_new_tokens: int,
    room: int = 1,
    mesh: Mesh | None = None,
  ):
    self._model = model
    self._params = _packed(params) if model.wide else params
    self._mesh = mesh or meshes.make_mesh()
    self._shards = meshes.batch_shards(self._mesh)
    self._decoder, self._decoder_params = self._model, self._params
    self._own_length = self._own_room = bucket(max_new_tokens)
    self._tokens_per_read, self._reads_kept = _TOKENS_PER_READ, 0
    if _is_one_cpu(self._mesh):
      self._tokens_per_read = _TOKENS_PER_READ_CPU
      self._reads_kept = _READS_KEPT_CPU
      at_first = bucket(max(_OWN_CPU // rows, _OWN_ROW_CPU))
      self._own_room = min(self._own_length, at_first)
      self._decoder = model.clone(apart=True)
      self._decoder_params = layers_apart(self._decoder, self._params)
    self._rows, self._samples, self._slots = rows, samples, slots
    self._room = bucket(room)
    vocab_size = model.config.vocab_size
    self._ends = stopping.ReplyEnd(tokenizer, eos_ids, vocab_size)
    self._stops = stopping.StopTable(self._ends, vocab_size)
    with meshes.use(self._mesh):
      self._prefixes = prefixes.PrefixStore(model.config, model.cache_dtype)
    self._queue: dict[tuple[int, ...], collections.deque[Request]] = {}
    # Of prompts that were read: where they lie. The oldest read comes first.
    self._read: dict[tuple[int, ...], tuple[device.Prefilled, int]] = {}
    self._held: list[tuple[int, ...]] = []  # the prompt of each slot
    self._running: list[Request | None] = []  # in each row
    self._count = np.zeros(0, np.int32)  # tokens that each row has drawn
    self._batch: device.Batch | None = None
    self._drawn: device.Drawn | None = None  # of the rows under way
    # What all rows share, for those who read and for those who draw.
    self._shared: tuple[device.Shared, device.Shared] | None = None
    self._steps = self._tokens = 0
    self.watch: Callable[[Any, str], None] | None = None

  @property
  def busy(self) -> bool:
    """Whether a completion is still to come."""
    return bool(self._queue) or any(r is not None for r in self._running)

  @property
  def usage(self) -> Usage:
    """Of all steps so far."""
    return Usage(self._steps, len(self._running), self._tokens)

  def share_prefix(self, prefix: Sequence[int]) -> None:
    """Reads a common prefix once; prompts that begin with it skip it."""

    def read(prefix: tuple[int, ...]) -> KeyValues:
      # A row for each copy of the model, which has nothing else to do.
      tokens = np.zeros((self._shards, bucket(len(prefix))), np.int32)
      tokens[:, : len(prefix)] = prefix
      lengths = [len(prefix)] * self._shards
      numbers = [prefixes.NONE] * self._shards
      return self._prefill(tokens, lengths, numbers).prompt

    with meshes.use(self._mesh):
      if self._prefixes.add(prefix, read):
        self._shared = None
        # What was read stands behind the prefixes that were known then.
        self._read.clear()
        self._held = [()] * len(self._held)

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
    waiting = self._queue.setdefault(request.prompt, collections.deque())
    waiting.append(request)

  def step(self) -> list[tuple[Any, Completion]]:
    """Gives what has ended since the last step, and keeps the device busy."""
    if self._drawn is None:
      self._start()
    ended = self._collect()
    if self._queue:
      # The device goes on while the caller reads. With an empty queue it would
      # go on half full, and what the caller asks next would have to wait.
      self._start()
    return [(one[0].tag, self._completion(*one)) for one in ended]

  def _start(self) -> None:
    """Fills the batch and sets the device to draw."""
    if self._queue:
      self._fill()
    polls = self.watch is not None or any(
      r and stopping.may_span_tokens(r.sampling.stop) for r in self._running
    )
    room = self._reserve_own()
    with meshes.use(self._mesh):
      self._batch, self._drawn = _decode(
        self._decoder,
        self._decoder_params,
        self._batch,
        self._shared_arrays()[1],
        self._is_running(),
        np.array([prompt in self._queue for prompt in self._held]),
        np.int32(min(_STEPS_PER_POLL if polls else self._own_length, room)),
        np.int32(max(1, int(len(self._running) * _SHARE_FILLED))),
      )

  def _is_running(self) -> np.ndarray:
    return np.array([request is not None for request in self._running], bool)

  def _shared_arrays(self) -> tuple[device.Shared, device.Shared]:
    if self._shared is None:
      whole = meshes.replicated(self._mesh)
      shared = device.Shared(
        self._prefixes.keys_values,
        jax.device_put(self._prefixes.numbers, whole),
        jax.device_put(self._stops.rows, whole),
      )
      apart = _prefixes_apart(shared) if self._decoder.apart else shared
      self._shared = shared, apart
    return self._shared

  def _prefill(self, tokens, lengths, numbers) -> device.Prefilled:
    with meshes.use(self._mesh):
      return _prefill(
        self._model,
        self._params,
        tokens,
        np.array(lengths, np.int32),
        np.array(numbers, np.int32),
        self._shared_arrays()[0],
      )

  def _fill(self) -> None:
    """Gives every row that can have one a request."""
    if self._batch is None:
      self._make_batch()
    before = self._is_running()
    per_slot = len(self._running) // len(self._held)
    # Rows whose slot holds what they need.
    for row in np.flatnonzero(~before):
      self._seat(row, self._held[row // per_slot])
    puts = []
    busy = self._is_running().reshape(-1, per_slot).any(-1)
    for slot in np.flatnonzero(~busy):
      if not self._queue:
        break
      prompt = next(iter(self._queue))
      if prompt not in self._read:
        self._read_next()
      prefilled, source = self._read[prompt]
      puts.append((prefilled, slot, source))
      self._held[slot] = prompt
      for row in range(slot * per_slot, (slot + 1) * per_slot):
        self._seat(row, prompt)
    for _, group in itertools.groupby(puts, key=lambda put: id(put[0])):
      self._put_prompts(list(group))
    fresh = self._is_running() & ~before
    if fresh.any():
      rows = self._describe()
      with meshes.use(self._mesh):
        self._batch = _start_rows(self._decoder, self._batch, fresh, rows)
    self._forget()

  def _seat(self, row: int, prompt: tuple[int, ...]) -> None:
    """Gives a row the next request of a prompt, if there is one."""
    waiting = self._queue.get(prompt)
    if waiting:
      self._running[row] = waiting.popleft()
      self._count[row] = 0
      if not waiting:
        del self._queue[prompt]

  def _put_prompts(self, puts) -> None:
    """Puts prompts that were read together into their slots, some a call."""
    for start in range(0, len(puts), _SLOTS_PER_PUT):
      part = puts[start : start + _SLOTS_PER_PUT]
      slots = np.full(_SLOTS_PER_PUT, len(self._held))  # out of range: nowhere
      sources = np.zeros(_SLOTS_PER_PUT, np.int32)
      slots[: len(part)] = [slot for _, slot, _ in part]
      sources[: len(part)] = [source for _, _, source in part]
      with meshes.use(self._mesh):
        self._batch = _put_prompts(
          self._decoder, self._batch, part[0][0], slots, sources
        )

  def _read_next(self) -> None:
    """Reads prompts that wait: the oldest, and others of its bucket."""
    self._forget()
    lengths = {
      prompt: len(prompt) - self._prefixes.match(prompt)[1]
      for prompt in self._queue
      if prompt not in self._read
    }
    length = bucket(next(iter(lengths.values())))
    width = prompts_per_read(
      length, len(self._held), self._shards, self._tokens_per_read
    )
    prompts = [p for p in lengths if bucket(lengths[p]) == length][:width]
    tokens = np.zeros((width, length), np.int32)
    counts, numbers = [1] * width, [prefixes.NONE] * width
    for index, prompt in enumerate(prompts):
      numbers[index], start = self._prefixes.match(prompt)
      counts[index] = len(prompt) - start
      tokens[index, : counts[index]] = prompt[start:]
    self._reserve(length)
    prefilled = self._prefill(tokens, counts, numbers)
    for index, prompt in enumerate(prompts):
      self._read[prompt] = prefilled, index

  def _forget(self) -> None:
    """Drops the oldest of the reads that nobody waits for, but a few.

    Passes of a question often say the same, and what is asked behind it is then
    the same prompt again.
    """
    reads = collections.defaultdict(list)
    for prompt, (prefilled, _) in self._read.items():
      reads[id(prefilled)].append(prompt)
    idle = [
      prompts
      for prompts in reads.values()
      if not any(prompt in self._queue for prompt in prompts)
    ]
    too_many = max(len(idle) - self._reads_kept, 0)
    for prompt in itertools.chain(*idle[:too_many]):
      del self._read[prompt]

  def _describe(self) -> device.Rows:
    """The running requests as arrays, one entry a row."""
    some = next(request for request in self._running if request is not None)
    rows = [request or some for request in self._running]  # idle: not active
    keys = np.array([row.key for row in rows], np.uint64)
    stops = [self._stops.number(row.sampling.stop) for row in rows]
    return device.Rows(
      active=self._is_running(),
      key=keys[:, None].view(np.uint32),
      limit=np.array([r.sampling.max_new_tokens for r in rows], np.int32),
      prefix=np.array(
        [self._prefixes.match(r.prompt)[0] for r in rows], np.int32
      ),
      stop=np.array(stops, np.int32),
      knobs=knobs([row.sampling for row in rows]),
    )

  def _make_batch(self) -> None:
    """An empty one, shaped by the prompts that wait."""
    lengths = [
      bucket(len(prompt) - self._prefixes.match(prompt)[1])
      for prompt in self._queue
    ]
    per_slot = rows_per_slot(int(np.median(lengths)), self._samples)
    slots = self._slots or max(1, self._rows // per_slot)
    if self._slots:
      per_slot = self._rows // slots
    slots = -(-slots // self._shards) * self._shards
    self._held = [()] * slots
    self._running = [None] * (slots * per_slot)
    self._count = np.zeros(len(self._running), np.int32)
    room = max(self._room, *lengths)
    with meshes.use(self._mesh):
      self._batch = _empty(self._decoder, slots, per_slot, room, self._own_room)

  def _reserve(self, length: int) -> None:
    """Lengthens the room for prompts if need be."""
    room = self._batch.prompt.valid.shape[-1]
    if length > room:
      with meshes.use(self._mesh):
        self._batch = _lengthen_prompts(
          self._decoder, self._batch, length - room
        )

  def _reserve_own(self) -> int:
    """Steps that there is room for in every running row, at least one."""
    longest = 0  # of those that may need more
    for count, request in zip(self._count, self._running, strict=True):
      if request and request.sampling.max_new_tokens > self._own_room:
        longest = max(longest, count)
    if longest == self._own_room:
      more = min(self._own_room, self._own_length - self._own_room)
      with meshes.use(self._mesh):
        self._batch = _lengthen_own(self._decoder, self._batch, more)
      self._own_room += more
    return self._own_room - longest

  def _collect(self) -> list[tuple[Request, np.ndarray, np.ndarray]]:
    """Waits for the device and takes what has ended off the batch."""
    active, count, tokens, logprobs, steps = jax.device_get(self._drawn)
    self._drawn = None
    self._count = np.array(count)
    ended = []
    for row, request in enumerate(self._running):
      if request is None:
        continue
      drawn = tokens[row, : count[row]], logprobs[row, : count[row]]
      if not active[row] or self._is_over(request, drawn[0]):
        ended.append((request, *drawn))
        self._running[row] = None
      elif self.watch is not None:
        self.watch(request.tag, self._ends.text(drawn[0].tolist()))
    self._steps = int(steps)
    self._tokens += sum(len(tokens) for _, tokens, _ in ended)
    return ended

  def _is_over(self, request: Request, tokens: np.ndarray) -> bool:
    """Whether a reply that the device goes on with has ended."""
    stop = request.sampling.stop
    spans = stopping.may_span_tokens(stop)
    return spans and self._ends.find(tokens, stop) is not None

  def _completion(self, request: Request, tokens, logprobs) -> Completion:
    end = self._ends.find(tokens, request.sampling.stop)
    length = end.length if end else len(tokens)
    return Completion(
      text=end.text if end else self._ends.text(tokens.tolist()),
      tokens=tuple(tokens[:length].tolist()),
      logprob=float(logprobs[:length].sum()),
      finish_reason="stop" if end else "length",
    )
