"""Pages against a list of tokens for each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.generation import (
  engine as engines,
  pages as paging,
  programs,
  shapes,
)
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Llama
from s2d_jax.parallel import mesh as meshes
from tests.random_model import TIED

_SHARDS, _ROWS, _SIZE, _READ = 1, 3, 4, 9


@jax.jit
def _drawn(pages, active, last):
  """A token a row, whose key is its number times 100 and its row."""
  pages = pages.freed(active).taken(active, last)
  layers, heads, size = TIED.num_layers, TIED.num_kv_heads, TIED.head_dim
  row = jnp.arange(_SHARDS * _ROWS)
  key = (100.0 * last + row)[None, :, None, None, None]
  token = jnp.broadcast_to(key, (layers, len(row), heads, 1, size))
  return pages.with_token(KeyValues(token, -token), last)


@jax.jit
def _first_pages(pages):
  return pages.gathered(_READ)


@jax.jit
def _past(pages, count):
  """What rows see, and of it the entries that they have."""
  start = jnp.zeros(_SHARDS * _ROWS, jnp.int32)
  past = pages.past(count, start, _READ, is_whole=False)
  return past, past.first_entries(_SHARDS, _READ)


def _seen(pages, count):
  """Of each row, the keys that it sees, in the order of its tokens."""
  past, cut = _past(pages, jnp.asarray(count))
  rows, order = past.owners
  np.testing.assert_array_equal(cut.keys, -cut.values)
  found = [[] for _ in range(_SHARDS * _ROWS)]
  for shard in range(_SHARDS):
    for entry in map(int, order[shard]):
      if (row := int(rows[shard, entry])) < _ROWS:
        entry += shard * _READ
        keys = cut.keys[0, entry, 0, past.valid[entry, 0], 0]
        found[shard * _ROWS + row] += keys.tolist()
  return found


def test_each_row_sees_its_tokens_in_their_order_wherever_they_lie():
  rng = np.random.default_rng(0)
  with meshes.use(meshes.make_mesh()):
    pages = paging.empty(Llama(TIED), _SHARDS, _ROWS, 2 * _READ, _SIZE)
    lengths = np.zeros(_SHARDS * _ROWS, int)
    count, moved, full = np.zeros(_SHARDS * _ROWS, int), 0, 0
    for _ in range(150):
      ended = count >= lengths
      lengths[ended] = rng.integers(1, 5 * _SIZE, ended.sum())
      count[ended] = 0
      active = np.ones(len(count), bool)
      pages = pages.freed(jnp.asarray(count > 0))
      whole = pages.has_room(active, jnp.asarray(count), 2 * _READ)
      assert whole  # that many are enough
      if int(pages.used.max()) <= _READ:
        before = pages.row
        pages = _first_pages(pages)
        assert (pages.row[:, _READ:] == _ROWS).all()
        moved += int((before != pages.row).sum())
        wanted = [
          [100.0 * token + row for token in range(number)]
          for row, number in enumerate(count)
        ]
        assert _seen(pages, count) == wanted
      else:
        full += 1
      assert (pages.used == (pages.row < _ROWS).sum(-1)).all()
      pages = _drawn(pages, jnp.asarray(active), jnp.asarray(count))
      count += 1
  assert moved and full


def test_there_is_room_while_pages_are_left():
  with meshes.use(meshes.make_mesh()):
    pages = paging.empty(Llama(TIED), 1, 2, 3, _SIZE)
  room = lambda *count: bool(
    pages.has_room(jnp.ones(2, bool), jnp.array(count), 3)
  )
  assert room(0, 0) and room(3, 3)
  assert room(4, 3) and room(3, 4)
  assert not room(4, 4)  # there is one more, and both need one


@pytest.fixture
def completions(tiny, characters, monkeypatch):
  """Replies by the layout of accelerators, with pages of few tokens."""
  monkeypatch.setattr(programs, "is_one_cpu", lambda mesh: False)
  reads = []
  decode = programs._decode

  def counting(model, read, *rest):
    reads.append(read)
    return decode(model, read, *rest)

  monkeypatch.setattr(programs, "_decode", counting)

  def draw(requests, pages_per_row):
    room = shapes.Room(16, pages_per_row, growth=1.5, shrinks=True)
    sizes = shapes.Sizes(256, 0, room)
    monkeypatch.setattr(engines, "sizes", lambda *_, **__: sizes)
    engine = Engine(
      Llama(tiny.config), tiny.params, characters, (), rows=8, slots=8,
      max_new_tokens=80,
    )  # fmt: skip
    for request in requests:
      engine.submit(request)
    out = {}
    reads.clear()
    while engine.busy:
      out |= engine.step()
    return out, list(reads)

  return draw


def test_a_reply_is_the_same_whichever_pages_it_has(completions):
  """To the last bit; with steps that read more pages, and then fewer again."""
  rng = np.random.default_rng(0)
  requests = [
    Request(
      tuple(map(int, rng.integers(32, 127, 5))),
      random_key(tag),
      Sampling(0.9, max_new_tokens=int(rng.choice([8, 20, 80]))),
      tag,
    )
    for tag in range(24)
  ]
  grown, reads = completions(requests, pages_per_row=1)
  changes = np.diff(reads)
  assert changes.max() > 0 > changes.min() and max(reads) < 8 * 6
  backwards, _ = completions(requests[::-1], pages_per_row=1)
  at_once, reads = completions(requests, pages_per_row=6)
  assert max(reads) == 8 * 6
  assert grown == backwards == at_once
