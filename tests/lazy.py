"""Leaves that stay in their files, brought into memory to be compared."""

from __future__ import annotations

from flax import traverse_util
import numpy as np

from s2d_jax.checkpoints import layout
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.params import Params


def in_memory(config: ModelConfig, params: Params) -> Params:
  """The same tree of arrays; those with layers are read layer by layer."""
  flat = traverse_util.flatten_dict(params, sep="/")

  def whole(leaf: layout.Leaf) -> np.ndarray:
    if leaf.tensors[0].layer is None:
      return flat[leaf.path][...]
    layers = range(config.num_layers)
    return np.stack([flat[leaf.path][layer] for layer in layers])

  leaves = {leaf.path: whole(leaf) for leaf in layout.leaves(config)}
  return traverse_util.unflatten_dict(leaves, sep="/")
