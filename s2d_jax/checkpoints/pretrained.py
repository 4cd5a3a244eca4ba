"""A pretrained model by name: architecture, weights and tokenizer."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath
from flax import linen as nn, traverse_util
import jax
from jax.sharding import Mesh

from s2d_jax.checkpoints import gguf, hf, names, stream, train_state
from s2d_jax.checkpoints.stream import Place
from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
from s2d_jax.errors import UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params, abstract_params
from s2d_jax.models.lora import Lora
from s2d_jax.parallel.mesh import param_shardings

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
  by default the checkpoint of the lowest validation loss. Adapters are merged
  into the weights they were trained beside.

  Args:
    name: of the model.
    mesh: the devices over which its weights are laid out.
    dtype: of the weights: "float32", "bfloat16", or "int8" for kernels of a
      byte a weight.

  Raises:
    UserError: it cannot be had, is damaged, or is no Llama-shaped model.
  """
  path = _path(name)
  config = _format(path).read_config(path)
  tokenizer = load_tokenizer(path)
  check_fits(tokenizer, config)
  with contextlib.ExitStack() as stack:
    place = _reader(name, config, mesh, stack)
    params = stream.load(config, mesh, dtype, place)
  return Pretrained(config, params, tokenizer)


def read_config(name: epath.PathLike) -> ModelConfig:
  """The architecture of the model `load` would load, without its weights."""
  path = _path(name)
  return _format(path).read_config(path)


def _path(name: epath.PathLike) -> epath.Path:
  """The folder or file of the model, or of the one that a run started from."""
  run, _ = _run_and_step(name)
  if run is None:
    return names.resolve(name)
  return _path(_settings(run)["model"]["name"])


def _format(path: epath.Path):
  return gguf if path.suffix == ".gguf" else hf


def _reader(name, config: ModelConfig, mesh: Mesh, stack) -> Place:
  """Where the leaves come from; what is opened is closed with `stack`."""
  run, step = _run_and_step(name)
  if run is None:
    path = names.resolve(name)
    return _format(path).reader(path, config)
  settings = _settings(run)
  adapters = settings.get("finetune", {}).get("lora", {})
  checkpoints = run / "checkpoints"
  if not adapters.get("rank"):
    abstract = nn.unbox(abstract_params(config))
    restore = stack.enter_context(
      train_state.open_params(checkpoints, abstract, step)
    )
    return lambda leaf, target: restore(leaf.path, target)
  base = _reader(settings["model"]["name"], config, mesh, stack)
  form = Lora(**(adapters | {"targets": tuple(adapters["targets"])}))
  boxed, _ = lora.split(abstract_params(config, lora=form))
  abstract = train_state.with_shardings(boxed, param_shardings(boxed, mesh))
  restore = stack.enter_context(
    train_state.open_params(checkpoints, abstract, step)
  )
  return functools.partial(_adapted, base, restore, abstract, form)


def _adapted(base, restore, abstract, form: Lora, leaf, target) -> jax.Array:
  """A leaf of the base model with its adapters, if it has any, added to it."""
  array = base(leaf, target)
  parent, _, name = leaf.path.rpartition("/")
  pair = {
    path: restore(path, adapter)
    for path, adapter in traverse_util.flatten_dict(abstract, sep="/").items()
    if name == "kernel" and path.rpartition("/")[0] == parent
  }
  if not pair:
    return array
  unflatten = functools.partial(traverse_util.unflatten_dict, sep="/")
  merge = jax.jit(
    functools.partial(lora.merge, lora=form),
    out_shardings=target.sharding,
    donate_argnums=0,
  )
  merged = merge(unflatten({leaf.path: array}), unflatten(pair))
  return traverse_util.flatten_dict(merged, sep="/")[leaf.path]


def _settings(run: epath.Path) -> dict[str, Any]:
  path = run / "config.json"
  if not path.exists():
    raise UserError(
      f"{run} has checkpoints but no config.json that names their base model"
    )
  return json.loads(path.read_text())


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
