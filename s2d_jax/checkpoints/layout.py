"""One table between our parameter tree and the tensors of a model's files.

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
  "layers/attention/q_norm/scale": "self_attn.q_norm.weight",
  "layers/attention/k_norm/scale": "self_attn.k_norm.weight",
  "layers/attention/o/kernel": "self_attn.o_proj.weight",
  "layers/attention/o/bias": "self_attn.o_proj.bias",
  "layers/attention_norm_after/scale": "post_attention_layernorm.weight",
  "layers/mlp_norm/scale": "pre_feedforward_layernorm.weight",
  "layers/mlp/gate/kernel": "mlp.gate_proj.weight",
  "layers/mlp/gate/bias": "mlp.gate_proj.bias",
  "layers/mlp/up/kernel": "mlp.up_proj.weight",
  "layers/mlp/up/bias": "mlp.up_proj.bias",
  "layers/mlp/down/kernel": "mlp.down_proj.weight",
  "layers/mlp/down/bias": "mlp.down_proj.bias",
  "layers/mlp_norm_after/scale": "post_feedforward_layernorm.weight",
}
# The norm before the feed-forward is called after what it stands behind where
# the attention has no norm of its own there.
_ONLY_BEFORE = {"layers/mlp_norm/scale": "post_attention_layernorm.weight"}
# Rows of one tensor, one leaf's below the other's.
_FUSED = {
  "self_attn.qkv_proj.weight": tuple(
    f"layers/attention/{name}/kernel" for name in "qkv"
  ),
  "mlp.gate_up_proj.weight": ("layers/mlp/gate/kernel", "layers/mlp/up/kernel"),
}


class Stored(NamedTuple):
  """How files hold what the tree holds.

  Attributes:
    fused: queries, keys and values are one tensor, gate and up another.
    centred: norms are stored as their scale less one.
  """

  fused: bool = False
  centred: bool = False


PLAIN = Stored()


class Tensor(NamedTuple):
  """One tensor of a file, or the rows of one that are a layer of a leaf."""

  name: str
  shape: tuple[int, ...]  # in the file
  path: str  # in the tree, "/" between the keys
  layer: int | None
  first: int = 0  # row of the file's tensor
  added: float = 0.0  # to what the file holds


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


def leaves(config: ModelConfig, stored: Stored = PLAIN) -> list[Leaf]:
  """Every leaf of a model, the largest first.

  Loaded in this order, the memory that a leaf needs while it is read comes on
  top of little.
  """
  shapes = _shapes(config)
  names = _MODEL | _LAYER
  if config.norms == "before":
    names = names | _ONLY_BEFORE
  rows, firsts = {}, {}
  for name, paths in _FUSED.items() if stored.fused else ():
    at = 0
    for path in paths:
      names[path], firsts[path] = name, at
      at += _file_shape(path, shapes[path][1:])[0]
    rows[name] = at

  def tensor(path, prefix="", layer=None) -> Tensor:
    name = names[path]
    height, *width = _file_shape(path, shapes[path][layer is not None :])
    return Tensor(
      prefix + name,
      (rows.get(name, height), *width),
      path,
      layer,
      firsts.get(path, 0),
      float(stored.centred and "norm" in path),
    )

  def leaf(path) -> Leaf:
    if path in _MODEL:
      found = [tensor(path)]
    else:
      found = [
        tensor(path, f"model.layers.{layer}.", layer)
        for layer in range(config.num_layers)
      ]
    return Leaf(path, shapes[path], tuple(found))

  size = lambda leaf: math.prod(leaf.shape)
  return sorted(map(leaf, shapes), key=size, reverse=True)


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  """Of every leaf, by its path."""
  tree = nn.meta.unbox(abstract_params(config))
  flat = traverse_util.flatten_dict(tree, sep="/")
  return {path: leaf.shape for path, leaf in flat.items()}


def tensors(
  config: ModelConfig, stored: Stored = PLAIN
) -> dict[str, list[Tensor]]:
  """Every tensor of a model's files: the parts it holds, by its name.

  They stand layer by layer and in the order of the tables.
  """
  order = [*_MODEL, *_LAYER]
  found = [tensor for leaf in leaves(config, stored) for tensor in leaf.tensors]
  layer = lambda t: -1 if t.layer is None else t.layer
  found.sort(key=lambda t: (layer(t), order.index(t.path)))
  named = {}
  for tensor in found:
    named.setdefault(tensor.name, []).append(tensor)
  return named


def tensor_slices(
  leaf: Leaf, index: Sequence[slice], shard: np.ndarray
) -> Iterator[TensorSlice]:
  """Yields the slices of tensors that fill `shard`, which is leaf[index].

  Copying the window of each into its view, with what is `added`, fills the
  shard.
  """
  ranges = [
    range(*axis.indices(size))
    for axis, size in zip(index, leaf.shape, strict=True)
  ]
  stacked = leaf.tensors[0].layer is not None
  shape = leaf.shape[1:] if stacked else leaf.shape
  rows, *columns = _file_window(
    leaf.path, shape, ranges[1:] if stacked else ranges
  )
  for row, layer in enumerate(ranges[0] if stacked else [0]):
    tensor = leaf.tensors[layer]
    own = slice(rows.start + tensor.first, rows.stop + tensor.first)
    view = _file_view(leaf.path, shard[row] if stacked else shard)
    yield TensorSlice(tensor, (own, *columns), view)


def extract(
  params: Params, parts: Sequence[Tensor], dtype: DTypeLike
) -> np.ndarray:
  """One tensor of a file out of the tree.

  A leaf on devices is transposed there, and only that layer is fetched. Of one
  that is still in a file (`stream.LazyLeaf`) only that layer is read.
  """

  def rows(tensor: Tensor):
    leaf = params
    for key in tensor.path.split("/"):
      leaf = leaf[key]
    leaf = leaf[... if tensor.layer is None else tensor.layer]
    if tensor.added:
      leaf = leaf.astype(np.float32) - tensor.added
    view = _file_view(tensor.path, leaf).astype(dtype, copy=False)
    return np.asarray(view)

  found = [rows(part) for part in parts]
  whole = found[0] if len(found) == 1 else np.concatenate(found)
  return np.ascontiguousarray(whole)


def check_shape(
  file: epath.Path, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
  if tuple(shape) != tuple(wanted):
    raise UserError(
      f"{file}: tensor {name} has shape {list(shape)}, but the model's"
      f" configuration asks for {list(wanted)}"
    )


def _file_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  # A view without memory: zero strides.
  return _file_view(path, np.broadcast_to(np.float32(0), shape)).shape


def _file_view(path: str, leaf: np.ndarray) -> np.ndarray:
  """One layer's leaf as the file lays it out; writing to it fills the leaf."""
  if _is_vector(path):
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

  if _is_vector(path):
    return (merged(slice(None)),)
  if path.endswith("/kernel"):
    inputs = _inputs(path)
    return merged(slice(inputs, None)), merged(slice(inputs))
  return tuple(merged(slice(axis, axis + 1)) for axis in range(len(shape)))


def _is_vector(path: str) -> bool:
  """Of heads too: files have no axis for them."""
  return path.endswith(("/bias", "/scale"))


def _inputs(path: str) -> int:
  """How many of a kernel's axes it contracts."""
  return 2 if path.endswith("/o/kernel") else 1
