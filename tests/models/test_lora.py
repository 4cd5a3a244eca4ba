"""Adapters of low rank: beside the weights, and merged into them."""

from __future__ import annotations

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import lora as loras
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import PROJECTIONS, Lora
from s2d_jax.models.params import abstract_params

ALL = Lora(rank=3, alpha=12.0, targets=PROJECTIONS)
TOKENS = np.random.default_rng(3).integers(0, 128, (2, 9))


def _logits(config, params, lora=None) -> np.ndarray:
  model = Llama(config, lora=lora)
  apply = jax.jit(lambda p: model.apply(p, TOKENS, method=Llama.init_all))
  return np.asarray(apply({"params": params}))


def _adapters(config, lora: Lora):
  """Random, and large enough to turn the model into another one."""
  rng = np.random.default_rng(4)
  boxed, _ = loras.split(abstract_params(config, lora=lora))
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32),
    nn.unbox(boxed),
  )


def _joined(params, adapters):
  flatten = traverse_util.flatten_dict
  return traverse_util.unflatten_dict(flatten(params) | flatten(adapters))


def test_merged_weights_compute_the_same(tiny):
  adapters = _adapters(tiny.config, ALL)
  beside = _logits(tiny.config, _joined(tiny.params, adapters), ALL)
  merged = _logits(tiny.config, loras.merge(tiny.params, adapters, ALL))
  before = _logits(tiny.config, tiny.params)
  largest = np.abs(beside).max()
  assert np.abs(beside - before).max() > 0.1 * largest
  # x(W + s·d·u) and xW + s(xd)u are the same sums in another order: float32
  # rounding, of the weights and along two layers.
  np.testing.assert_allclose(merged, beside, atol=2e-5 * largest)


def test_a_merged_kernel_is_the_weight_and_the_scaled_product(tiny):
  """In float64, with the axes that a projection contracts taken as one."""
  adapters = _adapters(tiny.config, ALL)
  merged = loras.merge(tiny.params, adapters, ALL)
  for place, sums in (
    (("attention", "q"), "ldr,lrnh->ldnh"),
    (("attention", "o"), "lnhr,lrd->lnhd"),
    (("mlp", "down"), "lfr,lrd->lfd"),
  ):
    get = lambda tree, name, place=place: np.asarray(
      tree["layers"][place[0]][place[1]][name], np.float64
    )
    product = np.einsum(
      sums, get(adapters, "lora_down"), get(adapters, "lora_up")
    )
    wanted = get(tiny.params, "kernel") + 12.0 / 3 * product
    np.testing.assert_allclose(get(merged, "kernel"), wanted, atol=2e-6)


def test_a_merged_weight_keeps_its_dtype_and_is_rounded_once(tiny):
  adapters = _adapters(tiny.config, ALL)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny.params)
  merged = loras.merge(half, adapters, ALL)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), half)
  wanted = loras.merge(wide, adapters, ALL)
  for got, once in zip(*map(jax.tree.leaves, (merged, wanted)), strict=True):
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, once.astype(jnp.bfloat16))


@pytest.mark.parametrize("targets", [PROJECTIONS, ("v", "gate"), ("o",)])
def test_only_targets_have_adapters(tiny, targets):
  lora = Lora(2, 2.0, targets)
  adapters, rest = loras.split(abstract_params(tiny.config, lora=lora))
  flat = traverse_util.flatten_dict(nn.unbox(adapters))
  assert {path[-2] for path in flat} == set(targets)
  assert {path[-1] for path in flat} == {"lora_down", "lora_up"}
  assert len(flat) == 2 * len(targets)
  plain = abstract_params(tiny.config)
  assert jax.tree.structure(rest) == jax.tree.structure(plain)
  assert jax.tree.leaves(rest) == jax.tree.leaves(plain)


def test_shapes_of_adapters(tiny):
  adapters = _adapters(tiny.config, ALL)["layers"]
  shape = lambda *path: tuple(
    adapters[path[0]][path[1]][name].shape for name in ("lora_down", "lora_up")
  )
  # Two layers, rank 3; 4 heads and 2 key-value heads of 16, embedding of 32.
  assert shape("attention", "q") == ((2, 32, 3), (2, 3, 4, 16))
  assert shape("attention", "k") == ((2, 32, 3), (2, 3, 2, 16))
  assert shape("attention", "o") == ((2, 4, 16, 3), (2, 3, 32))
  assert shape("mlp", "down") == ((2, 64, 3), (2, 3, 32))


def test_split_takes_a_tree_apart_and_nothing_else(tiny):
  adapters = _adapters(tiny.config, ALL)
  split = loras.split(_joined(tiny.params, adapters))
  for got, wanted in zip(split, (adapters, tiny.params), strict=True):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
      assert a is b


def test_fresh_adapters_change_nothing_but_can_learn(tiny):
  model = Llama(tiny.config, lora=ALL)
  init = jax.jit(lambda key: model.init(key, TOKENS, method=Llama.init_all))
  variables = init(jax.random.key(0))
  fresh, _ = loras.split(nn.unbox(variables)["params"])
  before = _logits(tiny.config, tiny.params)
  params = _joined(tiny.params, fresh)
  np.testing.assert_array_equal(_logits(tiny.config, params, ALL), before)

  @jax.jit
  @jax.grad
  def gradient(adapters):
    variables = {"params": _joined(tiny.params, adapters)}
    return model.apply(variables, TOKENS, method=Llama.init_all).std()

  flat = traverse_util.flatten_dict(gradient(fresh))
  # The first step moves up alone: down is multiplied by zeros.
  for path, leaf in flat.items():
    assert (np.abs(leaf).max() > 0) == (path[-1] == "lora_up"), path
