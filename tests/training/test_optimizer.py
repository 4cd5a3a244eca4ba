from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.params import abstract_params
from s2d_jax.training.optimizer import (
  decayed,
  learning_rate,
  make_optimizer,
)
from tests import fake_devices

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
    8, 8, 2, 2, 1, 4, 8, 8, alike(1e4), 1e-5, False, qkv_bias=True
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


ADAFACTOR = ml_collections.ConfigDict(
  CONFIG.to_dict() | {"optimizer": "adafactor"}
)


def numpy_adafactor(params, grads, decay):
  """Shazeer & Stern 2018, algorithm 4, on a clipped gradient.

  Rows and columns are the two largest axes; other axes count matrices. Without
  first moments, and the rate is not relative to the parameters.
  """
  rows = {k: 0.0 for k in params}
  columns = {k: 0.0 for k in params}
  whole = {k: 0.0 for k in params}
  for t, grad_of in enumerate(grads, start=1):
    rate = ADAFACTOR.learning_rate * t / ADAFACTOR.warmup_steps
    norm = np.sqrt(sum((g**2).sum() for g in grad_of.values()))
    scale = min(1, ADAFACTOR.clip_norm / norm)
    beta = 1 - t**-0.8
    for k, grad in grad_of.items():
      grad = grad * scale
      square = grad**2 + 1e-30
      if min(grad.shape[-2:]) >= 128:
        rows[k] = beta * rows[k] + (1 - beta) * square.sum(-1)
        columns[k] = beta * columns[k] + (1 - beta) * square.sum(-2)
        second = (
          rows[k][..., :, None]
          * columns[k][..., None, :]
          / rows[k].sum(-1)[..., None, None]
        )
      else:
        whole[k] = second = beta * whole[k] + (1 - beta) * square
      change = grad / np.sqrt(second)
      change /= max(1, np.sqrt((change**2).mean()))
      weight_decay = ADAFACTOR.weight_decay * params[k] * decay[k]
      params[k] = params[k] - rate * (change + weight_decay)
  return params


@pytest.mark.parametrize("size", [1e-4, 10.0])  # below and above the clip
def test_update_is_adafactor(size):
  rng = np.random.default_rng(0)
  shapes = {
    "kernel": (2, 130, 140),  # two layers, factored
    "embedding": (160, 128),  # factored
    "scale": (2, 3),
    "bias": (2, 100, 90),  # too small to be factored
  }
  params = {k: rng.normal(size=s) for k, s in shapes.items()}
  grads = [
    {k: step * size * rng.normal(size=s) for k, s in shapes.items()}
    for step in (1, 2, 3)
  ]
  optimizer = make_optimizer(ADAFACTOR, 14)
  single = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, "float32"), tree)
  got = single(params)
  state, update = optimizer.init(got), jax.jit(optimizer.update)
  for grad in grads:
    updates, state = update(single(grad), state, got)
    got = optax.apply_updates(got, updates)
  decay = {"kernel": 1, "embedding": 1, "scale": 0, "bias": 0}
  wanted = numpy_adafactor(dict(params), grads, decay)
  for name in shapes:
    # Of what three updates have changed: the parameters are rounded to 2^-24.
    np.testing.assert_allclose(
      got[name] - params[name], wanted[name] - params[name], atol=1e-6
    )
    assert np.abs(wanted[name] - params[name]).max() > 1e-2


def test_adafactor_keeps_hardly_any_state():
  config = ModelConfig(
    32000, 4096, 32, 32, 32, 128, 11008, 4096, alike(1e4), 1e-5, False
  )
  params = nn.unbox(abstract_params(config))
  size = lambda tree: sum(
    x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
  state = {
    config.optimizer: size(
      jax.eval_shape(make_optimizer(config, 14).init, params)
    )
    for config in (CONFIG, ADAFACTOR)
  }
  assert state["adamw"] >= 2 * size(params)
  assert state["adafactor"] < 0.01 * size(params)


def test_adafactor_does_not_depend_on_the_mesh():
  """The state lies as the shapes alone have said, and the steps are the same.

  Relative to what two steps move the weights by: a gradient's float32 rounding
  is divided by the root of its own mean square, which near zero is as small.
  """
  found = fake_devices.run_module("tests.training.adafactor_on_a_mesh")
  assert found["as_planned"]
  assert found["loss"] < 1e-5
  assert found["error"] < 2e-3
