from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import abstract_params
from s2d_jax.training.optimizer import (
  decayed,
  learning_rate,
  make_optimizer,
)

CONFIG = ml_collections.ConfigDict(
  {
    "learning_rate": 1e-2,
    "warmup_steps": 4,
    "weight_decay": 0.3,
    "optimizer": "adamw",
    "clip_norm": 0.5,
    "b1": 0.9,
    "b2": 0.95,
  }
)


def test_schedule_values():
  schedule = learning_rate(CONFIG, 14)
  rates = [float(schedule(step)) for step in range(14)]
  np.testing.assert_allclose(
    rates[:4], [0.0025, 0.005, 0.0075, 0.01], rtol=1e-6
  )
  np.testing.assert_allclose(rates[8], 0.0055, rtol=1e-6)  # half way down
  np.testing.assert_allclose(rates[13], 0.001, rtol=1e-6)
  assert rates[3:] == sorted(rates[3:], reverse=True)


def test_no_warm_up_starts_at_the_top():
  config = ml_collections.ConfigDict(CONFIG.to_dict() | {"warmup_steps": 0})
  schedule = learning_rate(config, 1000)
  np.testing.assert_allclose(schedule(0), 1e-2, rtol=1e-4)


def test_warm_up_longer_than_the_run_is_refused():
  with pytest.raises(UserError, match="warmup_steps=4.*4 steps"):
    learning_rate(CONFIG, 4)


def numpy_adamw(params, grads, steps, decay):
  """Loshchilov & Hutter 2019, algorithm 2, on a clipped gradient."""
  mu = {k: np.zeros_like(v) for k, v in params.items()}
  nu = {k: np.zeros_like(v) for k, v in params.items()}
  norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
  scale = min(1, CONFIG.clip_norm / norm)
  for t in range(1, steps + 1):
    rate = CONFIG.learning_rate * t / CONFIG.warmup_steps
    for k, grad in grads.items():
      grad = grad * scale
      mu[k] = CONFIG.b1 * mu[k] + (1 - CONFIG.b1) * grad
      nu[k] = CONFIG.b2 * nu[k] + (1 - CONFIG.b2) * grad**2
      mu_hat = mu[k] / (1 - CONFIG.b1**t)
      nu_hat = nu[k] / (1 - CONFIG.b2**t)
      change = mu_hat / (np.sqrt(nu_hat) + 1e-8)
      weight_decay = CONFIG.weight_decay * params[k] * decay[k]
      params[k] = params[k] - rate * (change + weight_decay)
  return params


@pytest.mark.parametrize("size", [0.01, 10.0])  # below and above the clip
def test_update_is_adamw(size):
  rng = np.random.default_rng(0)
  shapes = {"kernel": (2, 3, 4), "scale": (2, 3), "bias": (4,)}
  params = {k: rng.normal(size=s) for k, s in shapes.items()}
  grads = {k: size * rng.normal(size=s) for k, s in shapes.items()}
  optimizer = make_optimizer(CONFIG, 14)
  got = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  state = optimizer.init(got)
  for _ in range(3):
    updates, state = optimizer.update(
      jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grads), state, got
    )
    got = optax.apply_updates(got, updates)
  wanted = numpy_adamw(params, grads, 3, {"kernel": 1, "scale": 0, "bias": 0})
  for name in shapes:
    np.testing.assert_allclose(got[name], wanted[name], rtol=2e-5, atol=1e-6)


def test_what_decays():
  config = ModelConfig(
    8, 8, 2, 2, 1, 4, 8, 8, 1e4, 1e-5, False, attention_bias=True
  )
  mask = decayed(abstract_params(config))
  paths = jax.tree_util.tree_flatten_with_path(mask)[0]
  names = {}
  for path, value in paths:
    name = next(k.key for k in reversed(path) if hasattr(k, "key"))
    names.setdefault(name, set()).add(value)
  assert names == {
    "embedding": {True},
    "kernel": {True},
    "scale": {False},
    "bias": {False},
  }
