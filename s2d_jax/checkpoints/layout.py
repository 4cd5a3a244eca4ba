"""One table between our parameter tree and the tensors of a Llama file.

Files hold a tensor a layer and matrices as [out, in], under the names Hugging
Face gave them; the tree stacks layers in front and holds [in, out] with heads
as axes of their own. Reading and writing share the table and one view.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import NamedTuple

from etils import epath
from flax import linen as nn, traverse_util
import jax
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params, abstract_params

_MODEL = {
  "embed/embedding": "model.embed_tokens.weight",
  "final_norm/scale": "model.norm.weight",
  "head/kernel": "lm_head.weight",
}
_LAYER = {
  "layers/attention_norm/scale": "input_layernorm.weight",
  "layers/attention/q/kernel": "self_attn.q_proj.weight",
  "layers/attention/q/bias": "self_attn.q_proj.bias",
  "layers/attention/k/kernel": "self_attn.k_proj.weight",
  "layers/attention/k/bias": "self_attn.k_proj.bias",
  "layers/attention/v/kernel": "self_attn.v_proj.weight",
  "layers/attention/v/bias": "self_attn.v_proj.bias",
  "layers/attention/o/kernel": "self_attn.o_proj.weight",
  "layers/mlp_norm/scale": "post_attention_layernorm.weight",
  "layers/mlp/gate/kernel": "mlp.gate_proj.weight",
  "layers/mlp/up/kernel": "mlp.up_proj.weight",
  "layers/mlp/down/kernel": "mlp.down_proj.weight",
}


class Tensor(NamedTuple):
  """One tensor of a file, and where it lies in the parameter tree."""

  name: str
  shape: tuple[int, ...]  # in the file
  path: str  # in the tree, "/" between the keys
  layer: int | None


def tensors(config: ModelConfig) -> list[Tensor]:
  """Every tensor of a model, layer by layer."""
  shapes = _leaf_shapes(config)

  def tensor(path, name, layer=None):
    leaf = jax.ShapeDtypeStruct(shapes[path], np.float32)
    if layer is not None:
      leaf = jax.ShapeDtypeStruct(leaf.shape[1:], np.float32)
    # A view without memory: zero strides.
    shape = _file_view(path, np.broadcast_to(np.float32(0), leaf.shape)).shape
    return Tensor(name, shape, path, layer)

  found = [tensor(path, _MODEL[path]) for path in _MODEL if path in shapes]
  for layer in range(config.num_layers):
    found += [
      tensor(path, f"model.layers.{layer}.{name}", layer)
      for path, name in _LAYER.items()
      if path in shapes
    ]
  return found


def assemble(
  config: ModelConfig, read: Callable[[str, tuple[int, ...]], np.ndarray]
) -> Params:
  """Fills a float32 tree from `read(name, shape)`, one tensor at a time.

  `read` returns a float tensor of any precision in the file's layout. Peak
  memory is the tree and one tensor.
  """
  tree = {
    path: np.empty(shape, np.float32)
    for path, shape in _leaf_shapes(config).items()
  }
  for tensor in tensors(config):
    leaf = tree[tensor.path]
    leaf = leaf if tensor.layer is None else leaf[tensor.layer]
    _file_view(tensor.path, leaf)[...] = read(tensor.name, tensor.shape)
  return traverse_util.unflatten_dict(tree, sep="/")


def extract(params: Params, tensor: Tensor) -> np.ndarray:
  """The opposite of `assemble` for one tensor: float32, the file's layout."""
  leaf = params
  for key in tensor.path.split("/"):
    leaf = leaf[key]
  leaf = leaf if tensor.layer is None else leaf[tensor.layer]
  return _file_view(tensor.path, np.asarray(leaf))


def check_shape(
  file: epath.Path, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
  if tuple(shape) != tuple(wanted):
    raise UserError(
      f"{file}: tensor {name} has shape {list(shape)}, but the model's"
      f" configuration asks for {list(wanted)}"
    )


def _leaf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  tree = nn.meta.unbox(abstract_params(config))
  leaves = traverse_util.flatten_dict(tree, sep="/")
  return {path: leaf.shape for path, leaf in leaves.items()}


def _file_view(path: str, leaf: np.ndarray) -> np.ndarray:
  """One layer's leaf as the file lays it out; writing to it fills the leaf."""
  if path.endswith("/bias"):
    return leaf.reshape(-1)
  if path.endswith("/kernel"):
    inputs = 2 if path.endswith("/o/kernel") else 1
    return leaf.reshape(math.prod(leaf.shape[:inputs]), -1).T
  return leaf
