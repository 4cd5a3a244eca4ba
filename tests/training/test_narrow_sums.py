"""Gradients in bfloat16 at thousands of tokens, against those in float32.

What is added up in bfloat16 stops to grow after some 256 equal summands, so
sums over tokens must be float32; a toy batch would not show it.
"""

from __future__ import annotations

import dataclasses
import functools

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models.kernels import Float
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import PROJECTIONS, Lora, split
from s2d_jax.training import loss as losses
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import (
  Teacher,
  mean_loss_and_grads,
  target_loss,
  teacher_loss,
)
from s2d_jax.training.packing import OnPolicyRows, pack
from tests.random_model import TIED, UNTIED, filled_params

LENGTH, ROWS = 1_000, 6  # of which a third is a micro-batch
COMMON = 7  # a token at a tenth of the positions
UNTIED = dataclasses.replace(UNTIED, num_layers=1)
TIED = dataclasses.replace(TIED, num_layers=1, qkv_bias=True)
LORA = Lora(2, 4.0, PROJECTIONS)


def _rows(micro_batches: int):
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, TIED.vocab_size, (ROWS, LENGTH))
  tokens[:, ::10] = COMMON
  is_target = np.arange(LENGTH) >= LENGTH // 4
  examples = {
    str(i): Tokenised(row.astype(np.int32), is_target)
    for i, row in enumerate(tokens)
  }
  packed = pack(examples, LENGTH)
  return jax.tree.map(
    lambda x: jnp.asarray(x.reshape(micro_batches, -1, x.shape[-1])), packed
  )


def _gradients(config, dtype, micro_batches, lora=None, has_teacher=False):
  params = jax.tree.map(lambda x: 0.1 * x, filled_params(config, lora))
  learnt, frozen = split(params) if lora else (params, {})
  model = Llama(config, Float(dtype), lora=lora)
  rows, summed = _rows(micro_batches), target_loss
  if has_teacher:
    # It has read the rows in another order, and is sharper.
    rows = OnPolicyRows(rows, rows._replace(tokens=rows.tokens[..., ::-1]))
    narrowed = jax.tree.map(lambda x: (2 * x).astype(dtype), params)
    teacher = Teacher(Llama(config, Float(dtype)), narrowed)
    summed = functools.partial(teacher_loss, teacher=teacher)
  compute = jax.jit(mean_loss_and_grads, static_argnums=(0, 4))
  _, grads = compute(model, learnt, frozen, rows, summed)
  flat = traverse_util.flatten_dict(grads, sep="/")
  return {path: np.asarray(leaf, np.float64) for path, leaf in flat.items()}


@pytest.mark.parametrize(
  "config, micro_batches, lora, logits_bytes, has_teacher",
  [
    (UNTIED, 1, None, None, False),
    (TIED, 3, None, 2**17, False),
    (UNTIED, 1, LORA, None, False),
    (TIED, 1, None, 2**17, True),
  ],
  ids=[
    "untied",
    "tied, in micro-batches and chunks",
    "adapters",
    "from a teacher, in chunks",
  ],
)
def test_every_leaf_is_that_of_float32(
  config, micro_batches, lora, logits_bytes, has_teacher, monkeypatch
):
  if logits_bytes:
    monkeypatch.setattr(losses, "_LOGITS_BYTES", logits_bytes)
  how = micro_batches, lora, has_teacher
  narrow = _gradients(config, "bfloat16", *how)
  wanted = _gradients(config, "float32", *how)
  assert set(narrow) == set(wanted)
  errors = {
    path: float(np.linalg.norm(narrow[path] - leaf) / np.linalg.norm(leaf))
    for path, leaf in wanted.items()
  }
  assert max(errors.values()) <= 0.02, errors
  if lora is None:
    table = "embed/embedding"
    off = np.linalg.norm(narrow[table][COMMON] - wanted[table][COMMON])
    assert off <= 0.02 * np.linalg.norm(wanted[table][COMMON])
