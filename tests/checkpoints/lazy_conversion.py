"""Converts a model of 600 MB in a process of its own; prints what it took.

The steps are a base folder, a run that trained adapters beside it and one that
trained all weights; `tests.checkpoints.test_lazy` starts them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import resource
import sys

from absl import flags
from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import transformers  # noqa: F401  or importing it would count

from s2d_jax.checkpoints import hf, layout, stream, train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.lora import Lora
from s2d_jax.models.params import abstract_params
from tests.checkpoints.test_gguf_writer import tokenizer

CONFIG = ModelConfig(
  vocab_size=1000,
  embed_dim=1024,
  num_layers=12,
  num_heads=16,
  num_kv_heads=16,
  head_dim=64,
  mlp_dim=2816,
  max_context=256,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=True,
)
LORA = Lora(8, 16.0, ("q", "up", "down"))


def random_params(dtype=np.float32):
  """Made layer by layer when they are asked for."""
  random = np.random.default_rng(0)

  def leaf(one: layout.Leaf) -> stream.LazyLeaf:
    stacked = one.tensors[0].layer is not None
    shape = one.shape[1:] if stacked else one.shape
    return stream.LazyLeaf(
      lambda _: random.standard_normal(shape, np.float32).astype(dtype)
    )

  flat = {one.path: leaf(one) for one in layout.leaves(CONFIG)}
  return traverse_util.unflatten_dict(flat, sep="/")


def make(folder: str) -> None:
  """The base, and the runs `lora` and `whole` on it."""
  base = pathlib.Path(folder) / "base"
  hf.write(base, CONFIG, random_params(), tokenizer())
  _, shapes = lora.split(abstract_params(CONFIG))
  trained, _ = lora.split(abstract_params(CONFIG, lora=LORA))
  for name, tree, rank in (("lora", trained, 8), ("whole", shapes, 0)):
    run = pathlib.Path(folder) / name
    run.mkdir()
    settings = {"lora": dataclasses.asdict(LORA) | {"rank": rank}}
    config = {"model": {"name": str(base)}, "finetune": settings}
    (run / "config.json").write_text(json.dumps(config))
    params = jax.tree.map(
      lambda leaf: jnp.full(leaf.shape, 0.01), nn.meta.unbox(tree)
    )
    with train_state.open_manager(run / "checkpoints") as manager:
      state = TrainState(jnp.int32(1), params, {"moment": jnp.zeros(1)})
      train_state.save(manager, state, {}, 1.0)


def measure(*arguments: str) -> None:
  """Peak growth of memory, in bytes, of `s2d convert` with these flags."""
  # Here, as the tests that import this module import other programs, too.
  from s2d_jax.stages import convert

  flags.FLAGS(["s2d convert", *arguments])
  page = os.sysconf("SC_PAGESIZE")
  before = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * page
  convert.convert(None)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(peak - before)


if __name__ == "__main__":
  {"make": make, "measure": measure}[sys.argv[1]](*sys.argv[2:])
