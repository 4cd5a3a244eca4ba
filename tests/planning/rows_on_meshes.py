"""Sizes of a batch on meshes of 1, 2, 4 and 8 devices, as JSON."""

from __future__ import annotations

import json

import jax.numpy as jnp

from s2d_jax.checkpoints.train_state import with_shardings
from s2d_jax.models import kernels
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.planning import rows
from s2d_jax.planning.decoding import Sampler

CONFIG = ModelConfig(
  vocab_size=1024,
  embed_dim=256,
  num_layers=3,
  num_heads=8,
  num_kv_heads=4,
  head_dim=32,
  mlp_dim=512,
  max_context=4096,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=False,
)
PER_SLOT, PROMPT, REPLY = 4, 256, 512
FLOPS, BANDWIDTH = 2e11, 1e10
LIMIT = 200 * 2**20
MESHES = ((1, 1), (2, 1), (2, 2), (4, 2))  # data, tensor


def sampler(data: int = 1, tensor: int = 1) -> Sampler:
  """In bfloat16, of shapes alone."""
  mesh = meshes.make_mesh(data=data, tensor=tensor)
  boxed = abstract_params(CONFIG, jnp.bfloat16)
  params = with_shardings(boxed, meshes.param_shardings(boxed, mesh))
  return Sampler(Llama(CONFIG, kernels.Float(jnp.bfloat16)), params, mesh)


def sizes(data: int = 1, tensor: int = 1) -> list[rows.Size]:
  peaks = rows.Peaks(FLOPS, BANDWIDTH)
  made = sampler(data, tensor)
  return list(rows.sizes(made, PER_SLOT, PROMPT, REPLY, peaks, LIMIT))


if __name__ == "__main__":
  print(
    json.dumps(
      [
        [
          {
            "rows": size.rows,
            "slots": size.batch.slots,
            "resident": size.resident,
            "compute": size.compute,
            "memory": size.memory,
          }
          for size in sizes(*shape)
        ]
        for shape in MESHES
      ]
    )
  )
