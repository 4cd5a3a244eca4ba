"""Hugging Face folders, in and out: safetensors around a config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import TYPE_CHECKING, Any

from etils import epath
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import safetensors

from s2d_jax.checkpoints import export, layout, safetensors_file, stream
from s2d_jax.checkpoints.families import FAMILIES
from s2d_jax.checkpoints.hf_config import (
  config_values,
  read_config as read_config,
  read_generation_config as read_generation_config,
  read_json,
  read_stored as read_stored,
)
from s2d_jax.checkpoints.layout import Leaf
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.params import Params
from s2d_jax.progress import Progress

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase

_FLOATS = ("F64", "F32", "F16", "BF16")
_ROWS = 256  # of a file's matrix, read at once
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def model_files(folder: epath.PathLike) -> list[epath.Path]:
  """All that say what the model computes: config.json and its weights."""
  folder = epath.Path(folder)
  weights = set(_tensor_files(folder).values())
  return [folder / "config.json", *sorted(weights)]


def read_params(
  folder: epath.PathLike,
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  transform: stream.Transform | None = None,
) -> Params:
  """Reads the safetensors of `folder` into arrays laid out over `mesh`.

  Beside them a host holds one shard of one leaf, and of the files only what
  the devices of this process keep is read.

  Raises:
    UserError: a file or tensor is missing, damaged, of the wrong shape, not of
      a float type, or belongs to something that `config` does not compute: a
      head of its own where `config` has it tied, too.
  """
  source = open_params(folder, config)
  return stream.load_files(config, mesh, dtype, source, transform)


def open_params(folder: epath.PathLike, config: ModelConfig) -> stream.Source:
  """What `read_params` reads, to be read later; raises what it does."""
  folder = epath.Path(folder)
  files, stored = _tensor_files(folder), read_stored(folder)
  tensors = layout.tensors(config, stored)
  _check_names(folder, files, tensors)
  _check_tensors(files, tensors)
  if config.tie_embeddings and _HEAD in files:
    _check_copy(files[_EMBEDDING], files[_HEAD])

  def fill(leaf: Leaf, index: Sequence[slice], shard: np.ndarray) -> None:
    for tensor_slice in layout.tensor_slices(leaf, index, shard):
      _copy(files[tensor_slice.tensor.name], tensor_slice)

  return stream.Source(fill, stored)


def _copy(file: epath.Path, tensor_slice: layout.TensorSlice) -> None:
  """Fills the view from the file, some rows at a time.

  Few rows, because they are transposed on the way, which is ten times slower
  where they do not fit the processor's cache. The file is opened anew for each,
  because it is mapped into memory, and pages once read count as ours until it
  is closed.
  """
  rows, *columns = tensor_slice.window
  for start in range(rows.start, rows.stop, _ROWS):
    stop = min(start + _ROWS, rows.stop)
    try:
      with _open(file) as tensors:
        tensor = tensors.get_slice(tensor_slice.tensor.name)
        block = tensor[(slice(start, stop), *columns)]
    except safetensors.SafetensorError as error:
      raise _damaged(file, error) from None
    if tensor_slice.tensor.added:
      block = block.astype(np.float32) + tensor_slice.tensor.added
    to = slice(start - rows.start, stop - rows.start)
    tensor_slice.view[to] = block.astype(tensor_slice.view.dtype)


def write(
  folder: epath.PathLike,
  config: ModelConfig,
  params: Params,
  tokenizer: PreTrainedTokenizerBase,
  dtype: str = "float32",
  max_shard_bytes: float = 5e9,
  generation_config: Mapping[str, Any] | None = None,
  end_tokens: Sequence[int] = (),
) -> None:
  """Writes a model that transformers loads, complete or not at all.

  Args:
    folder: a local folder that does not exist yet.
    config: the architecture.
    params: numpy or jax arrays, or leaves in files (`stream.LazyLeaf`); one
      tensor is held a second time.
    tokenizer: saved along with its chat template.
    dtype: "float32" or "bfloat16".
    max_shard_bytes: weights larger than this are split over several files.
    generation_config: the model's own, kept but for its end tokens.
    end_tokens: those that end a reply; by default the end of text.
  """
  if dtype not in ("float32", "bfloat16"):
    raise UserError(f"dtype {dtype!r} is neither float32 nor bfloat16")
  special = {
    key: getattr(tokenizer, key)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id")
  }
  # Transformers 5 reads "dtype", older ones "torch_dtype".
  dtypes = {"dtype": dtype, "torch_dtype": dtype}
  values = config_values(config)
  tensors = layout.tensors(config, FAMILIES[values["model_type"]].stored)
  with export.new_folder(folder) as new:
    export.write_json(new / "config.json", values | special | dtypes)
    export.write_json(
      new / "generation_config.json",
      _generation_values(special, generation_config or {}, end_tokens),
    )
    _write_tokenizer(new, tokenizer)
    _write_tensors(new, tensors, params, jnp.dtype(dtype), max_shard_bytes)


def _generation_values(
  special: Mapping[str, int | None],
  own: Mapping[str, Any],
  end_tokens: Sequence[int],
) -> dict[str, Any]:
  one = len(end_tokens) == 1
  ends = end_tokens[0] if one else list(end_tokens)
  values = {
    **special,
    **own,
    "eos_token_id": ends if end_tokens else special["eos_token_id"],
  }
  # With it transformers may take the end of text in config.json instead.
  values.pop("_from_model_config", None)
  return values


def _write_tensors(folder, tensors, params, dtype, max_shard_bytes) -> None:
  shards, size = [{}], 0
  for name, parts in tensors.items():
    tensor_bytes = math.prod(parts[0].shape) * dtype.itemsize
    if shards[-1] and size + tensor_bytes > max_shard_bytes:
      shards.append({})
      size = 0
    shards[-1][name] = parts
    size += tensor_bytes

  shapes = {name: parts[0].shape for name, parts in tensors.items()}
  total = sum(math.prod(shape) for shape in shapes.values())
  weight_map = {}
  with Progress("write", total, "weights") as progress:
    for number, shard in enumerate(shards, start=1):
      file = "model.safetensors"
      if len(shards) > 1:
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
      with safetensors_file.new(
        folder / file, {name: shapes[name] for name in shard}, dtype
      ) as append:
        for name, parts in shard.items():
          append(layout.extract(params, parts, dtype))
          progress.advance(math.prod(shapes[name]))
      weight_map |= dict.fromkeys(shard, file)
  if len(shards) > 1:
    export.write_json(
      folder / "model.safetensors.index.json",
      {
        "metadata": {"total_size": total * dtype.itemsize},
        "weight_map": weight_map,
      },
    )


def _write_tokenizer(folder, tokenizer: PreTrainedTokenizerBase) -> None:
  tokenizer.save_pretrained(folder)
  # A class name of transformers 5; the old name is known to both.
  path = folder / "tokenizer_config.json"
  values = read_json(path)
  if values.get("tokenizer_class") == "TokenizersBackend":
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    export.write_json(path, values)


def _tensor_files(folder: epath.Path) -> dict[str, epath.Path]:
  """In which file each tensor of the folder lies."""
  single = folder / "model.safetensors"
  index = folder / "model.safetensors.index.json"
  if single.exists():
    with _open(single) as tensors:
      return dict.fromkeys(tensors.keys(), single)
  if not index.exists():
    raise UserError(
      f"{folder} holds no {single.name} and no {index.name}; weights are"
      " read from safetensors only"
    )
  weight_map = read_json(index).get("weight_map")
  if not isinstance(weight_map, dict):
    raise UserError(f"{index} has no weight_map")
  files = {}
  for name, shard in weight_map.items():
    if not isinstance(shard, str) or epath.Path(shard).name != shard:
      raise UserError(f"{index}: {shard} is not the name of a file beside it")
    files[name] = folder / shard
    if not files[name].exists():
      raise UserError(
        f"{files[name]} does not exist, but {index.name} says that tensor"
        f" {name} is in it"
      )
  for file in sorted(set(files.values())):
    with _open(file) as tensors:
      there = set(tensors.keys())
    told = {name for name, where in files.items() if where == file}
    if lost := sorted(told - there):
      raise _damaged(file, f"tensor {lost[0]} is not in it")
    # Those too that the index forgets.
    files |= dict.fromkeys(there - files.keys(), file)
  return files


def _check_names(folder, files, tensors) -> None:
  if missing := sorted(set(tensors) - set(files)):
    raise UserError(
      f"{folder}: the weights lack tensor {missing[0]} that its config.json"
      " asks for"
    )
  for name in sorted(set(files) - set(tensors)):
    # Tables of old files, and a second copy of a tied embedding.
    if name.endswith("rotary_emb.inv_freq") or name == _HEAD:
      continue
    raise UserError(
      f"{files[name]}: tensor {name} belongs to something that this package"
      " does not compute, so the model would not be the same"
    )


def _check_tensors(files, tensors) -> None:
  """Shapes and types, before the first byte of a large model is read."""
  by_file = {}
  for name in tensors:
    by_file.setdefault(files[name], []).append(name)
  for file, names in by_file.items():
    with _open(file) as opened:
      for name in names:
        try:
          header = opened.get_slice(name)
        except safetensors.SafetensorError as error:
          raise _damaged(file, error) from None
        wanted = tensors[name][0].shape
        layout.check_shape(file, name, header.get_shape(), wanted)
        if header.get_dtype() not in _FLOATS:
          raise UserError(
            f"{file}: tensor {name} is of type {header.get_dtype()};"
            f" only {', '.join(_FLOATS)} are read, so take the unquantised"
            " model"
          )


def _check_copy(embedding: epath.Path, head: epath.Path) -> None:
  """Refuses a tied head that differs: transformers would compute with it."""
  with _open(embedding) as of_embedding, _open(head) as of_head:
    tensors = of_embedding.get_slice(_EMBEDDING), of_head.get_slice(_HEAD)
    forms = [(tensor.get_shape(), tensor.get_dtype()) for tensor in tensors]
    same = forms[0] == forms[1]
    rows = tensors[0].get_shape()[0] if same else 0
    for start in range(0, rows, _ROWS):
      window = slice(start, min(start + _ROWS, rows))
      same = same and np.array_equal(*(tensor[window] for tensor in tensors))
  if not same:
    raise UserError(
      f"{head}: tensor {_HEAD} differs from {_EMBEDDING}, though config.json"
      " has tie_word_embeddings = true; if both are meant, set that to false"
    )


def _open(file: epath.Path):
  try:
    return safetensors.safe_open(file, framework="numpy")
  except (safetensors.SafetensorError, OSError) as error:
    raise _damaged(file, error) from None


def _damaged(file: epath.Path, error: Exception | str) -> UserError:
  return UserError(
    f"{file} is damaged or not complete ({error}); download or copy it again"
  )
