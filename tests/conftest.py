"""Models that many tests share: a tiny random one and a small real one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import pytest

from s2d_jax.checkpoints import names, pretrained
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.parallel.mesh import make_mesh
from tests.random_model import random_params


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
  """What is compiled twice is compiled once, here and in other processes."""
  settings = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, value in settings.items():
      patch.setenv(name.upper(), str(value))
      jax.config.update(name, value)
    yield


class Tiny(NamedTuple):
  config: ModelConfig
  params: dict[str, Any]


@pytest.fixture(scope="session")
def tiny() -> Tiny:
  """Two random layers: grouped heads, an untied head, its own head size."""
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
  return Tiny(config, random_params(config))


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
  return pretrained.load(path, make_mesh())
