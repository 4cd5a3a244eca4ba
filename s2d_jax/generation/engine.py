"""The host side of generation: a queue of requests that keeps a batch full.

    engine = Engine(model, params, tokenizer, eos_ids, rows=128, samples=8, ...)
    engine.submit(Request(prompt, key, Sampling(temperature=0.7), tag))
    while engine.busy:
      for tag, completion in engine.step():
        ...

Requests with the same prompt share its prefill. A row that has ended is filled
again while the others go on, and what has ended is turned into text while the
device draws the next tokens. Each program is compiled once a shape, and the
shapes are the length buckets of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import math
from typing import Any, Literal

from jax.sharding import Mesh
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.generation import prefixes
from s2d_jax.generation.batch import DecodeBatch, Drawn
from s2d_jax.generation.prefills import PrefillCache
from s2d_jax.generation.programs import Programs, Shared
from s2d_jax.generation.queue import PromptQueue, Request
from s2d_jax.generation.shapes import (
  LEAST_CAPACITY,
  bucket,
  is_one_cpu,
  prompts_per_prefill,
  rows_per_slot,
  sizes,
  slots_on_mesh,
)
from s2d_jax.generation.stopping import (
  MOST_TOKENS,
  ReplyEnd,
  StopTable,
  may_span_tokens,
)
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes

# Steps between two polls of the host for stop strings that span tokens.
_STEPS_PER_POLL = 8


def random_key(*parts: str | int) -> int:
  """64 random bits that belong to what `parts` name, on every machine.

  A sample's key is made from its run seed, example, variant, sample and ask:
  its text depends on nothing else, not on batch mates, hosts or restarts.
  """
  name = "\x1f".join(str(part) for part in parts)
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(digest, "big")


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
    prompt_capacity: tokens of a prompt that there is capacity for at once;
      longer prompts make more, and a program is compiled for it.
    mesh: devices to run on; default: the first device.

  Attributes:
    rows: samples drawn at once.
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
    prompt_capacity: int = LEAST_CAPACITY,
    mesh: Mesh | None = None,
  ):
    mesh = mesh or meshes.make_mesh()
    vocab_size = model.config.vocab_size
    self._window = model.config.max_context
    self._max_own = bucket(max_new_tokens)
    self.rows, self._samples, self._slots = rows, samples, slots
    self._prompt_capacity = bucket(prompt_capacity)
    self._sizes = sizes(rows, max_new_tokens, on_cpu=is_one_cpu(mesh))
    self._programs = Programs(model, params, mesh)
    self._ends = ReplyEnd(tokenizer, eos_ids, vocab_size)
    self._stops = StopTable(self._ends, vocab_size)
    self._prefixes = self._programs.empty_prefixes()
    self._shared: Shared | None = None  # of prefixes and stops, as they are now
    self._queue = PromptQueue(self._prefixes.match)
    self._prefills = PrefillCache(self._sizes.prefills_kept)
    self._batch: DecodeBatch | None = None  # shaped by the first prompts
    self._tokens = 0
    self.watch: Callable[[Any, str], None] | None = None

  @property
  def busy(self) -> bool:
    """Whether a completion is still to come."""
    return bool(self._queue or (self._batch and self._batch.running()))

  @property
  def usage(self) -> Usage:
    """Of all steps so far."""
    if self._batch is None:
      return Usage(0, 0, 0)
    return Usage(self._batch.steps, self._batch.rows, self._tokens)

  def share_prefix(self, tokens: Sequence[int]) -> None:
    """Prefills a common prefix once; prompts that begin with it skip it."""
    if self._prefixes.add(tokens, self._prefill_prefix):
      self._shared = None
      # What was prefilled stands behind the prefixes that were known then.
      self._prefills.clear()
      self._queue.match_again()
      if self._batch is not None:
        self._batch.forget_prompts()

  def fits(self, request: Request) -> bool:
    """Whether the prompt and the longest reply fit the model's window."""
    new = request.sampling.max_new_tokens
    return len(request.prompt) + new <= self._window

  def submit(self, request: Request) -> None:
    """Queues a request; raises UserError if it does not fit the window."""
    new = request.sampling.max_new_tokens
    if not request.prompt:
      raise UserError("a prompt has no tokens; give at least one")
    if not self.fits(request):
      raise UserError(
        f"a prompt of {len(request.prompt)} tokens and {new} new ones do not"
        f" fit the model's window of {self._window}; shorten the prompt or"
        " lower max_new_tokens"
      )
    if new > self._max_own:
      raise ValueError(f"max_new_tokens={new} > {self._max_own}")
    known = len(self._stops)
    self._stops.number(request.sampling.stop)
    if len(self._stops) > known:
      self._shared = None
    self._queue.add(request, request.prompt in self._prefills)

  def step(self) -> list[tuple[Any, Completion]]:
    """Gives what has ended since the last step, and keeps the device busy."""
    if self._batch is None or not self._batch.is_decoding:
      self._start()
    ended = self._collect()
    if self._queue:
      # The device goes on while the caller reads. With an empty queue it would
      # go on half full, and what the caller asks next would have to wait.
      self._start()
    return [(one.request.tag, self._completion(one)) for one in ended]

  def _start(self) -> None:
    """Fills the batch and sets the device to draw."""
    if self._queue:
      self._fill()
    polls = self.watch is not None or any(
      may_span_tokens(request.sampling.stop)
      for request in self._batch.running()
    )
    self._batch.decode(
      self._shared_arrays(), self._queue, _STEPS_PER_POLL if polls else None
    )

  def _fill(self) -> None:
    """Gives every row that can have one a request."""
    if self._batch is None:
      self._batch = self._make_batch()
    # Rows whose slot holds what they need.
    for row in self._batch.idle_rows():
      self._seat(row)
    for slot in self._batch.idle_slots():
      if not self._queue:
        break
      prompt = self._queue.first()
      if prompt.tokens not in self._prefills:
        self._prefill(prompt.bucket)
      self._batch.put(slot, prompt, *self._prefills[prompt.tokens])
      for row in self._batch.rows_of(slot):
        self._seat(row)
    self._batch.start(self._stops.number)
    self._prefills.forget(self._queue)

  def _seat(self, row: int) -> None:
    """Gives a row the next request for its slot's prompt, if there is one."""
    prompt = self._batch.prompt_of(row)
    request = prompt and self._queue.take(prompt.tokens)
    if request:
      self._batch.seat(row, request)

  def _prefill(self, length: int) -> None:
    """Prefills the prompts of a bucket that have waited longest."""
    self._prefills.forget(self._queue)
    width = prompts_per_prefill(
      length,
      self._batch.slots,
      self._programs.shards,
      self._sizes.tokens_per_prefill,
    )
    prompts = self._queue.take_to_prefill(length, width)
    tokens = np.zeros((width, length), np.int32)
    lengths, prefix_ids = [1] * width, [prefixes.NONE] * width
    for index, prompt in enumerate(prompts):
      lengths[index], prefix_ids[index] = len(prompt.rest), prompt.prefix_id
      tokens[index, : lengths[index]] = prompt.rest
    self._batch.reserve_prompt(length)
    prefilled = self._programs.prefill(
      tokens, lengths, prefix_ids, self._shared_arrays()
    )
    self._prefills.add(prompts, self._programs.for_decoding(prefilled))

  def _prefill_prefix(self, prefix: tuple[int, ...]) -> KeyValues:
    """In a row for each copy of the model, which has nothing else to do.

    Behind no other prefix, so that one program serves all of a length.
    """
    shards = self._programs.shards
    tokens = np.zeros((shards, bucket(len(prefix))), np.int32)
    tokens[:, : len(prefix)] = prefix
    return self._programs.prefill(
      tokens,
      [len(prefix)] * shards,
      [prefixes.NONE] * shards,
      self._programs.share(self._programs.empty_prefixes(), self._stops.rows),
    ).prompt

  def _shared_arrays(self) -> Shared:
    if self._shared is None:
      self._shared = self._programs.share(self._prefixes, self._stops.rows)
    return self._shared

  def _make_batch(self) -> DecodeBatch:
    """An empty one, shaped by the prompts that wait."""
    lengths = self._queue.buckets()
    per_slot = rows_per_slot(
      int(np.median(lengths)), self._samples, self._max_own
    )
    slots = self._slots or max(1, self.rows // per_slot)
    if self._slots:
      per_slot = self.rows // slots
    return DecodeBatch(
      self._programs,
      slots_on_mesh(
        slots, per_slot, self._programs.shards, self._programs.devices
      ),
      per_slot,
      max(self._prompt_capacity, *lengths),
      self._max_own,
      self._sizes.room,
    )

  def _collect(self) -> list[Drawn]:
    """Waits for the device and takes what has ended off the batch."""
    ended = []
    for drawn in self._batch.collect():
      if drawn.is_over or self._has_stop_string(drawn):
        self._batch.end(drawn.row, len(drawn.tokens))
        self._tokens += len(drawn.tokens)
        ended.append(drawn)
      elif self.watch is not None:
        self.watch(drawn.request.tag, self._ends.text(drawn.tokens.tolist()))
    return ended

  def _has_stop_string(self, drawn: Drawn) -> bool:
    """Whether there is one that the device does not know of."""
    stop = drawn.request.sampling.stop
    if not may_span_tokens(stop):
      return False
    # In what was drawn since the last poll and could be part of one, or a long
    # reply would be read again and again.
    span = _STEPS_PER_POLL + max(map(len, stop)) * MOST_TOKENS
    if self._ends.find(drawn.tokens[-span:], stop) is None:
      return False
    return self._ends.find(drawn.tokens, stop) is not None

  def _completion(self, drawn: Drawn) -> Completion:
    _, request, tokens, logprobs, _ = drawn
    end = self._ends.find(tokens, request.sampling.stop)
    length = end.length if end else len(tokens)
    logprob = float(logprobs[:length].sum())
    if not math.isfinite(logprob):
      raise UserError(
        f"the model's logits are no numbers (log-probability {logprob}) behind"
        f" the prompt {self._ends.text(request.prompt)[:200]!r}; its weights"
        " are broken, or too large for the dtype: try model.dtype=float32"
      )
    return Completion(
      text=end.text if end else self._ends.text(tokens.tolist()),
      tokens=tuple(tokens[:length].tolist()),
      logprob=logprob,
      finish_reason="stop" if end else "length",
    )
