"""A pretrained model by name: architecture, weights and tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from etils import epath
import jax
from jax.sharding import Mesh

from s2d_jax.checkpoints import gguf, hf, names, train_state
from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params, abstract_params
from s2d_jax.parallel.mesh import make_mesh, param_shardings

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase


class Pretrained(NamedTuple):
  config: ModelConfig
  params: Params  # float32, numpy or on the devices
  tokenizer: PreTrainedTokenizerBase

  def on_device(self, mesh: Mesh) -> Pretrained:
    """The same model with its weights laid out over `mesh`."""
    shardings = param_shardings(abstract_params(self.config), mesh)
    return self._replace(params=jax.device_put(self.params, shardings))


def load(name: epath.PathLike) -> Pretrained:
  """Loads a folder, a .gguf file, a short name or a Hub id (`names.resolve`).

  The folder of a run, or one of its checkpoints, gives the model it trained:
  by default the checkpoint of the lowest validation loss.

  Raises:
    UserError: it cannot be had, is damaged, or is no Llama-shaped model.
  """
  run, step = _run_and_step(epath.Path(name))
  if run is not None:
    return _load_run(run, step)
  path = names.resolve(name)
  read = gguf.read if path.suffix == ".gguf" else hf.read
  config, params = read(path)
  tokenizer = load_tokenizer(path)
  check_fits(tokenizer, config)
  return Pretrained(config, params, tokenizer)


def _run_and_step(path: epath.Path) -> tuple[epath.Path | None, int | None]:
  if (path / "checkpoints").is_dir():
    return path, None
  if (
    path.parent.name == "checkpoints" and path.is_dir() and path.name.isdigit()
  ):
    return path.parent.parent, int(path.name)
  return None, None


def _load_run(run: epath.Path, step: int | None) -> Pretrained:
  settings = run / "config.json"
  if not settings.exists():
    raise UserError(
      f"{run} has checkpoints but no config.json that names their base model"
    )
  base = load(json.loads(settings.read_text())["model"]["name"])
  params = train_state.restore_params(
    run / "checkpoints", base.config, make_mesh(), step
  )
  return base._replace(params=params)
