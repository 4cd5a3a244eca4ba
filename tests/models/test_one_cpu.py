"""The network as one CPU decodes with it, against the scan over layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import kernels, one_cpu
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.llama import Llama
from s2d_jax.models.quantize import quantize_params
from s2d_jax.parallel import mesh as meshes
from tests.random_model import RICH, TIED, UNTIED, filled_params


def _params(config: ModelConfig, weights: str):
  params = jax.tree.map(lambda leaf: 0.3 * leaf, filled_params(config))
  return quantize_params(params) if weights == "int8" else params


def _forward(model, params, tokens, steps, past):
  """Keys and values of the tokens, and logits of what follows the last."""
  variables = {"params": params}
  hidden, new = model.apply(variables, tokens, steps, None, past)
  return new, model.apply(variables, hidden[:, -1], method=Llama.logits)


@pytest.mark.parametrize("weights", ["float", "int8"])
@pytest.mark.parametrize(
  "config", [UNTIED, TIED, RICH], ids=["untied", "tied", "rich"]
)
def test_keys_values_and_logits_are_those_of_the_scan(config, weights):
  model = Llama(config, kernels.for_platform("float32", "cpu", weights))
  params = _params(config, weights)
  decoder, turned = one_cpu.for_decoding(model, params)
  rng = np.random.default_rng(1)
  tokens = rng.integers(0, config.vocab_size, (2, 7))
  steps = np.broadcast_to(np.arange(7), tokens.shape)

  before, logits = _forward(model, params, tokens, steps, [])
  cache, same = _forward(decoder, turned, tokens, steps, [])
  np.testing.assert_allclose(same, logits, atol=2e-4)
  for layer in range(config.num_layers):
    keys = cache.keys[layer].swapaxes(-1, -2)
    np.testing.assert_allclose(keys, before.keys[layer], atol=1e-5)
    values = cache.values[layer]
    np.testing.assert_allclose(values, before.values[layer], atol=1e-5)

  # Two rows a prompt, behind what was read.
  valid = np.ones((2, 1, 7), bool)
  tokens = rng.integers(0, config.vocab_size, (4, 1))
  steps = np.full_like(tokens, 7)
  asked = tokens, steps
  _, logits = _forward(model, params, *asked, [before._replace(valid=valid)])
  _, same = _forward(decoder, turned, *asked, [cache._replace(valid=valid)])
  np.testing.assert_allclose(same, logits, atol=2e-4)
  assert np.ptp(logits) > 1


def _random(shape, seed):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def test_a_cache_changes_as_the_stacked_one_does():
  """Prompts put into entries, tokens written, capacity added."""
  model = Llama(UNTIED)
  decoder, _ = one_cpu.for_decoding(model, _params(UNTIED, "float"))
  layers, heads, size = UNTIED.num_layers, 2, 16
  prompts = KeyValues(
    *(_random((layers, 3, heads, 5, size), i) for i in (0, 1))
  )
  token = KeyValues(*(_random((layers, 4, heads, 1, size), i) for i in (2, 3)))
  at, source = jnp.array([2, 0, 9]), jnp.array([1, 2, 0])  # 9 is nowhere
  columns = jnp.array([0, 6, 3, 8])

  @functools.partial(jax.jit, static_argnums=0)
  def changed(model):
    cache = model.empty_cache(4, 7)
    cache = cache.with_entries(at, model.as_cache(prompts), source).extended(2)
    return cache, cache.with_token(
      model.as_cache(token), jnp.arange(4), columns
    )

  with meshes.use(meshes.make_mesh()):
    pairs = zip(changed(model), changed(decoder), strict=True)
  for stacked, unrolled in pairs:
    assert unrolled.capacity == stacked.capacity == 9
    for layer in range(layers):
      keys = unrolled.keys[layer].swapaxes(-1, -2)
      np.testing.assert_array_equal(keys, stacked.keys[layer])
      np.testing.assert_array_equal(
        unrolled.values[layer], stacked.values[layer]
      )
  # Against what was put in, by hand.
  keys = np.zeros((layers, 4, heads, 9, size), np.float32)
  keys[:, 2, :, :5], keys[:, 0, :, :5] = prompts.keys[:, 1], prompts.keys[:, 2]
  for row, column in enumerate(columns):
    keys[:, row, :, column] = token.keys[:, row, :, 0]
  np.testing.assert_array_equal(stacked.keys, keys)


def test_only_kernels_are_copied():
  params = _params(TIED, "float")
  _, turned = one_cpu.for_decoding(Llama(TIED), params)
  pointer = lambda x: x.unsafe_buffer_pointer()
  stack = params["layers"]["mlp_norm"]["scale"]
  layers = [turned["layers"][f"layer_{i}"] for i in range(3)]
  scales = [layer["mlp_norm"]["scale"] for layer in layers]
  whole = pointer(stack), pointer(stack) + stack.nbytes
  assert all(whole[0] <= pointer(scale) < whole[1] for scale in scales)
  assert pointer(turned["embed"]["embedding"]) == pointer(
    params["embed"]["embedding"]
  )
  kernel = params["layers"]["mlp"]["gate"]["kernel"]
  np.testing.assert_array_equal(layers[1]["mlp"]["gate"]["kernel"], kernel[1].T)
