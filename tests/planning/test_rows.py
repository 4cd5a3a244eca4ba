"""The rows of a batch, against bytes and products counted by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from s2d_jax.planning import rows
from s2d_jax.planning.decoding import Batch
from s2d_jax.planning.rows import Peaks, Size
from tests import fake_devices
from tests.planning import rows_on_meshes as given

C = given.CONFIG


@pytest.fixture(scope="module")
def on_meshes() -> list[list[dict]]:
  return fake_devices.run_module("tests.planning.rows_on_meshes")


def _cache(batch_rows: int) -> int:
  """Bytes of keys and values in bfloat16, on all devices."""
  tokens = batch_rows * given.REPLY + batch_rows / given.PER_SLOT * given.PROMPT
  return int(2 * 2 * C.num_layers * C.num_kv_heads * C.head_dim * tokens)


@pytest.mark.parametrize("place, shape", [*enumerate(given.MESHES)])
def test_a_batch_takes_weights_keys_and_values_and_little_else(
  place, shape, on_meshes
):
  data, tensor = shape
  for size in on_meshes[place]:
    weights = 2 * C.num_params / tensor
    cache = _cache(size["rows"]) / data / tensor
    # Logits of the rows, in float32, and of the prompts; tokens and masks.
    logits = 4 * C.vocab_size * (size["rows"] / data) * (1 / tensor + 1 / 4)
    least = weights + cache + logits
    assert least < size["resident"] < 1.02 * least + 100_000


@pytest.mark.parametrize("place, shape", [*enumerate(given.MESHES)])
def test_sizes_divide_over_a_mesh_and_end_with_the_first_too_large(
  place, shape, on_meshes
):
  *fitting, last = on_meshes[place]
  assert last["resident"] > given.LIMIT
  assert all(size["resident"] <= given.LIMIT for size in fitting)
  for size in (*fitting, last):
    assert size["rows"] == size["slots"] * given.PER_SLOT
    assert size["slots"] % shape[0] == 0
    assert size["rows"] % math.prod(shape) == 0


def _brute(limit: float) -> int:
  """The choice of one device, by formulas of its own over all sizes."""
  table = C.vocab_size * C.embed_dim
  kernels = C.num_params - table  # one of two tables is looked up

  def needs(count):
    weights, logits = 2 * C.num_params, 5 * C.vocab_size * count
    return weights + _cache(count) + logits

  def rate(count):
    seen = given.PROMPT + given.REPLY / 2
    attention = 4 * C.num_layers * C.num_heads * C.head_dim * seen
    compute = count * (2 * kernels + attention) / given.FLOPS
    memory = (2 * kernels + _cache(count)) / given.BANDWIDTH
    return count / (max(compute, memory) + compute + memory)

  grid = [8 * 2**k for k in range(9)] + [12 * 2**k for k in range(9)]
  fitting = [count for count in sorted(grid) if needs(count) <= limit]
  fastest = max(map(rate, fitting))
  return min(count for count in fitting if rate(count) >= 0.9 * fastest)


# Between what two sizes need, so that small arrays do not decide.
_LIMITS = [size * 2**20 for size in (16, 23, 37, 55, 90, 150, 195)]


def test_the_choice_is_that_of_a_search_over_all_sizes():
  found = given.sizes()
  chosen = [rows.choose(found, limit).size.rows for limit in _LIMITS]
  assert chosen == [_brute(limit) for limit in _LIMITS]
  assert chosen == sorted(chosen) and len(set(chosen)) > 3  # more memory, more


def _size(count: int, compute=0.0, memory=1.0) -> Size:
  batch = Batch(count, 1, 16, 16)
  return Size(batch, 100 * count, 0, compute * count, memory, 1)


def test_rows_beyond_the_knee_are_not_taken():
  found = [_size(2**k, compute=1 / 64) for k in range(3, 12)]
  choice = rows.choose(found, limit=1e9)
  assert choice.knee.rows == 64
  assert choice.size.rows == 256  # 0.5 + 4.0 s for 256, 0.5 + 32 for the most
  assert choice.why().startswith("256 of at most 2048 that fit")


def test_without_a_roofline_memory_decides():
  found = [_size(2**k) for k in range(3, 12)]
  choice = rows.choose(found, limit=100 * 600)
  assert choice.knee is None
  assert choice.why() == "512, the most that fit"
  assert Peaks.of(None).flops == math.inf


def test_what_programs_need_besides_is_theirs_to_say():
  """Compiled are the one that is chosen, and smaller ones until one fits."""
  found = [_size(2**k) for k in range(3, 12)]
  asked = []

  def peak(size: Size) -> float:
    asked.append(size.rows)
    return size.resident + 150 * size.rows

  choice = rows.compiled(found, 100 * 600, peak)
  assert choice.size.rows == choice.largest.rows == 128  # 240 · 250 bytes
  assert asked == [512, 128]
  assert choice.temporary == 150
  assert rows.compiled(found, 1000, lambda size: 1001) is None


def test_growing_pages_are_there_twice():
  size = dataclasses.replace(_size(8), growing=600)
  assert size.needs(10) == 800 + 600
  assert size.needs(100) == 800 + 800
  # Replies of more than four pages begin with four, and have more by copying.
  peaks, batch = Peaks(1.0, 1.0), Batch(8, 1, 256, 1024)
  short, long = (
    rows.size_of(given.sampler(), dataclasses.replace(batch, reply=n), peaks)
    for n in (1024, 2048)
  )
  assert short.growing == 0
  own = 2 * 2 * C.num_layers * C.num_kv_heads * C.head_dim * 8 * 2048
  assert long.growing == pytest.approx(own / 1.25, rel=0.02)
