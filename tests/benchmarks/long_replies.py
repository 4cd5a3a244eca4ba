"""Drives the engine with replies of drawn lengths, as thoughts have them.

python -m tests.benchmarks.long_replies --limit=32768

The engine, its queue and its batch are the real ones; in place of the devices
stands a model of them that computes no token: it counts steps, rows and pages
as the programs do, and a reply ends when it has the length that was drawn for
it, which the host does not know. Beside it stands what static batches of the
same replies would need: as many rows, each with room for the limit, which all
wait for the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math
import types
from unittest import mock

from absl import app, flags
import numpy as np

from s2d_jax.generation import batch as batches, engine as engines, shapes
from s2d_jax.generation.decode import Drawn
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling

_ROWS = flags.DEFINE_integer("rows", 128, "Replies drawn at once.", 1)
_SHARDS = flags.DEFINE_integer("shards", 1, "Copies of the model.", 1)
_PROMPTS = flags.DEFINE_integer("prompts", 1024, "Different prompts.", 1)
_SAMPLES = flags.DEFINE_integer("samples", 8, "Replies a prompt.", 1)
_PROMPT = flags.DEFINE_integer("prompt", 192, "Tokens of a prompt.", 1)
_SHORTEST = flags.DEFINE_integer("shortest", 100, "Tokens of a reply.", 1)
_LONGEST = flags.DEFINE_integer("longest", 8000, "Tokens of a reply.", 1)
_LIMIT = flags.DEFINE_integer("limit", 8192, "max_new_tokens.", 1)


@dataclasses.dataclass(frozen=True)
class Workload:
  """Replies to draw.

  Attributes:
    rows: drawn at once.
    shards: copies of the model, over which rows are spread.
    lengths: of each reply, by prompt and sample.
    prompt: tokens of a prompt.
    limit: the longest reply that is allowed.
  """

  rows: int
  shards: int
  lengths: np.ndarray
  prompt: int
  limit: int


@dataclasses.dataclass
class Figures:
  """What it took.

  Attributes:
    useful: share of the row-steps that drew a token.
    useful_while_waiting: the same until no request waited any more.
    polls: of the host, a thousand steps.
    programs: that would be compiled.
    read: tokens of replies whose keys and values a step reads, in the mean.
    used: tokens of replies under way, in the mean over all steps.
    room: tokens of replies that there was room for, at the most.
    copies: of all keys and values of replies, to have more room.
    copied: tokens that these copied, of each that was drawn.
  """

  useful: float
  useful_while_waiting: float
  polls: float = 0.0
  programs: int | None = None
  read: float = 0.0
  used: float = 0.0
  room: int = 0
  copies: int = 0
  copied: float = 0.0


def lengths(
  prompts: int, samples: int, shortest: int, longest: int
) -> np.ndarray:
  """Log-uniform: as many between 100 and 200 tokens as from 4,000 to 8,000."""
  rng = np.random.default_rng(0)
  ends = math.log(shortest), math.log(longest + 1)
  return np.exp(rng.uniform(*ends, (prompts, samples))).astype(int)


def static_batches(work: Workload) -> Figures:
  """The peer: the rows of a batch begin together and wait for the longest."""
  replies = work.lengths.reshape(-1)
  groups = [
    replies[start : start + work.rows]
    for start in range(0, len(replies), work.rows)
  ]
  steps = sum(int(group.max()) for group in groups)
  seen = sum((group**2 / 2).sum() for group in groups)  # tokens × steps
  useful = replies.sum() / (steps * work.rows)
  room = work.rows * work.limit
  return Figures(useful, useful, read=room, used=seen / steps, room=room)


class _Devices:
  """Stands in for `Programs`: counts what the devices would do."""

  def __init__(self, work: Workload, lengths: dict[int, int]):
    self.shards = self.devices = work.shards
    self._lengths = lengths
    self._count = np.zeros(work.rows, int)
    self._active = np.zeros(work.rows, bool)
    self._length = np.zeros(work.rows, int)
    self._programs = set()
    self._read = self._used = self._copied = 0
    self._waiting = (0, 0)  # row-steps that drew a token, and steps
    self.step = self.drawn = self.polls = self.copies = 0

  def empty_prefixes(self):
    return types.SimpleNamespace(match=lambda tokens: (-2, 0))

  def share(self, *unused):
    return None

  def prefill(self, tokens, *unused):
    self._programs.add(("prefill", tokens.shape))
    return tokens.shape

  def for_decoding(self, prefilled):
    return prefilled

  def empty_batch(self, slots, rows, capacity):
    assert slots * rows == len(self._count)
    self._programs.add("empty")
    self._page, self._most = capacity.page, capacity.own
    self._prompt = capacity.prompt
    return None, self._held(capacity.pages)

  def _held(self, pages: int):
    self.pages = pages  # of a shard
    return types.SimpleNamespace(row=np.empty((self.shards, pages), np.int8))

  def put_prompts(self, state, prefilled, *unused):
    self._programs.add(("put", self._prompt, prefilled))

  def extend_prompts(self, state, more):
    self._programs.add(("extend prompts", self._prompt, more))
    self._prompt += more

  def extend_own(self, held, more):
    self._programs.add(("extend", self.pages, more))
    self.copies += 1
    self._copied += self.pages * self.shards * self._page
    return self._held(self.pages + more)

  def start_rows(self, state, fresh, rows):
    self._programs.add(("start", self._prompt))
    keys = rows.key.view(np.uint64)[:, 0]
    drawn = np.array([self._lengths[int(key)] for key in keys])
    self._length = np.where(fresh, drawn, self._length)
    self._count[fresh] = 0
    self._active |= fresh

  def decode(self, read, state, held, shared, keep, more, most, wanted):
    """Draws as `decode.decode` does, a step after the other."""
    self._programs.add(("decode", read, self.pages, self._prompt))
    self.polls += 1
    self._active &= keep
    by_slot = lambda x: x.reshape(len(more), -1)
    by_shard = lambda x: x.reshape(self.shards, -1).sum(-1)
    may_go_on = lambda idle: (
      idle & (more[:, None] | idle.all(-1, keepdims=True))
    )
    free = lambda: may_go_on(by_slot(~self._active)).sum()
    enough, last = free() + wanted, self.step + most
    while True:
      begun = self._active & (self._count > 0)
      used = by_shard(np.where(begun, -(-self._count // self._page), 1))
      needs = by_shard(begun & (self._count % self._page == 0))
      is_full = bool((used + needs > read).any())
      if is_full or free() >= enough or self.step == last:
        break
      if not self._active.any():
        break
      self._used += int(self._count[self._active].sum())
      self._read += read * self.shards * self._page
      self.drawn += int(self._active.sum())
      self.step += 1
      self._count += self._active
      self._active &= self._count < self._length
    if more.any():
      self._waiting = self.drawn, self.step
    shape = len(self._count), self._most
    nothing = np.broadcast_to(np.zeros(1, np.float32), shape)
    drawn = Drawn(
      active=self._active.copy(),
      count=self._count.copy(),
      tokens=nothing.astype(np.int8, copy=False),
      logprobs=nothing,
      step=self.step,
      pages=used,
      is_full=is_full,
    )
    return state, held, drawn

  def figures(self) -> Figures:
    rows = len(self._count)
    drawn, steps = self._waiting
    return Figures(
      useful=self.drawn / (self.step * rows),
      useful_while_waiting=drawn / max(steps * rows, 1),
      polls=self.polls / self.step * 1000,
      programs=len(self._programs),
      read=self._read / self.step,
      used=self._used / self.step,
      room=self.pages * self.shards * self._page,
      copies=self.copies,
      copied=self._copied / self.drawn,
    )


def ours(work: Workload) -> Figures:
  """Draws the replies with the engine, sized as on an accelerator."""
  by_key, requests = {}, []
  sampling = Sampling(max_new_tokens=work.limit)
  for index, row in enumerate(work.lengths):
    prompt = (index, *range(work.prompt - 1))
    for sample, length in enumerate(row):
      key = random_key(index, sample)
      by_key[key] = int(length)
      requests.append(Request(prompt, key, sampling, key))
  devices = _Devices(work, by_key)
  sizes = lambda rows, most, on_cpu: shapes.sizes(rows, most, on_cpu=False)
  network = types.SimpleNamespace(vocab_size=8, max_context=1 << 20)
  with (
    mock.patch.object(engines, "Programs", lambda *unused: devices),
    mock.patch.object(engines, "sizes", sizes),
    mock.patch.object(batches.jax, "device_get", lambda tree: tree),
  ):
    engine = Engine(
      types.SimpleNamespace(config=network),
      {},
      types.SimpleNamespace(decode=lambda tokens, **_: ""),
      (),
      rows=work.rows,
      samples=work.lengths.shape[1],
      max_new_tokens=work.limit,
    )
    for request in requests:
      engine.submit(request)
    while engine.busy:
      for key, completion in engine.step():
        assert len(completion.tokens) == by_key[key]
  assert engine.usage.tokens == devices.drawn == work.lengths.sum()
  return devices.figures()


def table(rows: Sequence[tuple[str, Figures]]) -> str:
  lines = [
    "| | useful row-steps | while requests wait | polls in 1,000 steps |"
    " programs | tokens a step reads | read ÷ used | room ÷ used | copies |"
    " tokens copied ÷ drawn |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
  ]
  for name, f in rows:
    cells = (
      name,
      f"{f.useful:.1%}",
      f"{f.useful_while_waiting:.1%}",
      f"{f.polls:.1f}",
      "" if f.programs is None else str(f.programs),
      f"{f.read:,.0f}",
      f"{f.read / f.used:.2f}",
      f"{f.room / f.used:.2f}",
      str(f.copies),
      f"{f.copied:.3f}",
    )
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def main(_) -> None:
  drawn = lengths(
    _PROMPTS.value, _SAMPLES.value, _SHORTEST.value, _LONGEST.value
  )
  work = Workload(
    _ROWS.value, _SHARDS.value, drawn, _PROMPT.value, _LIMIT.value
  )
  print(
    f"{drawn.size:,} replies of {drawn.min()} to {drawn.max():,} tokens (mean"
    f" {drawn.mean():,.0f}), at most {work.limit:,}; {work.rows} rows",
    flush=True,
  )
  found = [("static batches", static_batches(work)), ("s2d_jax", ours(work))]
  print(table(found))


if __name__ == "__main__":
  app.run(main)
