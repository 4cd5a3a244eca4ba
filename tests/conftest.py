"""Models that many tests share: a tiny random one and a small real one."""

from __future__ import annotations

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import pytest

from s2d_jax.checkpoints import names, pretrained
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama


class Tiny(NamedTuple):
  config: ModelConfig
  params: dict[str, Any]


@pytest.fixture(scope="session")
def tiny() -> Tiny:
  """Two random layers: grouped heads, an untied head, a head size of its own.

  Initial weights of 0.02 would make attention uniform and all logits alike, so
  they are enlarged.
  """
  config = ModelConfig(
    vocab_size=128,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    max_context=256,
    rope_theta=10000.0,
    rms_eps=1e-5,
    tie_embeddings=False,
  )

  @jax.jit
  def init(key):
    tokens = jnp.ones((1, 1), jnp.int32)
    return Llama(config).init(key, tokens, method=Llama.init_all)

  params = nn.meta.unbox(init(jax.random.key(0)))["params"]
  return Tiny(
    config, jax.tree.map(lambda x: x * 10 if float(x.std()) else x, params)
  )


@pytest.fixture(scope="session")
def smollm2() -> pretrained.Pretrained:
  """SmolLM2-135M-Instruct as the package index has it, quantised to Q4_1.

  The goldens were made from that very file; by its name one would get the
  weights of the Hub, which are others, on a machine that reaches it.
  """
  try:
    path = names.smollm2_gguf()
  except UserError as error:
    pytest.skip(f"the real model cannot be had: {error}")
  return pretrained.load(path)
