from __future__ import annotations

import functools
import math
import re

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import kernels
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import PROJECTIONS, Lora, split
from s2d_jax.models.params import abstract_params
from s2d_jax.training import loss as losses
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import joined, mean_loss_and_grads, target_loss
from s2d_jax.training.packing import PackedRows, pack
from tests import fake_devices

CONFIG = ModelConfig(
  vocab_size=61,
  embed_dim=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=32,
  max_context=64,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=True,
)
MODEL = Llama(CONFIG)


@pytest.fixture(scope="module")
def params():
  tokens = np.zeros((1, 1), np.int32)
  variables = MODEL.init(jax.random.key(0), tokens, method=Llama.init_all)
  # Far from uniform, so that a wrong target would show.
  return jax.tree.map(lambda x: 3 * x, nn.unbox(variables)["params"])


@pytest.fixture(scope="module")
def examples():
  rng = np.random.default_rng(0)
  return {
    str(i): Tokenised(
      rng.integers(0, 61, n).astype(np.int32), np.arange(n) >= n - 1 - i % 5
    )
    for i, n in enumerate([9, 5, 8, 7, 11, 6])
  }


@jax.jit
def all_logits(params, tokens):
  return MODEL.apply({"params": params}, tokens, method=Llama.init_all)


def numpy_loss(params, example: Tokenised) -> float:
  """All logits of the example on its own, log-softmax in float64."""
  tokens = np.zeros((1, 12), np.int32)  # one length, one compilation
  tokens[0, : len(example.tokens)] = example.tokens
  logits = np.asarray(all_logits(params, tokens)[0], np.float64)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return -sum(
    log_probs[i - 1, example.tokens[i]]
    for i in np.flatnonzero(example.is_target)
  )


@jax.jit
def packed_loss(params, rows: PackedRows):
  return target_loss(MODEL, {"params": params}, rows)


def ends(rows: PackedRows, row: int) -> list[int]:
  """Of the examples of a row that share nothing: where each of them ends."""
  return np.unique(rows.until[row][rows.until[row] > 0]).tolist()


def only(rows: PackedRows, row: int, end: int) -> PackedRows:
  """The same rows, with the weight of the example that ends there alone."""
  weight = np.zeros_like(rows.target_weight)
  slots = rows.until[row, rows.target_index[row]] == end
  weight[row] = rows.target_weight[row] * slots
  return rows._replace(target_weight=weight)


def test_packed_loss_of_each_example_is_its_loss_alone(params, examples):
  rows = pack(examples, 24)
  by_tokens = {tuple(e.tokens): e for e in examples.values()}
  assert len(ends(rows, 0)) > 1
  seen = []
  for row in range(len(rows.tokens)):
    for end in ends(rows, row):
      tokens = rows.tokens[row, rows.until[row] == end]
      wanted = numpy_loss(params, by_tokens[tuple(tokens)])
      np.testing.assert_allclose(
        packed_loss(params, only(rows, row, end)), wanted, rtol=1e-5
      )
      seen.append(tuple(tokens))
  assert sorted(seen) == sorted(by_tokens)
  total = sum(numpy_loss(params, e) for e in examples.values())
  np.testing.assert_allclose(packed_loss(params, rows), total, rtol=1e-5)


def test_an_example_does_not_see_its_neighbours(params, examples):
  rows = pack(examples, 24)
  first, second, *_ = ends(rows, 0)
  changed = np.where(rows.until == first, (rows.tokens + 1) % 61, rows.tokens)
  for end, same in ((first, False), (second, True)):
    before = packed_loss(params, only(rows, 0, end))
    after = packed_loss(params, only(rows._replace(tokens=changed), 0, end))
    assert (float(before) == float(after)) is same


@pytest.fixture(scope="module")
def family():
  """Examples that begin alike, one of them inside another, one of them twice.

  Targets are shared too, and stand where others have none.
  """
  rng = np.random.default_rng(3)
  draw = lambda n: rng.integers(0, 61, n).tolist()
  stem, branch, twig = draw(4), draw(3), draw(2)
  whole = [
    stem + branch + twig,
    stem + branch + twig,
    stem + branch,
    stem + branch + draw(3),
    stem + draw(4),
    draw(6),
  ]
  return {
    str(i): Tokenised(np.array(tokens, np.int32), np.arange(len(tokens)) >= 5)
    for i, tokens in enumerate(whole)
  }


def test_shared_beginnings_change_neither_loss_nor_gradient(params, family):
  apart, shared = pack(family, 12, share=False), pack(family, 24)
  assert (apart.until > 0).sum() == 9 + 9 + 7 + 10 + 8 + 6
  assert (shared.until > 0).sum() == 9 + 3 + 4 + 6
  targets = shared.target_weight.sum()
  assert targets == apart.target_weight.sum() == 4 + 4 + 2 + 5 + 3 + 1
  want, want_grads = jax.jit(jax.value_and_grad(packed_loss))(params, apart)
  got, got_grads = jax.jit(jax.value_and_grad(packed_loss))(params, shared)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  alone = sum(numpy_loss(params, example) for example in family.values())
  np.testing.assert_allclose(got, alone, rtol=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (got_grads, want_grads)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_gradient_is_that_of_the_full_logits(params, examples):
  rows = pack(examples, 24)
  is_target = np.zeros(rows.tokens.shape, bool)
  for row, index, weight in zip(
    range(len(rows.tokens)),
    rows.target_index,
    rows.target_weight,
    strict=True,
  ):
    is_target[row, index[weight > 0] + 1] = True

  def full(params):
    hidden, _ = MODEL.apply(
      {"params": params}, rows.tokens, rows.positions, rows.until
    )
    logits = MODEL.apply({"params": params}, hidden, method=Llama.logits)
    log_probs = jax.nn.log_softmax(logits[:, :-1])
    losses = -jnp.take_along_axis(log_probs, rows.tokens[:, 1:, None], -1)
    return (losses[..., 0] * is_target[:, 1:]).sum()

  wanted = jax.jit(jax.grad(full))(params)
  got = jax.jit(jax.grad(packed_loss))(params, rows)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_only_target_slots_are_projected(params, examples):
  rows = pack(examples, 24)
  text = str(jax.make_jaxpr(lambda p: packed_loss(p, rows))(params))
  batch, slots = rows.target_index.shape
  assert f"f32[{batch},{slots},61]" in text
  assert f"f32[{batch},24,61]" not in text


def test_micro_batches_add_up_to_the_batch(params, examples):
  # The rows have different numbers of targets, so that a mean of their means
  # would be another loss.
  rows = pack(examples, 12)
  batch = rows.take(np.arange(len(rows.tokens)), 8)
  counts = batch.target_weight.sum(1)
  results = []
  for parts in (1, 4):
    split = jax.tree.map(
      lambda x, parts=parts: jnp.asarray(x.reshape(parts, -1, x.shape[-1])),
      batch,
    )
    compute = jax.jit(mean_loss_and_grads, static_argnums=0)
    results.append(compute(MODEL, params, {}, split))
  (loss, grads), (split_loss, split_grads) = results
  np.testing.assert_allclose(loss, split_loss, rtol=1e-6)
  for a, b in zip(*map(jax.tree.leaves, (grads, split_grads)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(a).max()))
  halves = [
    packed_loss(params, batch.take(np.arange(i, i + 2), 2))
    / counts[i : i + 2].sum()
    for i in (0, 2, 4)
  ]
  assert abs(np.mean(halves) - loss) > 1e-3


def test_empty_rows_add_nothing(params, examples):
  rows = pack(examples, 24)
  padded = rows.take(np.arange(len(rows.tokens)), len(rows.tokens) + 3)
  np.testing.assert_allclose(
    packed_loss(params, padded),
    packed_loss(params, rows),
    rtol=1e-6,
  )


def _largest_logits(function, *args) -> int:
  """Elements of the largest array over the vocabulary, tables aside."""
  text = str(jax.make_jaxpr(function)(*args))
  found = re.findall(r"\[(\d+(?:,\d+)*)\]", text)
  shapes = [[int(size) for size in shape.split(",")] for shape in found]
  return max(math.prod(s) for s in shapes if 61 in s and 16 not in s)


def test_logits_in_chunks_are_the_same_loss(params, examples, monkeypatch):
  rows = pack(examples, 24)
  loss = lambda p: target_loss(MODEL, {"params": p}, rows)
  wanted, wanted_grads = jax.jit(jax.value_and_grad(loss))(params)
  monkeypatch.setattr(losses, "_LOGITS_BYTES", 2000)
  # A function of its own, traced under this limit.
  got, got_grads = jax.jit(jax.value_and_grad(lambda p: loss(p)))(params)
  np.testing.assert_allclose(got, wanted, rtol=1e-6)
  for a, b in zip(
    *map(jax.tree.leaves, (got_grads, wanted_grads)), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())


@pytest.mark.parametrize(
  "limit, chunks", [(5856, 1), (5855, 2), (2000, 4), (1, 8)]
)
def test_no_array_has_the_logits_of_more_than_a_chunk(
  params, examples, monkeypatch, limit, chunks
):
  """3 rows of 8 slots and 61 tokens are 5856 bytes; chunks divide the slots."""
  rows = pack(examples, 24, share=False)
  assert rows.target_token.shape == (3, 8)
  monkeypatch.setattr(losses, "_LOGITS_BYTES", limit)
  loss = lambda p: target_loss(MODEL, {"params": p}, rows)
  # Neither forward nor backward.
  largest = _largest_logits(jax.value_and_grad(loss), params)
  assert largest == 3 * 8 // chunks * 61


def _micro_batches(rows: PackedRows, parts: int) -> PackedRows:
  split = lambda x: jnp.asarray(x.reshape(parts, -1, x.shape[-1]))
  return jax.tree.map(split, rows)


def _is_kernel(path: tuple[str, ...]) -> bool:
  return path[0] == "layers" and path[-1] == "kernel"


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.grad, argnums=1)
def _gradient(model, flat, rows: PackedRows, targets):
  """Plain differentiation of the loss of all logits, with respect to `flat`."""
  variables = {"params": traverse_util.unflatten_dict(flat)}
  hidden, _ = model.apply(variables, rows.tokens, rows.positions, rows.until)
  log_probs = jax.nn.log_softmax(
    model.apply(variables, hidden, method=Llama.logits)
  )
  row = jnp.arange(len(rows.tokens))[:, None]
  chosen = log_probs[row, rows.target_index, rows.target_token]
  return -(chosen * rows.target_weight).sum() / targets


def _gradient_of_rounded(params, rows: PackedRows, targets) -> dict:
  """The kernels are rounded before, and are variables themselves."""
  flat = {
    path: leaf.astype(jnp.bfloat16) if _is_kernel(path) else leaf
    for path, leaf in traverse_util.flatten_dict(params).items()
  }
  return _gradient(
    Llama(CONFIG, kernels.Float(jnp.bfloat16)), flat, rows, targets
  )


# Of the largest gradient of a leaf: bfloat16 has 8 bits, and the two programs
# round the activations' gradients at other places.
_HALF_PRECISION = 2**-7


def test_gradients_of_rounded_kernels(params, examples):
  model = Llama(CONFIG, kernels.Float(jnp.bfloat16), "full")
  rows = pack(examples, 24)
  compute = jax.jit(mean_loss_and_grads, static_argnums=0)
  _, grads = compute(model, params, {}, _micro_batches(rows, 1))
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  wanted = _gradient_of_rounded(params, rows, rows.target_weight.sum())
  for path, leaf in traverse_util.flatten_dict(grads).items():
    kind = jnp.bfloat16 if _is_kernel(path) else jnp.float32
    assert leaf.dtype == wanted[path].dtype == kind, path
    a, b = np.float32(leaf), np.float32(wanted[path])
    np.testing.assert_allclose(a, b, atol=_HALF_PRECISION * np.abs(b).max())


def test_rounded_gradients_of_micro_batches_are_summed_in_float32(
  params, examples
):
  model = Llama(CONFIG, kernels.Float(jnp.bfloat16))
  rows = pack(examples, 12).take(np.arange(5), 6)
  targets = rows.target_weight.sum()
  compute = jax.jit(mean_loss_and_grads, static_argnums=0)
  _, grads = compute(model, params, {}, _micro_batches(rows, 3))
  parts = [
    _gradient_of_rounded(params, rows.take([i, i + 1], 2), targets)
    for i in (0, 2, 4)
  ]
  for path, leaf in traverse_util.flatten_dict(grads).items():
    assert leaf.dtype == jnp.float32
    wanted = sum(np.float32(part[path]) for part in parts)
    largest = max(np.abs(np.float32(part[path])).max() for part in parts)
    np.testing.assert_allclose(leaf, wanted, atol=_HALF_PRECISION * largest)
    if _is_kernel(path):  # kept to more bits than any of the summands has
      assert (leaf != leaf.astype(jnp.bfloat16)).any()


def test_adapters_alone_have_gradients(params, examples):
  """Of frozen weights there are none, and they may be of fewer bits."""
  lora = Lora(2, 4.0, PROJECTIONS)
  model = Llama(CONFIG, lora=lora)
  rng = np.random.default_rng(5)
  boxed, _ = split(abstract_params(CONFIG, lora=lora))
  adapters = jax.tree.map(
    lambda leaf: jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32),
    nn.unbox(boxed),
  )
  frozen = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  rows = pack(examples, 24)
  targets = rows.target_weight.sum()
  compute = jax.jit(mean_loss_and_grads, static_argnums=0)
  _, grads = compute(model, adapters, frozen, _micro_batches(rows, 1))
  assert jax.tree.structure(grads) == jax.tree.structure(adapters)
  whole = traverse_util.flatten_dict(joined(adapters, frozen))
  wanted = _gradient(model, whole, rows, targets)
  for path, leaf in traverse_util.flatten_dict(grads).items():
    largest = np.abs(wanted[path]).max()
    np.testing.assert_allclose(leaf, wanted[path], atol=1e-5 * largest)


@pytest.fixture(scope="module")
def on_meshes() -> dict:
  cases = fake_devices.run_module("tests.training.on_meshes")
  return {case["case"]: case for case in cases}


@pytest.mark.parametrize(
  "case",
  [
    "(1, 8, 1, 1) full 1",
    "(1, 1, 8, 1) full 1",
    "(1, 1, 4, 2) full 1",
    "(2, 1, 2, 2) full 1",
    "(1, 2, 2, 2) full 1",
    "(2, 1, 2, 2) none 1",
    "(2, 1, 2, 2) dots 1",
    "(2, 1, 2, 2) full 2",
  ],
)
def test_loss_and_gradients_do_not_depend_on_the_mesh(on_meshes, case):
  """(dcn, data, fsdp, tensor), remat, micro-batches; packed rows.

  float32 sums of a few hundred terms in another order: a few units in the last
  place, 2^-23 of the largest, at each of the products that lie in between.
  """
  found = on_meshes[case]
  assert found["loss"] < 1e-6
  assert len(found["gradients"]) == 23  # tables, norms, kernels, biases
  for name, error in found["gradients"].items():
    assert error < 1e-5, name
