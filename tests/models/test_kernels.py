"""Every way to keep and multiply kernels, against float32 as it is."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import kernels, one_cpu
from s2d_jax.models.kernels import Float, Int8, Rounded, RoundedInt8
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora
from s2d_jax.models.quantize import quantize_params
from tests.models.test_quantize import stands_for
from tests.random_model import TIED, UNTIED, filled_params

LORA = Lora(2, 4.0, ("q", "o", "down"))
PROMPT = 6  # of 9 tokens; the others are read behind it


class Row(NamedTuple):
  """Of the table: what goes together, and how near it is to float32."""

  way: kernels.Float
  lora: Lora | None
  one_cpu: bool
  error: float  # of logits, as a share of their largest


# bfloat16 has 8 bits: factors are off by up to 1 / 512.
TABLE = [
  Row(Float("float32"), None, False, 1e-5),
  Row(Float("float32"), LORA, False, 1e-5),
  Row(Float("float32"), None, True, 1e-5),
  Row(Float("float32"), LORA, True, 1e-5),
  Row(Float("bfloat16"), None, False, 3e-2),
  Row(Float("bfloat16"), LORA, False, 3e-2),
  Row(Rounded("bfloat16"), None, False, 2e-2),
  Row(Rounded("bfloat16"), LORA, False, 2e-2),
  Row(Rounded("bfloat16"), None, True, 2e-2),
  Row(Rounded("bfloat16"), LORA, True, 2e-2),
  Row(Int8("float32"), None, False, 1e-5),
  Row(Int8("float32"), None, True, 1e-5),
  Row(Int8("bfloat16"), None, False, 3e-2),
  Row(RoundedInt8("bfloat16"), None, False, 2e-2),
  Row(RoundedInt8("bfloat16"), None, True, 2e-2),
]


def _name(row: Row) -> str:
  parts = type(row.way).__name__, row.way.dtype, row.lora and "lora"
  return "-".join(filter(None, (*parts, row.one_cpu and "one_cpu")))


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("row", TABLE, ids=_name)
def test_logits_are_those_of_float32(row, config):
  """Of a prompt, and of tokens behind its keys and values."""
  params = jax.tree.map(lambda x: 0.1 * x, filled_params(config, row.lora))
  is_int8 = not row.way.takes_adapters
  given = quantize_params(params) if is_int8 else params
  plain = stands_for(given) if is_int8 else params
  given = row.way.for_decoding(given) if row.lora is None else given
  model = Llama(config, row.way, lora=row.lora)
  if row.one_cpu:
    model, given = one_cpu.for_decoding(model, given)
  tokens = np.random.default_rng(3).integers(0, config.vocab_size, (2, 9))
  wanted = _logits(Llama(config, lora=row.lora), plain, tokens)
  found = _logits(model, given, tokens)
  assert found.dtype == np.float32
  largest = np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, atol=row.error * largest)
  if row.error > 1e-3:  # so coarse that float32 would be noticed
    assert np.abs(found - wanted).max() > 1e-4 * largest


def _logits(model, params, tokens) -> np.ndarray:
  """[B, T, V], the last of them from a past as a batch keeps it."""

  @jax.jit
  def run(params):
    apply = lambda *args, **kw: model.apply({"params": params}, *args, **kw)
    steps = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    first, last = slice(None, PROMPT), slice(PROMPT, None)
    before, past = apply(tokens[:, first], steps[:, first])
    assert jax.tree.leaves(past.keys)[0].dtype == model.kernels.cache_dtype
    past = past._replace(valid=jnp.ones((2, 1, PROMPT), bool))
    behind, _ = apply(tokens[:, last], steps[:, last], None, [past])
    hidden = jnp.concatenate([before, behind], axis=1)
    return apply(hidden, method=Llama.logits)

  return np.asarray(run(params))


def test_the_table_has_every_way():
  assert {type(row.way) for row in TABLE} == set(kernels.WAYS)
  turned = {type(row.way) for row in TABLE if row.one_cpu}
  assert turned == set(kernels.WAYS)
  assert set(one_cpu.TURNED) == {Float, Int8}


@pytest.mark.parametrize("way", [Int8(), RoundedInt8("bfloat16")])
def test_int8_takes_no_adapters(way):
  model = Llama(UNTIED, way, lora=LORA)
  with pytest.raises(ValueError, match="merge them first"):
    jax.eval_shape(
      lambda key: model.init(
        key, jnp.zeros((1, 1), jnp.int32), method=Llama.init_all
      ),
      jax.random.key(0),
    )
