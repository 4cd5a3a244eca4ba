"""Two steps of Adafactor on a mesh of 8 devices beside those of one.

Run as a program, as it needs the devices.
"""

from __future__ import annotations

import json

import jax
import numpy as np

from s2d_jax import config as configs
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.optimizer import make_optimizer
from s2d_jax.training.packing import pack
from tests.random_model import random_params

# Tables and the feed-forward are large enough to be factored, q and k are not.
CONFIG = ModelConfig(
  vocab_size=128,
  embed_dim=128,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=256,
  max_context=64,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=False,
)


def _finetune():
  config = configs.default().finetune
  config.optimizer, config.dtype = "adafactor", "float32"
  config.batch_rows, config.row_length = 8, 32
  config.learning_rate, config.warmup_steps = 1e-2, 0
  config.weight_decay = 0.1
  return config


def _rows():
  rng = np.random.default_rng(0)
  examples = {
    str(i): Tokenised(
      rng.integers(0, 128, 16).astype(np.int32), np.arange(16) > 7
    )
    for i in range(16)
  }
  return pack(examples, 32)


def _run(config, mesh, params):
  with meshes.use(mesh, training=True):
    model = steps.make_model(config, CONFIG, mesh)
    abstract = steps.abstract_state(config, CONFIG, mesh, 10)
    train_step = steps.make_train_step(config, model, abstract, 10)
    fresh = (
      np.int32(0),
      params,
      make_optimizer(config, 10).init(params),
    )
    state = jax.device_put(
      jax.tree.unflatten(jax.tree.structure(abstract), jax.tree.leaves(fresh)),
      jax.tree.map(lambda leaf: leaf.sharding, abstract),
    )
    for _ in range(2):
      rows = steps.put_rows(_rows(), 1, mesh)
      state, metrics = train_step(state, {}, rows)
  as_planned = all(
    leaf.sharding.is_equivalent_to(plan.sharding, leaf.ndim)
    and (leaf.shape, leaf.dtype) == (plan.shape, plan.dtype)
    for leaf, plan in zip(*map(jax.tree.leaves, (state, abstract)), strict=True)
  )
  return jax.device_get((state.params, metrics["loss"])), as_planned


def main() -> None:
  config, start = _finetune(), jax.device_get(random_params(CONFIG))
  (wanted, wanted_loss), _ = _run(config, meshes.make_mesh(), start)
  mesh = meshes.make_mesh(dcn=2, fsdp=2, tensor=2)
  (params, loss), as_planned = _run(config, mesh, start)
  # Of each leaf: how far apart they are, beside how far they have moved.
  apart = lambda a, b, c: float(np.abs(a - b).max() / np.abs(b - c).max())
  errors = jax.tree.leaves(jax.tree.map(apart, params, wanted, start))
  found = {
    "as_planned": as_planned,
    "loss": float(abs(loss - wanted_loss)),
    "error": max(errors),
  }
  print(json.dumps(found))


if __name__ == "__main__":
  main()
