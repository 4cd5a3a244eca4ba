"""Layers apart and tokens as columns, against the scan over layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models.attention import KeyValues
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama, layers_apart
from s2d_jax.models.lora import Lora
from s2d_jax.models.quantize import quantize_params
from tests.random_model import TIED, UNTIED, filled_params


def _params(config: ModelConfig, weights: str):
  params = jax.tree.map(lambda leaf: 0.3 * leaf, filled_params(config))
  return quantize_params(params) if weights == "int8" else params


def _forward(model, params, tokens, steps, past):
  """Keys and values of the tokens, and logits of what follows the last."""
  variables = {"params": params}
  hidden, new = model.apply(variables, tokens, steps, None, past)
  axis = -1 if model.by_column else 1  # of T
  last = jnp.take(hidden, tokens.shape[1] - 1, axis=axis)
  return new, model.apply(variables, last, method=Llama.logits)


@pytest.mark.parametrize("weights", ["float", "int8"])
@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
def test_columns_are_the_rows_of_the_scan(config, weights):
  model = Llama(config, weights=weights)
  params = _params(config, weights)
  apart = model.clone(apart=True)
  apart_params = layers_apart(apart, params)
  rng = np.random.default_rng(1)
  tokens = rng.integers(0, config.vocab_size, (2, 7))
  steps = np.broadcast_to(np.arange(7), tokens.shape)

  before, logits = _forward(model, params, tokens, steps, [])
  cache, columns = _forward(apart, apart_params, tokens, steps, [])
  np.testing.assert_allclose(columns.T, logits, atol=2e-4)
  for layer in range(config.num_layers):
    turned = cache.keys[layer].swapaxes(-1, -2)
    np.testing.assert_allclose(turned, before.keys[layer], atol=1e-5)
    values = cache.values[layer]
    np.testing.assert_allclose(values, before.values[layer], atol=1e-5)

  # Two rows a prompt, behind what was read.
  past = lambda keys, values: KeyValues(keys, values, np.ones((2, 1, 7), bool))
  tokens = rng.integers(0, config.vocab_size, (4, 1))
  steps = np.full_like(tokens, 7)
  _, logits = _forward(model, params, tokens, steps, [past(*before[:2])])
  _, columns = _forward(apart, apart_params, tokens, steps, [past(*cache[:2])])
  np.testing.assert_allclose(columns.T, logits, atol=2e-4)
  assert np.ptp(logits) > 1


def test_layers_with_adapters_keep_rows_and_adapters():
  lora = Lora(2, 4.0, ("q", "down"))
  params = jax.tree.map(lambda x: 0.3 * x, filled_params(UNTIED, lora))
  model = Llama(UNTIED, lora=lora)
  apart = model.clone(apart=True)
  tokens = np.random.default_rng(1).integers(0, UNTIED.vocab_size, (2, 7))
  asked = tokens, np.broadcast_to(np.arange(7), tokens.shape), []
  _, logits = _forward(model, params, *asked)
  _, same = _forward(apart, layers_apart(apart, params), *asked)
  np.testing.assert_allclose(same, logits, atol=2e-4)
  without = model.clone(lora=None)
  merged = {"params": params}
  plain, _ = without.apply(merged, *asked[:2])
  adapted, _ = model.apply(merged, *asked[:2])
  assert np.abs(plain - adapted).max() > 0.1


def test_only_kernels_are_copied():
  params = _params(TIED, "float")
  apart = layers_apart(Llama(TIED, apart=True), params)
  pointer = lambda x: x.unsafe_buffer_pointer()
  stack = params["layers"]["mlp_norm"]["scale"]
  scales = [apart[f"layer_{i}"]["mlp_norm"]["scale"] for i in range(3)]
  whole = pointer(stack), pointer(stack) + stack.nbytes
  assert all(whole[0] <= pointer(scale) < whole[1] for scale in scales)
  assert pointer(apart["embed"]["embedding"]) == pointer(
    params["embed"]["embedding"]
  )
  kernel = params["layers"]["mlp"]["gate"]["kernel"]
  np.testing.assert_array_equal(
    apart["layer_1"]["mlp"]["gate"]["kernel"], kernel[1].T
  )
