"""Reading a checkpoint onto one device, as most tests want it."""

from __future__ import annotations

from s2d_jax.checkpoints import stream
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params
from s2d_jax.parallel.mesh import make_mesh


def read(module, path, dtype: str = "float32") -> tuple[ModelConfig, Params]:
  """The model at `path`; `module` is `hf` or `gguf`."""
  config = module.read_config(path)
  place = module.reader(path, config)
  return config, stream.load(config, make_mesh(), dtype, place)
