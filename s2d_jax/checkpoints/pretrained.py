"""A pretrained model by name: architecture, weights and tokenizer."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, NamedTuple

from etils import epath
import jax
from jax.sharding import Mesh

from s2d_jax.checkpoints import gguf, hf, names, train_state
from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
from s2d_jax.errors import UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params
from s2d_jax.models.lora import Lora

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase


class Pretrained(NamedTuple):
  config: ModelConfig
  params: Params  # laid out over a mesh
  tokenizer: PreTrainedTokenizerBase


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
    UserError: it cannot be had, is damaged, or is no Llama-shaped model.
  """
  path = _path(name)
  config = _reader(path).read_config(path)
  tokenizer = load_tokenizer(path)
  check_fits(tokenizer, config)
  run, step = _run_and_step(name)
  adapters = None if run is None else _adapters(run)
  if run is None:
    params = _reader(path).read_params(path, config, mesh, dtype)
  elif adapters is None:
    params = train_state.restore_params(
      run / "checkpoints", config, mesh, step, dtype
    )
  else:
    trained = train_state.restore_adapters(
      run / "checkpoints", config, adapters, mesh, step
    )

    def merged(path: str, leaf: jax.Array) -> jax.Array:
      merge = functools.partial(lora.merge_leaf, path, lora=adapters)
      return jax.jit(merge, out_shardings=leaf.sharding)(leaf, trained)

    params = _reader(path).read_params(path, config, mesh, dtype, merged)
  return Pretrained(config, params, tokenizer)


def _adapters(run: epath.Path) -> Lora | None:
  """What a run trains in place of the weights, by its settings."""
  settings = json.loads((run / "config.json").read_text())
  found = settings.get("finetune", {}).get("lora", {"rank": 0})
  if not found["rank"]:
    return None
  return Lora(found["rank"], found["alpha"], tuple(found["targets"]))


def read_config(name: epath.PathLike) -> ModelConfig:
  """The architecture of the model `load` would load, without its weights."""
  path = _path(name)
  return _reader(path).read_config(path)


def _path(name: epath.PathLike) -> epath.Path:
  """The folder or file of the model, or of the one that a run started from."""
  run, _ = _run_and_step(name)
  if run is None:
    return names.resolve(name)
  settings = run / "config.json"
  if not settings.exists():
    raise UserError(
      f"{run} has checkpoints but no config.json that names their base model"
    )
  return _path(json.loads(settings.read_text())["model"]["name"])


def _reader(path: epath.Path):
  return gguf if path.suffix == ".gguf" else hf


def _run_and_step(
  name: epath.PathLike,
) -> tuple[epath.Path | None, int | None]:
  path = epath.Path(name)
  if (path / "checkpoints").is_dir():
    return path, None
  if (
    path.parent.name == "checkpoints" and path.is_dir() and path.name.isdigit()
  ):
    return path.parent.parent, int(path.name)
  return None, None
