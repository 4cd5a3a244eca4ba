"""What products are taken in: on which device, how exactly, kept how."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import kernels, precision
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.llama import Llama
from tests.random_model import random_params

CONFIG = ModelConfig(
  vocab_size=96,
  embed_dim=32,
  mlp_dim=48,
  num_layers=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=True,
  max_context=64,
)
ROUNDED = Llama(CONFIG, kernels.Rounded(jnp.bfloat16))


@pytest.fixture(scope="module")
def params():
  return random_params(CONFIG)


def rounded(x):
  return x.astype(jnp.bfloat16).astype(jnp.float32)


def test_auto_is_what_the_device_is_good_at(monkeypatch):
  assert precision.choose("auto", "tpu") == "bfloat16"
  assert precision.choose("auto", "gpu") == "bfloat16"
  for there, dtype in ((True, "bfloat16"), (False, "float32")):
    monkeypatch.setattr(
      precision, "_has_matrix_units", lambda there=there: there
    )
    assert precision.choose("auto", "cpu") == dtype
  assert precision.choose("float32", "tpu") == "float32"


def test_only_cpus_keep_activations_wide():
  on = kernels.for_platform
  assert on("bfloat16", "cpu") == kernels.Rounded("bfloat16")
  assert on("float32", "cpu") == kernels.Float("float32")
  assert on("bfloat16", "tpu") == kernels.Float("bfloat16")
  assert on("bfloat16", "cpu", "int8") == kernels.RoundedInt8("bfloat16")
  assert on("bfloat16", "gpu", "int8") == kernels.Int8("bfloat16")
  activations = {way: way("bfloat16").activations for way in kernels.WAYS}
  assert activations[kernels.Float] == activations[kernels.Int8] == "bfloat16"
  assert activations[kernels.Rounded] == jnp.float32
  assert activations[kernels.RoundedInt8] == jnp.float32


def test_bits_are_bfloat16():
  x = jax.random.normal(jax.random.key(0), (5, 7))
  bits = kernels.pack(x)
  assert bits.dtype == jnp.uint16
  np.testing.assert_array_equal(kernels.unpack(bits), x.astype(jnp.bfloat16))
  assert kernels.unpack(x) is x


def test_a_product_and_its_gradients_are_those_of_rounded_factors(params):
  """Against float32 products of factors that were rounded by hand."""
  kernel = params["layers"]["mlp"]["up"]["kernel"][0]
  x = jax.random.normal(jax.random.key(1), (7, kernel.shape[0]))
  back = jax.random.normal(jax.random.key(2), (7, kernel.shape[1]))
  out, pull = jax.vjp(
    lambda *both: kernels.rounded_product(*both, 0, jnp.bfloat16), x, kernel
  )
  exact, pull_exact = jax.vjp(jnp.matmul, rounded(x), rounded(kernel))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  close(out, exact)
  for gradient, of_exact in zip(
    pull(back), pull_exact(rounded(back)), strict=True
  ):
    assert gradient.dtype == jnp.float32
    close(gradient, of_exact)


def test_a_head_contracts_the_last_axis_of_its_table(params):
  table = params["embed"]["embedding"]
  x = jax.random.normal(jax.random.key(1), (6, table.shape[1]))
  back = jax.random.normal(jax.random.key(2), (6, table.shape[0]))
  out, pull = jax.vjp(
    lambda *both: kernels.rounded_product(*both, 1, jnp.bfloat16), x, table
  )
  exact, pull_exact = jax.vjp(
    lambda x, table: x @ table.T, rounded(x), rounded(table)
  )
  np.testing.assert_allclose(out, exact, rtol=1e-5, atol=1e-4)
  for one, other in zip(pull(back), pull_exact(rounded(back)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def logits(model, params, tokens):
  steps = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  variables = {"params": params}
  hidden, past = model.apply(variables, tokens, steps)
  return model.apply(variables, hidden, method=Llama.logits), past


def test_packed_kernels_change_nothing(params):
  tokens = jax.random.randint(jax.random.key(3), (2, 10), 0, CONFIG.vocab_size)
  bits = ROUNDED.kernels.for_decoding(params)
  kernel = bits["layers"]["mlp"]["up"]["kernel"]
  assert kernel.dtype == jnp.uint16
  one, past = jax.jit(logits, static_argnums=0)(ROUNDED, params, tokens)
  other, _ = jax.jit(logits, static_argnums=0)(ROUNDED, bits, tokens)
  assert one.dtype == jnp.float32
  assert past.keys.dtype == ROUNDED.kernels.cache_dtype == jnp.uint16
  np.testing.assert_array_equal(one, other)


def test_rounded_factors_are_nearer_to_float32_than_bfloat16(params):
  tokens = jax.random.randint(jax.random.key(3), (4, 20), 0, CONFIG.vocab_size)
  exact, _ = logits(Llama(CONFIG), params, tokens)
  error = lambda way: float(
    jnp.abs(logits(Llama(CONFIG, way), params, tokens)[0] - exact).mean()
  )
  rounded, narrow = (
    error(way(jnp.bfloat16)) for way in (kernels.Rounded, kernels.Float)
  )
  scale = float(jnp.abs(exact).mean())
  assert 0 < rounded < 0.02 * scale
  assert rounded < narrow


def test_decoding_from_packed_keys_follows_the_whole_sequence(params):
  """Each greedy token is the best of a run over everything before it."""
  new, prompts = 12, [(5, 9, 2, 7), (80, 3, 3, 41, 22, 6)]
  engine = Engine(
    ROUNDED, params, Letters(), (), rows=2, samples=1, max_new_tokens=new
  )
  for index, prompt in enumerate(prompts):
    sampling = Sampling(temperature=0, max_new_tokens=new)
    engine.submit(Request(prompt, random_key(index), sampling, index))
  drawn = {}
  while engine.busy:
    drawn |= {tag: c.tokens for tag, c in engine.step()}
  for index, prompt in enumerate(prompts):
    whole = jnp.array([prompt + drawn[index]])
    scores, _ = logits(ROUNDED, params, whole)
    before = scores[0, len(prompt) - 1 : -1]
    chosen = jnp.take_along_axis(before, whole[0, len(prompt) :, None], -1)
    # Keys of the past are rounded, those of a whole sequence are not.
    margin = 0.02 * float(jnp.abs(before).max())
    assert (before.max(-1) - chosen[:, 0] < margin).all()


class Letters:
  """As much of a tokenizer as an engine without stop strings asks for."""

  def decode(self, tokens, **_):
    return " ".join(map(str, tokens))
