"""The divergence of two tiny models, on one device and on a mesh of eight."""

from __future__ import annotations

import json

import jax
import numpy as np

from s2d_jax.evaluation import movement
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from tests.random_model import UNTIED, random_params


def measure(shape: dict[str, int]) -> list[list[float]]:
  mesh = meshes.make_mesh(**shape)
  shardings = meshes.param_shardings(abstract_params(UNTIED), mesh)
  base = jax.tree.map(np.asarray, random_params(UNTIED))
  tuned = jax.tree.map(lambda leaf: 1.02 * leaf, base)
  model, passages = Llama(UNTIED), movement.windows(range(90), 30)
  placed = jax.device_put(tuned, shardings)
  kept = movement.log_probs(model, placed, passages, mesh)
  assert all(len(one.addressable_shards) == mesh.size for one in kept)
  parts = {one.addressable_shards[0].data.shape for one in kept}
  data, tensor = shape.get("data", 1), shape.get("tensor", 1)
  assert {part[0] * data for part in parts} == {len(kept[0])}
  assert {part[2] * tensor for part in parts} == {UNTIED.vocab_size}
  placed = jax.device_put(base, shardings)
  found = movement.divergences(model, placed, passages, kept, mesh)
  return [one.kl.tolist() for _, one in found]


if __name__ == "__main__":
  print(json.dumps([measure({}), measure({"data": 4, "tensor": 2})]))
