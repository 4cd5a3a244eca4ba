"""The queue of prompts against a scan of it, and what 50,000 of them cost."""

from __future__ import annotations

import collections
import random
import types

import numpy as np
import pytest

from s2d_jax.generation import batch, decode, engine as engines
from s2d_jax.generation.engine import Engine, Request
from s2d_jax.generation.prefills import PrefillCache
from s2d_jax.generation.queue import Prompt, PromptQueue
from s2d_jax.generation.sampling import Sampling
from s2d_jax.generation.shapes import bucket

_PREFIX = (1, 2, 3)


def _match(tokens) -> tuple[int, int]:
  return (0, 3) if tuple(tokens[:3]) == _PREFIX else (-2, 0)


def _request(prompt, tag=None) -> Request:
  return Request(tuple(prompt), 0, Sampling(max_new_tokens=4), tag)


class _Scanned:
  """The same queue as plain lists."""

  def __init__(self):
    self.requests: list[Request] = []
    self.prompts: list[tuple[int, ...]] = []
    self.prefilled: set[tuple[int, ...]] = set()

  def add(self, request):
    self.requests.append(request)
    if request.prompt not in self.prompts:
      self.prompts.append(request.prompt)

  def take(self, tokens):
    own = [request for request in self.requests if request.prompt == tokens]
    if not own:
      return None
    self.requests.remove(own[0])
    if len(own) == 1:
      self.prompts.remove(tokens)
    return own[0]

  def take_to_prefill(self, length, count):
    found = [
      prompt
      for prompt in self.prompts
      if prompt not in self.prefilled
      and bucket(len(prompt) - _match(prompt)[1]) == length
    ][:count]
    self.prefilled.update(found)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_scan_would_find(seed):
  rng = random.Random(seed)
  queue, scanned = PromptQueue(_match), _Scanned()
  known = [
    (*rng.choice(((), _PREFIX)), *(rng.randrange(9) for _ in range(length)))
    for length in (3, 5, 14, 15, 16, 17, 18, 30, 34, 50)
    for _ in range(3)
  ]
  for number in range(2_000):
    action = rng.random()
    if action < 0.45:
      request = _request(rng.choice(known), number)
      queue.add(request, request.prompt in scanned.prefilled)
      scanned.add(request)
    elif action < 0.9:
      # Mostly the first, as an engine does.
      first = scanned.prompts[0] if scanned.prompts else known[0]
      tokens = first if rng.random() < 0.7 else rng.choice(known)
      assert queue.take(tokens) == scanned.take(tokens)
    elif action < 0.98:
      length, count = rng.choice((16, 32, 48, 64)), rng.randrange(1, 5)
      found = [p.tokens for p in queue.take_to_prefill(length, count)]
      assert found == scanned.take_to_prefill(length, count)
    elif action < 0.99:
      # What was prefilled is forgotten once nobody waits for it.
      scanned.prefilled &= set(scanned.prompts)
    else:
      queue.match_again()
      scanned.prefilled.clear()
    assert bool(queue) == bool(scanned.prompts)
    assert all((p in queue) == (p in scanned.prompts) for p in known)
    if queue:
      assert queue.first().tokens == scanned.prompts[0]
      wanted = [bucket(len(p) - _match(p)[1]) for p in scanned.prompts]
      assert queue.buckets() == wanted


def test_a_prompt_stands_behind_its_prefix():
  queue = PromptQueue(_match)
  queue.add(_request((*_PREFIX, 7, 8)), False)
  assert queue.first() == Prompt((*_PREFIX, 7, 8), 0, 3)
  assert queue.first().rest == (7, 8)


def test_prefills_are_forgotten_when_nobody_waits_but_the_newest():
  cache = PrefillCache(kept=1)
  groups = [[Prompt((g, i), -2, 0) for i in range(2)] for g in range(3)]
  for number, group in enumerate(groups):
    cache.add(group, f"prefill {number}")
  cache.forget(waiting={(0, 1)})
  assert [(g, 0) in cache for g in range(3)] == [True, False, True]
  assert cache[0, 1] == ("prefill 0", 1)
  cache.forget(waiting=())
  assert [(g, 0) in cache for g in range(3)] == [False, False, True]
  cache.clear()
  assert (2, 0) not in cache


class _Counted(tuple):
  """A prompt that counts how often it is looked up."""

  looked_up = 0

  def __hash__(self):
    _Counted.looked_up += 1
    return super().__hash__()


_PAGES = types.SimpleNamespace(row=np.zeros((1, 128)))


class _NoPrograms:
  """Every row draws one token a call and has ended."""

  shards = devices = 1

  def __init__(self, *unused):
    self.prefills = 0
    self.matched = collections.Counter()

  def empty_prefixes(self):
    def match(tokens):
      self.matched[tokens] += 1
      return -2, 0

    return types.SimpleNamespace(match=match)

  def share(self, *unused):
    return None

  def prefill(self, tokens, *unused):
    self.prefills += 1
    return object()

  def for_decoding(self, prefilled):
    return prefilled

  def empty_batch(self, slots, rows, *unused):
    return slots * rows, _PAGES

  def put_prompts(self, state, *unused):
    return state

  start_rows = extend_prompts = put_prompts

  def decode(self, read, rows, *unused):
    ones = np.ones((rows, 1), np.int32)
    drawn = decode.Drawn(
      active=np.zeros(rows, bool),
      count=ones[:, 0],
      tokens=ones,
      logprobs=ones.astype(np.float32),
      step=1,
      pages=ones[0],
      is_full=False,
    )
    return rows, _PAGES, drawn


@pytest.fixture
def nothing_runs(monkeypatch):
  monkeypatch.setattr(engines, "Programs", _NoPrograms)
  monkeypatch.setattr(batch.jax, "device_get", lambda tree: tree)


def test_work_is_linear_in_the_prompts_that_wait(nothing_runs):
  count = 50_000
  tokenizer = types.SimpleNamespace(decode=lambda tokens, **_: "")
  engine = Engine(
    types.SimpleNamespace(
      config=types.SimpleNamespace(vocab_size=8, max_context=64)
    ),
    {},
    tokenizer,
    (),
    rows=128,
    max_new_tokens=4,
  )
  _Counted.looked_up = 0
  for number in range(count):
    # Two buckets: the one waits for its turn behind the other.
    prompt = _Counted((number, *range(10 + 20 * (number % 2))))
    engine.submit(Request(prompt, number, Sampling(max_new_tokens=4), number))
  order = []
  while engine.busy:
    order += [tag for tag, _ in engine.step()]
  assert order == list(range(count))
  matched = engine._programs.matched
  assert len(matched) == matched.total() == count
  assert engine._programs.prefills <= 2 * -(-count // 16)
  assert _Counted.looked_up <= 40 * count
