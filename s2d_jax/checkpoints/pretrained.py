"""A pretrained model by name: architecture, weights and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
import functools
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath
from flax import traverse_util
import jax
from jax.sharding import Mesh
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints import (
  fingerprint,
  gguf,
  hf,
  names,
  stream,
  train_state,
)
from s2d_jax.checkpoints.hf_config import read_json
from s2d_jax.checkpoints.layout import Stored
from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
from s2d_jax.errors import UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.lora import Lora
from s2d_jax.models.params import Params
from s2d_jax.parallel.mesh import make_mesh

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase


class Pretrained(NamedTuple):
  """A model and what is known of how it writes.

  Attributes:
    config: the architecture.
    params: laid out over a mesh.
    tokenizer: with its chat template.
    generation_config: the model's own, as transformers names its values;
      `eos_token_id` is a list of all that its files say.
  """

  config: ModelConfig
  params: Params
  tokenizer: PreTrainedTokenizerBase
  generation_config: Mapping[str, Any] = {}

  @property
  def end_tokens(self) -> tuple[int, ...]:
    """The model's own; what is outside the vocabulary is never drawn."""
    ends = self.generation_config.get("eos_token_id", ())
    return tuple(end for end in ends if 0 <= end < self.config.vocab_size)


class Adapters(NamedTuple):
  """What a run has trained beside the weights of a model.

  Attributes:
    config: the architecture of the model.
    stored: how its files hold the weights.
    base: the path of its files, as the run recorded it.
    lora: which kernels have adapters.
    params: the adapters.
  """

  config: ModelConfig
  stored: Stored
  base: str
  lora: Lora
  params: Params


def load(
  name: epath.PathLike, mesh: Mesh, dtype: str = "float32"
) -> Pretrained:
  """Loads a folder, a .gguf file, a short name or a Hub id (`names.resolve`).

  The folder of a run, or one of its checkpoints, gives the model it trained:
  by default the checkpoint of the lowest validation loss.

  Args:
    name: of the model.
    mesh: the devices over which its weights are laid out.
    dtype: of the weights: "float32", "bfloat16", or "int8" for kernels of a
      byte a weight.

  Raises:
    UserError: it cannot be had, is damaged, or is of no family that is known.
  """
  model = load_without_weights(name)
  return model._replace(params=_params(name, model.config, mesh, dtype))


def load_lazily(name: epath.PathLike, dtype: str = "float32") -> Pretrained:
  """`load` of a model that need not fit into memory.

  Args:
    name: of the model.
    dtype: of the weights: "float32" or "bfloat16".

  Returns:
    The model with leaves that stay in their files (`stream.LazyLeaf`).
  """
  model = load_without_weights(name)
  return model._replace(params=_lazy_params(name, model.config, dtype))


def load_adapters(name: epath.PathLike) -> Adapters:
  """The adapters of a run, without the weights that they stand beside.

  Raises:
    UserError: it has none, or they stand beside what another run has learnt.
  """
  run, step = _run_and_step(name)
  adapters = None if run is None else _adapters(run)
  if adapters is None:
    raise UserError(
      f"{name} has no adapters: it is no run with finetune.lora.rank above 0;"
      " leave out --adapter"
    )
  _check_base(run)
  base = _base_name(run)
  if _run_and_step(base)[0] is not None:
    raise UserError(
      f"the adapters of {name} stand beside what the run {base} has learnt,"
      " and PEFT puts adapters beside the files of a model; leave out --adapter"
    )
  path, record = _path(name, weights=False), run / "model.json"
  told = read_json(record) if record.exists() else {"path": os.fspath(path)}
  config = _reader(path).read_config(path)
  trained = train_state.restore_adapters(
    run / "checkpoints", config, adapters, _one_device(), step
  )
  stored = _reader(path).read_stored(path)
  return Adapters(config, stored, told["path"], adapters, trained)


def load_without_weights(name: epath.PathLike) -> Pretrained:
  """The model that `load` would load, with no `params`.

  Raises:
    UserError: it cannot be had, is of no family that is known, or a run whose
      base model is not the one it was begun with.
  """
  run, _ = _run_and_step(name)
  if run is not None:
    _check_base(run)
  path = _path(name, weights=False)
  config = _reader(path).read_config(path)
  tokenizer = load_tokenizer(path)
  check_fits(tokenizer, config)
  generation_config = _reader(path).read_generation_config(path)
  return Pretrained(config, {}, tokenizer, generation_config)


def identity(name: epath.PathLike) -> dict[str, Any]:
  """What tells the model `name` from another that may go by that name.

  Returns:
    "path" of its files, or of those of the model that a run started from; the
    fingerprints of its "weights", "tokenizer" and "chat_template"; its
    "end_tokens".

  Raises:
    UserError: as `load`.
  """
  model = load_without_weights(name)
  template = json.dumps(model.tokenizer.chat_template)
  return {
    "path": os.fspath(_path(name)),
    "weights": fingerprint.of_files(_files(name)),
    "tokenizer": fingerprint.of_tokenizer(model.tokenizer),
    "chat_template": fingerprint.of_text(template),
    "end_tokens": list(model.end_tokens),
  }


def difference(record: epath.Path, found: Mapping[str, Any]) -> str:
  """How an identity differs from the one in a file; empty if it does not.

  Where the files lie does not count.
  """
  told = read_json(record)
  return "; ".join(
    f"{part}: {told.get(part)} there, {found[part]} here"
    for part in ("weights", "tokenizer", "chat_template", "end_tokens")
    if part in found and told.get(part) != found[part]
  )


def _check_base(run: epath.Path) -> None:
  """Refuses a base model that has changed since the run began.

  Its weights count where adapters were trained beside them, its tokenizer
  always.
  """
  record = run / "model.json"
  if not record.exists():  # of an earlier version
    return
  name = _base_name(run)
  found = identity(name)
  if _adapters(run) is None:
    del found["weights"]
  if changed := difference(record, found):
    raise UserError(
      f"{run} was fine-tuned from another model than {name} is now"
      f" ({changed}); name the folder of that in its config.json"
    )


def _files(name: epath.PathLike) -> list[epath.Path]:
  """All that say what the model computes."""
  run, step = _run_and_step(name)
  if run is None:
    path = names.resolve(name)
    return _reader(path).model_files(path)
  trained = train_state.params_files(run / "checkpoints", step)
  return [*_files(_base_name(run)), *trained]


def _params(
  name: epath.PathLike,
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  transform: stream.Transform | None = None,
) -> Params:
  run, step = _run_and_step(name)
  if run is None:
    path = names.resolve(name)
    return _reader(path).read_params(path, config, mesh, dtype, transform)
  checkpoints, adapters = run / "checkpoints", _adapters(run)
  if adapters is None:
    return train_state.restore_params(
      checkpoints, config, mesh, step, dtype, transform
    )
  trained = train_state.restore_adapters(
    checkpoints, config, adapters, mesh, step
  )

  def merged(path: str, leaf: jax.Array) -> jax.Array:
    merge = functools.partial(lora.merge_leaf, path, lora=adapters)
    leaf = jax.jit(merge, out_shardings=leaf.sharding)(leaf, trained)
    return leaf if transform is None else transform(path, leaf)

  # The weights they were trained with: a model, or the result of another run.
  return _params(_base_name(run), config, mesh, dtype, merged)


def _lazy_params(
  name: epath.PathLike, config: ModelConfig, dtype: str
) -> Params:
  run, step = _run_and_step(name)
  if run is None:
    path = names.resolve(name)
    return stream.lazy(config, dtype, _reader(path).open_params(path, config))
  checkpoints, adapters = run / "checkpoints", _adapters(run)
  if adapters is None:
    source = train_state.open_params(checkpoints, config, step)
    return stream.lazy(config, dtype, source)
  trained = train_state.restore_adapters(
    checkpoints, config, adapters, _one_device(), step
  )

  def merged(path: str, leaf: stream.LazyLeaf) -> stream.LazyLeaf:
    pair = lora.pair_of(path, trained)
    if pair is None:
      return leaf
    down, up = map(np.asarray, pair)
    merge = jax.jit(functools.partial(lora.merge_layer, lora=adapters))
    return stream.LazyLeaf(
      lambda layer: np.asarray(merge(leaf[layer], down[layer], up[layer]))
    )

  base = _lazy_params(_base_name(run), config, dtype)
  flat = traverse_util.flatten_dict(base, sep="/")
  leaves = {path: merged(path, leaf) for path, leaf in flat.items()}
  return traverse_util.unflatten_dict(leaves, sep="/")


def _one_device() -> Mesh:
  return make_mesh(devices=jax.local_devices()[:1])


def _adapters(run: epath.Path) -> Lora | None:
  """The adapters that a run trains instead of the weights, if it does."""
  found = _settings(run).get("finetune", {}).get("lora", {"rank": 0})
  if not found["rank"]:
    return None
  return Lora(found["rank"], found["alpha"], tuple(found["targets"]))


def read_config(name: epath.PathLike) -> ModelConfig:
  """The architecture of the model `load` would load, without its weights."""
  path = _path(name)
  return _reader(path).read_config(path)


def settings_of(name: epath.PathLike) -> dict[str, Any]:
  """The section `model` of a run's settings; empty if `name` is of none."""
  run, _ = _run_and_step(name)
  return {} if run is None else _settings(run)["model"]


def _path(name: epath.PathLike, weights: bool = True) -> epath.Path:
  """The folder or file of the model, or of the one that a run started from."""
  run, _ = _run_and_step(name)
  if run is None:
    return names.resolve(name, weights)
  return _path(_base_name(run), weights)


def _base_name(run: epath.Path) -> str:
  return _settings(run)["model"]["name"]


def _settings(run: epath.Path) -> dict[str, Any]:
  path, advice = run / "config.json", "copy the run's own there again"
  found = records.read_json(path, advice) if path.exists() else {}
  model = found.get("model")
  if not isinstance(model, dict) or not model.get("name"):
    raise UserError(
      f"{run} has checkpoints but no config.json that names their base model"
    )
  return found


def _reader(path: epath.Path):
  return gguf if path.suffix == ".gguf" else hf


def _run_and_step(
  name: epath.PathLike,
) -> tuple[epath.Path | None, int | None]:
  """Of a run's folder or checkpoint; None, None for a model.

  A model's folder may have a folder checkpoints/, and may lie in one: it is
  known by its own config.json.
  """
  path = epath.Path(name)
  if (path / "checkpoints").is_dir() and not _is_of_model(path):
    return path, None
  if (
    path.parent.name == "checkpoints"
    and path.name.isdigit()
    and path.is_dir()
    and not _is_of_model(path)
  ):
    return path.parent.parent, int(path.name)
  for first in ("rounds/1", "stages/0"):
    if (path / first).is_dir() and not _is_of_model(path):
      raise UserError(
        f"{path} holds several runs, each with a model; name one of them, as"
        f" {path / first}"
      )
  return None, None


def _is_of_model(folder: epath.Path) -> bool:
  path = folder / "config.json"
  if not path.exists():
    return False
  advice = "copy the one of the run, or of the model, there again"
  return "model_type" in records.read_json(path, advice)
