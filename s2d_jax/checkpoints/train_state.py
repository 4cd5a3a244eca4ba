"""The state of a fine-tune on disk: parameters, optimiser, data position.

One folder a step, written by Orbax under a temporary name and then renamed: a
kill while it is written leaves the earlier ones as they were.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

from etils import epath
from flax import linen as nn
import jax
from jax.sharding import Mesh
from jaxtyping import Array, Int
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Params, abstract_params
from s2d_jax.parallel.mesh import param_shardings, replicated

Position = dict[str, Any]  # JSON: where in which data the run stands


class TrainState(NamedTuple):
  step: Int[Array, ""]  # updates made
  params: Params
  opt_state: Any


def open_manager(
  directory: epath.PathLike, keep: int = 1, background: bool = False
) -> ocp.CheckpointManager:
  """Opens a folder for `save`; use it in a `with`, in one run at a time.

  Kept are the `keep` checkpoints of lowest validation loss, and the latest.

  Args:
    directory: local or gs://; made if missing.
    keep: checkpoints of lowest loss.
    background: copies the state to the host's memory and writes it from there
      while training goes on; leaving the `with` waits for it.
  """
  best = checkpoint_managers.BestN(
    get_metric_fn=_valid_loss,
    reverse=True,
    n=keep,
    # Such a one is the rest of a deletion that a kill cut short.
    keep_checkpoints_without_metrics=False,
  )
  latest = checkpoint_managers.LatestN(1)
  options = ocp.CheckpointManagerOptions(
    best_fn=_valid_loss,
    best_mode="min",
    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
      [best, latest]
    ),
    enable_async_checkpointing=background,
    cleanup_tmp_directories=True,
  )
  return _manager(directory, options)


def _manager(directory, options) -> ocp.CheckpointManager:
  # Float32 weights hardly compress, and what compresses them holds a copy of
  # all of them; uncompressed, they are written from where they lie.
  arrays = ocp.PyTreeCheckpointHandler(use_compression=False)
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for item in ("params", "opt_state"):
    registry.add(item, ocp.args.PyTreeSave, arrays)
    registry.add(item, ocp.args.PyTreeRestore, arrays)
  registry.add("position", ocp.args.JsonSave)
  registry.add("position", ocp.args.JsonRestore)
  directory = os.fspath(directory)
  if "://" not in directory:
    directory = os.path.abspath(directory)  # Orbax takes no relative path
  return ocp.CheckpointManager(
    epath.Path(directory), options=options, handler_registry=registry
  )


def _restore(abstract) -> ocp.args.PyTreeRestore:
  return ocp.args.PyTreeRestore(
    abstract,
    restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
  )


def _valid_loss(metrics: dict[str, float]) -> float:
  return metrics["valid_loss"]


def save(
  manager: ocp.CheckpointManager,
  state: TrainState,
  position: Position,
  valid_loss: float,
) -> None:
  """Writes `state`: what a restart goes on from.

  It is complete when this returns, or a while later in the background.
  """
  manager.save(
    int(state.step),
    args=ocp.args.Composite(
      params=ocp.args.PyTreeSave(state.params),
      opt_state=ocp.args.PyTreeSave(state.opt_state),
      position=ocp.args.JsonSave(position),
    ),
    metrics={"valid_loss": valid_loss},
  )


def restore_latest(
  manager: ocp.CheckpointManager, abstract: TrainState
) -> tuple[TrainState, Position] | None:
  """The newest complete checkpoint, or None where there is none.

  Args:
    manager: the folder.
    abstract: `jax.ShapeDtypeStruct` leaves with the shardings to restore to,
      which need not be those the state was saved from.

  Raises:
    UserError: it is of another model.
  """
  step = manager.latest_step()
  if step is None:
    return None
  _check_model(manager, step, abstract.params)
  restored = manager.restore(
    step,
    args=ocp.args.Composite(
      params=_restore(abstract.params),
      opt_state=_restore(abstract.opt_state),
      position=ocp.args.JsonRestore(),
    ),
  )
  count = jax.device_put(np.int32(step), abstract.step.sharding)
  state = TrainState(count, restored.params, restored.opt_state)
  return state, restored.position


def restore_params(
  directory: epath.PathLike,
  config: ModelConfig,
  mesh: Mesh,
  step: int | None = None,
) -> Params:
  """Parameters of one step, or of the best, sharded over `mesh`.

  The optimiser's state is not read, and the mesh may have another number of
  devices than the one that trained.

  Raises:
    UserError: there is no such checkpoint, or it is of another model.
  """
  options = ocp.CheckpointManagerOptions(
    best_fn=_valid_loss, best_mode="min", read_only=True
  )
  abstract = abstract_params(config)
  abstract = with_shardings(abstract, param_shardings(abstract, mesh))
  directory = epath.Path(directory)
  if not directory.exists():
    raise UserError(f"{directory} does not exist; run the finetune stage first")
  with _manager(directory, options) as manager:
    found = manager.best_step() if step is None else step
    if found not in manager.all_steps():
      which = "checkpoint" if step is None else f"checkpoint of step {step}"
      raise UserError(
        f"{directory} holds no {which}; it has {manager.all_steps()}"
      )
    _check_model(manager, found, abstract)
    item = ocp.args.Composite(params=_restore(abstract))
    return manager.restore(found, args=item).params


def _check_model(manager, step: int, abstract: Params) -> None:
  def shapes(tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): tuple(leaf.shape) for path, leaf in leaves}

  saved = shapes(manager.item_metadata(step).params.tree)
  wanted = shapes(abstract)
  for name in sorted(saved.keys() | wanted.keys()):
    if saved.get(name) != wanted.get(name):
      raise UserError(
        f"{manager.directory}/{step} is of another model: {name} has shape"
        f" {saved.get(name)} there and {wanted.get(name)} in the one asked"
        " for; use the model that was fine-tuned, or another workdir"
      )


def with_shardings(boxed, shardings):
  """Plain shapes with their shardings: what to restore or to compile for.

  Statistics of fewer axes than their parameter, as Adafactor has them, are
  small and lie whole on every device.

  Args:
    boxed: shapes whose leaves may carry logical names (`nn.Partitioned`).
    shardings: the tree that `param_shardings` makes of `boxed`.
  """

  def place(leaf, sharding):
    if len(sharding.spec) > leaf.ndim:
      sharding = replicated(sharding.mesh)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(place, nn.unbox(boxed), shardings)
