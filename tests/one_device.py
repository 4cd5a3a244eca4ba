"""Reading a checkpoint onto one device, as most tests want it."""

from __future__ import annotations

from s2d_jax.models.config import ModelConfig
from s2d_jax.models.params import Params
from s2d_jax.parallel.mesh import make_mesh


def read(reader, path, dtype: str = "float32") -> tuple[ModelConfig, Params]:
  """The model at `path`; `reader` is `hf` or `gguf`."""
  config = reader.read_config(path)
  return config, reader.read_params(path, config, make_mesh(), dtype)
