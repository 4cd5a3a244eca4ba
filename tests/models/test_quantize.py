"""Weights in a byte each: what is rounded, how far, and what it costs."""

from __future__ import annotations

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import kernels
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora
from s2d_jax.models.params import abstract_params
from s2d_jax.models.quantize import quantize, quantize_params
from tests.benchmarks import int8_quality
from tests.random_model import RICH, TIED, UNTIED, as_loaded, filled_params

# Of each kind of leaf: its path, its axes, and which the product contracts.
_KINDS = [
  ("layers/attention/q/kernel", (3, 8, 4, 5), (1,)),
  ("layers/attention/v/kernel", (3, 8, 2, 5), (1,)),
  ("layers/attention/o/kernel", (3, 4, 5, 8), (1, 2)),
  ("layers/mlp/down/kernel", (3, 9, 8), (1,)),
  ("head/kernel", (8, 11), (0,)),
  ("embed/embedding", (11, 8), (1,)),
]


def _times_scale(values, scale, contracted) -> np.ndarray:
  step = np.expand_dims(np.asarray(scale, np.float64), contracted)
  return np.asarray(values, np.float64) * step


def stands_for(node: dict, path: tuple[str, ...] = ()) -> dict:
  """The float tree whose values an int8 tree has."""
  made = {}
  for key, child in node.items():
    if isinstance(child, dict):
      made[key] = stands_for(child, (*path, key))
    elif child.dtype == jnp.int8:
      contracted = {"head": (0,), "o": (1, 2)}.get(path[-1], (1,))
      weights = _times_scale(child, node["scale"], contracted)
      made[key] = jnp.asarray(weights, jnp.float32)
    elif key != "scale" or len(node) == 1:  # a norm's
      made[key] = child
  return made


@pytest.mark.parametrize("path, shape, contracted", _KINDS)
def test_a_weight_is_off_by_half_a_step_of_its_own_channel(
  path, shape, contracted
):
  """Channels of very different sizes, and layers: no scale is shared."""
  rng = np.random.default_rng(1)
  channels = [1 if i in contracted else n for i, n in enumerate(shape)]
  sizes = 10.0 ** rng.uniform(-4, 4, channels)
  leaf = (rng.normal(size=shape) * sizes).astype(np.float32)
  made = quantize(path, jnp.asarray(leaf))
  assert set(made) == {path.split("/")[-1], "scale"}
  assert made["scale"].dtype == jnp.float32
  assert made["scale"].size == np.prod(channels)
  assert made[path.split("/")[-1]].dtype == jnp.int8
  step = np.abs(leaf).max(contracted, keepdims=True) / 127
  weights = _times_scale(made[path.split("/")[-1]], made["scale"], contracted)
  error = np.abs(weights - leaf)
  # Half a step, and float32 rounding of a value of 127 steps.
  assert (error <= step * (0.5 + 127 * 2**-22)).all()
  assert error.max() > 0


def test_the_largest_weight_of_a_channel_is_127_and_zeros_stay():
  leaf = np.zeros((4, 3), np.float32)
  leaf[:, 1] = [1, -2, 0.5, 0]
  made = quantize("head/kernel", jnp.asarray(leaf))
  # 0.5 is 31.75 steps of 2 / 127.
  np.testing.assert_array_equal(made["kernel"][:, 1], [64, -127, 32, 0])
  np.testing.assert_array_equal(made["kernel"][:, 0], 0)
  np.testing.assert_allclose(made["scale"][1], 2 / 127, rtol=1e-6)
  assert np.isfinite(made["scale"]).all()


def test_norms_biases_and_adapters_stay():
  lora = Lora(2, 4.0, ("q", "down"))
  params = filled_params(UNTIED, lora)
  before = traverse_util.flatten_dict(params, sep="/")
  after = traverse_util.flatten_dict(quantize_params(params), sep="/")
  stay = {p for p in before if p.split("/")[-1] not in ("kernel", "embedding")}
  assert {p.split("/")[-1] for p in stay} == {
    "scale",  # of norms
    "bias",
    "lora_down",
    "lora_up",
  }
  for path in stay:
    assert quantize(path, before[path]) is None
    assert after[path] is before[path]
  for path in set(before) - stay:
    assert after[path].dtype == jnp.int8
    assert after[path].shape == before[path].shape


@pytest.mark.parametrize(
  "config", [TIED, UNTIED, RICH], ids=["tied", "untied", "rich"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_expects_what_quantising_makes(config, dtype):
  params = as_loaded(filled_params(config), dtype)
  made = jax.eval_shape(quantize_params, params)
  expected = nn.unbox(abstract_params(config, dtype, weights="int8"))
  describe = lambda tree: {
    path: (leaf.shape, leaf.dtype)
    for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
  }
  assert describe(expected) == describe(made)


@pytest.mark.parametrize(
  "config", [TIED, UNTIED, RICH], ids=["tied", "untied", "rich"]
)
def test_int8_logits_are_those_of_the_weights_they_stand_for(config):
  made = jax.jit(quantize_params)(filled_params(config))
  rng = np.random.default_rng(2)
  tokens = jnp.asarray(rng.integers(0, config.vocab_size, (2, 9)))

  def logits(weights: str, params):
    model = Llama(config, kernels.for_platform("float32", "cpu", weights))
    apply = jax.jit(lambda p: model.apply(p, tokens, method=Llama.init_all))
    return np.asarray(apply({"params": params}))

  wanted = logits("float", stands_for(made))
  # The scale is taken out of the product's sum: float32 rounding, no more.
  np.testing.assert_allclose(
    logits("int8", made), wanted, atol=2e-5 * np.abs(wanted).max()
  )
  original = logits("float", filled_params(config))
  # It would show if the rounding were left out.
  assert np.abs(original - wanted).max() > 1e-3 * np.abs(wanted).max()


def test_quality_on_real_text(smollm2):
  """A small model is the hard case: few weights a channel, tied embeddings.

  The file's own weights were of 4 bits once (Q4_1), so this is the change that
  int8 adds to those, on a model that is rougher than its original. Measured:
  94.3 % and 0.0042 nats, of 732 tokens (tests/benchmarks/int8_quality.py).
  """
  found = int8_quality.measure(smollm2, int8_quality.TEXT.read_text())
  assert found.tokens > 700
  assert found.agreement > 0.92
  assert 1e-4 < found.kl < 0.008  # above nothing: the weights are rounded
  assert abs(found.nats_int8 - found.nats) < 0.02
