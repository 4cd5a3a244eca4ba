"""Loss and gradients against a teacher, on meshes beside those of one device.

Run as a program, as it needs 8 devices.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from unittest import mock

from flax import traverse_util
import jax
import numpy as np

from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import PROJECTIONS, Lora, split
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import loss as losses, step
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import Teacher, teacher_loss
from s2d_jax.training.packing import OnPolicyRows, in_order, stack
from tests.random_model import TIED, filled_params

CONFIG = dataclasses.replace(TIED, num_layers=1)
LORA = Lora(2, 4.0, PROJECTIONS)
CASES = (  # dcn, data, fsdp, tensor; micro-batches; adapters
  ((1, 2, 1, 1), 1, None),
  ((1, 1, 2, 2), 1, LORA),
  ((2, 1, 2, 2), 2, None),
)


def _rows() -> OnPolicyRows:
  """Eight rows of two replies each; the teacher's are longer."""
  rng = np.random.default_rng(0)
  student, teacher = [], []
  for _ in range(8):
    replies = [rng.integers(0, 96, int(rng.integers(2, 9))) for _ in range(2)]
    for rows, most in ((student, 8), (teacher, 24)):
      examples = []
      for reply in replies:
        prompt = rng.integers(0, 96, int(rng.integers(most // 2, most)))
        tokens = np.concatenate([[3, 3], prompt, reply]).astype(np.int32)
        is_reply = np.arange(len(tokens)) >= len(tokens) - len(reply)
        examples.append(Tokenised(tokens, is_reply))
      rows.append(in_order(examples, share=True))
  return OnPolicyRows(stack(student, 40, 16), stack(teacher, 72, 16))


def _compute(mesh, lora, rows, micro_batches: int):
  """The student is the teacher, moved."""
  whole = jax.tree.map(lambda x: 0.2 * x, filled_params(CONFIG, lora))
  learnt, frozen = split(whole) if lora else (whole, {})
  taught = frozen or jax.tree.map(lambda x: 0.8 * x, whole)
  with meshes.use(mesh, training=True):
    boxed = abstract_params(CONFIG, lora=lora)
    adapters, rest = split(meshes.param_shardings(boxed, mesh))
    of_learnt, of_frozen = (adapters, rest) if lora else (rest, {})
    rows = step.put_rows(rows, micro_batches, mesh)
    model = Llama(CONFIG, lora=lora)

    def compute(params, frozen, taught, rows):
      summed = functools.partial(
        teacher_loss, teacher=Teacher(Llama(CONFIG), taught)
      )
      return losses.mean_loss_and_grads(model, params, frozen, rows, summed)

    return jax.device_get(
      jax.jit(compute)(
        jax.device_put(learnt, of_learnt),
        jax.device_put(frozen, of_frozen),
        jax.device_put(taught, rest),
        rows,
      )
    )


def _relative(got, wanted) -> float:
  return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def main() -> None:
  rows = _rows()
  one = {
    lora: _compute(meshes.make_mesh(), lora, rows, 1) for lora in (None, LORA)
  }
  found = {}
  for (dcn, data, fsdp, tensor), micro_batches, lora in CASES:
    # In micro-batches also in chunks, of which one device had the whole.
    most = 2**11 if micro_batches > 1 else 2**28
    with mock.patch.object(losses, "_LOGITS_BYTES", most):
      mesh = meshes.make_mesh(data, fsdp, tensor, dcn)
      got = _compute(mesh, lora, rows, micro_batches)
      loss, grads = jax.tree.map(_relative, got, one[lora])
      flat = traverse_util.flatten_dict(grads, sep="/")
      name = f"{dcn} {data} {fsdp} {tensor}" + " adapters" * (lora is not None)
      found[name] = {
        "loss": loss,
        "leaves": len(flat),
        "worst": max(flat.values()),
      }
  print(json.dumps(found))


if __name__ == "__main__":
  main()
