from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import mean_loss_and_grads, target_loss
from s2d_jax.training.packing import Rows, pack

CONFIG = ModelConfig(
  vocab_size=61,
  embed_dim=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=32,
  max_context=64,
  rope_theta=1e4,
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
def packed_loss(params, rows: Rows):
  return target_loss(MODEL, {"params": params}, rows)


def only(rows: Rows, row: int, segment: int) -> Rows:
  """The same rows, with the weight of one example alone."""
  weight = np.zeros_like(rows.target_weight)
  slots = rows.segments[row, rows.target_index[row]] == segment
  weight[row] = rows.target_weight[row] * slots
  return rows._replace(target_weight=weight)


def test_packed_loss_of_each_example_is_its_loss_alone(params, examples):
  rows = pack(examples, 24)
  by_tokens = {tuple(e.tokens): e for e in examples.values()}
  assert rows.segments.max() > 1
  seen = 0
  for row in range(len(rows.tokens)):
    for segment in range(1, rows.segments[row].max() + 1):
      tokens = rows.tokens[row, rows.segments[row] == segment]
      wanted = numpy_loss(params, by_tokens[tuple(tokens)])
      np.testing.assert_allclose(
        packed_loss(params, only(rows, row, segment)), wanted, rtol=1e-5
      )
      seen += 1
  assert seen == len(examples)
  total = sum(numpy_loss(params, e) for e in examples.values())
  np.testing.assert_allclose(packed_loss(params, rows), total, rtol=1e-5)


def test_an_example_does_not_see_its_neighbours(params, examples):
  rows = pack(examples, 24)
  changed = np.where(rows.segments == 1, (rows.tokens + 1) % 61, rows.tokens)
  for segment, same in ((1, False), (2, True)):
    before = packed_loss(params, only(rows, 0, segment))
    after = packed_loss(params, only(rows._replace(tokens=changed), 0, segment))
    assert (float(before) == float(after)) is same


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
      {"params": params}, rows.tokens, rows.positions, rows.segments
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
