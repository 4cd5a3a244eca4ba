"""One table between our parameter tree and the tensors of a Llama file.

Files hold a tensor a layer and matrices as [out, in], under the names Hugging
Face gave them; the tree stacks layers in front and holds [in, out] with heads
as axes of their own. Reading and writing share the table and one view, which
also gives the slice of a file's tensor that a shard of a leaf needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import math
from typing import NamedTuple

from etils import epath
from flax import linen as nn, traverse_util
from jaxtyping import DTypeLike
import numpy as np

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.params import Params, abstract_params

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


class Leaf(NamedTuple):
  """One leaf of the parameter tree and the tensors it is made of."""

  path: str
  shape: tuple[int, ...]
  tensors: tuple[Tensor, ...]  # in the order of the layers


class TensorSlice(NamedTuple):
  """The slice of one tensor of a file that fills part of a shard."""

  tensor: Tensor
  window: tuple[slice, ...]  # of the tensor in the file
  view: np.ndarray  # of the shard, in the file's layout: to be filled


def leaves(config: ModelConfig) -> list[Leaf]:
  """Every leaf of a model, the largest first.

  Loaded in this order, the memory that a leaf needs while it is read comes on
  top of little.
  """
  tree = nn.meta.unbox(abstract_params(config))
  shapes = {
    path: leaf.shape
    for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
  }

  def tensor(path, name, layer=None) -> Tensor:
    shape = shapes[path] if layer is None else shapes[path][1:]
    # A view without memory: zero strides.
    view = _file_view(path, np.broadcast_to(np.float32(0), shape))
    return Tensor(name, view.shape, path, layer)

  def leaf(path) -> Leaf:
    if path in _MODEL:
      found = [tensor(path, _MODEL[path])]
    else:
      found = [
        tensor(path, f"model.layers.{layer}.{_LAYER[path]}", layer)
        for layer in range(config.num_layers)
      ]
    return Leaf(path, shapes[path], tuple(found))

  size = lambda leaf: math.prod(leaf.shape)
  return sorted(map(leaf, shapes), key=size, reverse=True)


def tensors(config: ModelConfig) -> list[Tensor]:
  """Every tensor of a model, layer by layer and in the order of the tables."""
  order = [*_MODEL, *_LAYER]
  found = [tensor for leaf in leaves(config) for tensor in leaf.tensors]
  layer = lambda t: -1 if t.layer is None else t.layer
  return sorted(found, key=lambda t: (layer(t), order.index(t.path)))


def tensor_slices(
  leaf: Leaf, index: Sequence[slice], shard: np.ndarray
) -> Iterator[TensorSlice]:
  """Yields the slices of tensors that fill `shard`, which is leaf[index].

  Copying the window of each into its view fills the shard.
  """
  ranges = [
    range(*axis.indices(size))
    for axis, size in zip(index, leaf.shape, strict=True)
  ]
  stacked = leaf.tensors[0].layer is not None
  shape = leaf.shape[1:] if stacked else leaf.shape
  window = _file_window(leaf.path, shape, ranges[1:] if stacked else ranges)
  for row, layer in enumerate(ranges[0] if stacked else [0]):
    view = _file_view(leaf.path, shard[row] if stacked else shard)
    yield TensorSlice(leaf.tensors[layer], window, view)


def extract(params: Params, tensor: Tensor, dtype: DTypeLike) -> np.ndarray:
  """One tensor out of the tree as a file stores it.

  A leaf on devices is transposed there, and only that layer is fetched.
  """
  leaf = params
  for key in tensor.path.split("/"):
    leaf = leaf[key]
  leaf = leaf if tensor.layer is None else leaf[tensor.layer]
  return np.ascontiguousarray(_file_view(tensor.path, leaf).astype(dtype))


def check_shape(
  file: epath.Path, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
  if tuple(shape) != tuple(wanted):
    raise UserError(
      f"{file}: tensor {name} has shape {list(shape)}, but the model's"
      f" configuration asks for {list(wanted)}"
    )


def _file_view(path: str, leaf: np.ndarray) -> np.ndarray:
  """One layer's leaf as the file lays it out; writing to it fills the leaf."""
  if path.endswith("/bias"):
    return leaf.reshape(-1)
  if path.endswith("/kernel"):
    return leaf.reshape(math.prod(leaf.shape[: _inputs(path)]), -1).T
  return leaf


def _file_window(path: str, shape, ranges) -> tuple[slice, ...]:
  """The same view of a shard: its slice of each axis of the file."""

  def merged(axes: slice) -> slice:
    (first, *rest), (_, *sizes) = ranges[axes], shape[axes]
    # Rows of the file lie together for whole heads only.
    assert [len(axis) for axis in rest] == sizes, path
    width = math.prod(sizes)
    return slice(first.start * width, first.stop * width)

  if path.endswith("/bias"):
    return (merged(slice(None)),)
  if path.endswith("/kernel"):
    inputs = _inputs(path)
    return merged(slice(inputs, None)), merged(slice(inputs))
  return tuple(merged(slice(axis, axis + 1)) for axis in range(len(shape)))


def _inputs(path: str) -> int:
  """How many of a kernel's axes it contracts."""
  return 2 if path.endswith("/o/kernel") else 1
