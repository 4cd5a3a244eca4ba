"""Layers apart and tokens as columns, against the scan over layers."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models.attention import KeyValues
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama, abstract_params, layers_apart
from s2d_jax.models.quantize import quantize_params

UNTIED = ModelConfig(
  vocab_size=96,
  embed_dim=32,
  num_layers=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=16,
  mlp_dim=48,
  max_context=64,
  rope_theta=1e4,
  rms_eps=1e-5,
  tie_embeddings=False,
  attention_bias=True,
)
TIED = dataclasses.replace(UNTIED, tie_embeddings=True, attention_bias=False)


def _params(config: ModelConfig, weights: str):
  """Every leaf random, norms and biases too."""
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), "float32"),
    nn.unbox(abstract_params(config)),
  )
  return quantize_params(params) if weights == "int8" else params


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

  def forward(model, params, tokens, steps, past):
    variables, ones = {"params": params}, np.ones_like(tokens)
    hidden, new = model.apply(variables, tokens, steps, ones, past)
    axis = -1 if model.by_column else 1  # of T
    last = jnp.take(hidden, tokens.shape[1] - 1, axis=axis)
    return new, model.apply(variables, last, method=Llama.logits)

  before, logits = forward(model, params, tokens, steps, [])
  cache, columns = forward(apart, apart_params, tokens, steps, [])
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
  _, logits = forward(model, params, tokens, steps, [past(*before[:2])])
  _, columns = forward(apart, apart_params, tokens, steps, [past(*cache[:2])])
  np.testing.assert_allclose(columns.T, logits, atol=2e-4)
  assert np.ptp(logits) > 1


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
