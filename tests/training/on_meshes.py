"""Loss and gradients on meshes of 8 devices beside those of one.

Run as a program, as it needs the devices.
"""

from __future__ import annotations

import dataclasses
import json
from unittest import mock

from flax import traverse_util
import jax
import numpy as np

from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import loss as losses, step
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.packing import pack
from tests.random_model import RICH, random_params

CONFIG = dataclasses.replace(RICH, vocab_size=64, head_dim=8, mlp_dim=64)
SHAPES = (  # dcn, data, fsdp, tensor
  (1, 8, 1, 1),
  (1, 1, 8, 1),
  (1, 1, 4, 2),
  (2, 1, 2, 2),
  (1, 2, 2, 2),
)


def _rows():
  """Sixteen rows, packed from 40 sequences, some of which begin alike."""
  rng = np.random.default_rng(0)
  examples = {}
  for i in range(40):
    length = int(rng.integers(5, 17))
    tokens = rng.integers(0, CONFIG.vocab_size, length).astype(np.int32)
    tokens[:3] = i % 4  # what several begin with, they share
    examples[str(i)] = Tokenised(tokens, np.arange(length) > length // 2)
  rows = pack(examples, 32)
  assert max(len(set(row[row > 0])) for row in rows.until) >= 3  # in a row
  assert (rows.until > 0).sum() < sum(len(e.tokens) for e in examples.values())
  return rows.take(np.arange(len(rows.tokens)), 16)


def _compute(mesh, model, params, rows, micro_batches: int):
  with meshes.use(mesh, training=True):
    shardings = meshes.param_shardings(abstract_params(CONFIG), mesh)
    params = jax.device_put(params, shardings)
    rows = step.put_rows(rows, micro_batches, mesh)
    compute = jax.jit(losses.mean_loss_and_grads, static_argnums=0)
    return jax.device_get(compute(model, params, {}, rows))


def _relative(got, wanted) -> float:
  return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def main() -> None:
  params, rows = random_params(CONFIG), _rows()
  loss, grads = _compute(meshes.make_mesh(), Llama(CONFIG), params, rows, 1)
  found = []
  cases = [(shape, "full", 1) for shape in SHAPES]
  cases += [(SHAPES[3], "none", 1), (SHAPES[3], "dots", 1)]
  cases += [(SHAPES[3], "full", 2)]
  # The logits in several chunks, of which one device had the whole.
  with mock.patch.object(losses, "_LOGITS_BYTES", 2**10):
    for shape, remat, micro_batches in cases:
      dcn, data, fsdp, tensor = shape
      mesh = meshes.make_mesh(data, fsdp, tensor, dcn)
      model = Llama(CONFIG, remat=remat)
      got = _compute(mesh, model, params, rows, micro_batches)
      errors = jax.tree.map(_relative, got, (loss, grads))
      found.append(
        {
          "case": f"{shape} {remat} {micro_batches}",
          "loss": errors[0],
          "gradients": traverse_util.flatten_dict(errors[1], sep="/"),
        }
      )
  print(json.dumps(found))


if __name__ == "__main__":
  main()
