"""float32 is float32 on every device: no product may be taken in less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.generation import decode
from s2d_jax.models import one_cpu
from s2d_jax.models.kernels import Float, Int8
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import PROJECTIONS, Lora
from s2d_jax.models.quantize import quantize_params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training.loss import target_loss
from s2d_jax.training.packing import PackedRows
from tests.random_model import TIED, UNTIED, filled_params

_EXACT = (jax.lax.Precision.HIGHEST,) * 2


def _precisions(jaxpr) -> list:
  """Of all matrix products of a program, in inner programs too."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      found.append(equation.params["precision"])
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
    ):
      inner = getattr(inner, "jaxpr", inner)
      if hasattr(inner, "eqns"):
        found += _precisions(inner)
  return found


def _gradient(config, way, lora=None):
  model = Llama(config, way, "full", lora)
  params = filled_params(config, lora)
  whole = np.zeros((2, 8), np.int32)
  rows = PackedRows(
    tokens=whole,
    positions=whole,
    until=whole + 8,
    target_index=whole[:, :4],
    target_token=whole[:, :4],
    target_weight=whole[:, :4] + np.float32(1),
  )
  loss = lambda params: target_loss(model, {"params": params}, rows)
  return jax.make_jaxpr(jax.grad(loss))(params)


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("lora", [None, Lora(2, 4.0, PROJECTIONS)])
def test_training_in_float32(config, lora):
  products = _precisions(_gradient(config, Float("float32"), lora).jaxpr)
  assert len(products) > 20
  assert set(products) == {_EXACT}


def test_bfloat16_is_left_to_the_device():
  products = _precisions(_gradient(TIED, Float("bfloat16")).jaxpr)
  assert set(products) == {None}


@pytest.mark.parametrize("way", [Float("float32"), Int8("float32")])
@pytest.mark.parametrize("for_cpu", [False, True])
def test_decoding_in_float32(way, for_cpu):
  model, params = Llama(UNTIED, way), filled_params(UNTIED)
  if isinstance(way, Int8):
    params = quantize_params(params)
  if for_cpu:
    model, params = one_cpu.for_decoding(model, params)
  shared = decode.Shared(
    model.empty_cache(1, 16)._replace(valid=jnp.zeros((1, 1, 1), bool)),
    jnp.full(16, -1),
    jnp.zeros((4, UNTIED.vocab_size), bool),
  )

  def run(params):
    capacity = decode.Capacity(prompt=16, own=32, page=16, pages=6)
    batch, pages = decode.empty_batch(model, 2, 2, capacity, shards=1)
    keep, more = jnp.ones(4, bool), jnp.ones(2, bool)
    return decode.decode(
      model,
      6,
      params,
      batch,
      pages,
      shared,
      keep,
      more,
      jnp.int32(3),
      jnp.int32(1),
    )

  with meshes.use(meshes.make_mesh()):
    products = _precisions(jax.make_jaxpr(run)(params).jaxpr)
  assert len(products) > 8
  assert set(products) == {_EXACT}
