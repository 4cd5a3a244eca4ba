"""The state of a fine-tune on disk: parameters, optimiser, data position.

One folder a step, written by Orbax under a temporary name and then renamed, in
a bucket marked by a last file: a kill while it is written leaves the earlier
ones as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import functools
import os
from typing import Any, NamedTuple

from etils import epath
from flax import linen as nn, traverse_util
import jax
from jax.sharding import Mesh
from jaxtyping import Array, Int
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from s2d_jax import buckets
from s2d_jax.checkpoints import checkpoint_arrays, damage, stream
from s2d_jax.checkpoints.layout import Leaf
from s2d_jax.errors import UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.lora import Lora
from s2d_jax.models.params import Params, abstract_params
from s2d_jax.parallel.mesh import param_shardings, replicated

Position = dict[str, Any]  # JSON: the data of the run, and the place in it


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
    # One without is the rest of a deletion that a kill interrupted.
    keep_checkpoints_without_metrics=False,
  )
  latest = checkpoint_managers.LatestN(1)
  kept = checkpoint_managers.AnyPreservationPolicy([best, latest])
  options = ocp.CheckpointManagerOptions(
    best_fn=_valid_loss,
    best_mode="min",
    preservation_policy=kept,
    enable_async_checkpointing=background,
    cleanup_tmp_directories=True,
  )
  manager = _manager(directory, options)
  _delete_superseded(manager, kept)
  return manager


class _Saved(NamedTuple):
  """What Orbax's policies look at."""

  step: int
  metrics: dict[str, float] | None
  time: None = None  # which those here do not ask for


def _delete_superseded(
  manager: ocp.CheckpointManager,
  kept: checkpoint_managers.PreservationPolicy,
) -> None:
  """What was still there when a kill came behind the save of a better one."""
  steps = sorted(manager.all_steps())
  there = [_Saved(step, manager.metrics(step)) for step in steps]
  context = checkpoint_managers.PreservationContext()
  stays = kept.should_preserve(there, context=context) if there else ()
  for checkpoint, is_kept in zip(there, stays, strict=True):
    if not is_kept:
      manager.delete(checkpoint.step)


def _manager(directory, options) -> ocp.CheckpointManager:
  # Float32 weights hardly compress, and what compresses them holds a copy of
  # all of them; uncompressed, they are written from where they lie.
  arrays = ocp.PyTreeCheckpointHandler(
    use_compression=False,
    multiprocessing_options=options.multiprocessing_options,
  )
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
  """Writes `state`, from which a restart resumes.

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
  dtype: str = "float32",
  transform: stream.Transform | None = None,
) -> Params:
  """Parameters of one step, or of the best, laid out over `mesh`.

  The optimiser's state is not read, and the mesh may have another number of
  devices than the one that trained. Each process reads by itself, whatever the
  others do.

  Args:
    directory: of the checkpoints.
    config: the architecture.
    mesh: of this process's devices or of all.
    step: which; default: the one of lowest validation loss.
    dtype: "float32", "bfloat16" or "int8".
    transform: applied to each leaf once it is on the devices, if given.

  Raises:
    UserError: there is no such checkpoint, it is not whole, or it is of another
      model.
  """
  abstract = nn.unbox(abstract_params(config))
  with _finished(directory, step) as (manager, found):
    _check_model(manager, found, abstract)

    def load_leaf(leaf: Leaf, target: jax.ShapeDtypeStruct) -> jax.Array:
      flat = traverse_util.flatten_dict(abstract, sep="/")
      only = dict.fromkeys(flat, ocp.PLACEHOLDER) | {leaf.path: target}
      tree = traverse_util.unflatten_dict(only, sep="/")
      item = ocp.args.Composite(params=_restore(tree))
      restored = manager.restore(found, args=item).params
      return traverse_util.flatten_dict(restored, sep="/")[leaf.path]

    return stream.load(config, mesh, dtype, load_leaf, transform)


def open_params(
  directory: epath.PathLike, config: ModelConfig, step: int | None = None
) -> stream.Source:
  """What `restore_params` reads, to be read later; raises what it does."""
  abstract = nn.unbox(abstract_params(config))
  with _finished(directory, step) as (manager, found):
    _check_model(manager, found, abstract)
  return checkpoint_arrays.open_params(epath.Path(directory) / str(found))


def restore_adapters(
  directory: epath.PathLike,
  config: ModelConfig,
  adapters: Lora,
  mesh: Mesh,
  step: int | None = None,
) -> Params:
  """The adapters that a run has trained, as `restore_params` does the weights.

  Raises:
    UserError: there is no such checkpoint, it is not whole, or it is of another
      model.
  """
  boxed, _ = lora.split(abstract_params(config, lora=adapters))
  abstract = with_shardings(boxed, param_shardings(boxed, mesh))
  with _finished(directory, step) as (manager, found):
    _check_model(manager, found, abstract)
    item = ocp.args.Composite(params=_restore(abstract))
    return manager.restore(found, args=item).params


def params_files(
  directory: epath.PathLike, step: int | None = None
) -> list[epath.Path]:
  """The files that have the parameters of one step, or of the best.

  Raises:
    UserError: there is no such checkpoint.
  """
  with _finished(directory, step) as (_, found):
    folder = epath.Path(directory) / str(found) / "params"
    return buckets.files(folder)


@contextlib.contextmanager
def _finished(
  directory: epath.PathLike, step: int | None
) -> Iterator[tuple[ocp.CheckpointManager, int]]:
  """Opens the checkpoints of a run; yields the step asked for, or the best."""
  me = jax.process_index()
  options = ocp.CheckpointManagerOptions(
    best_fn=_valid_loss,
    best_mode="min",
    read_only=True,
    multiprocessing_options=ocp.options.MultiprocessingOptions(
      primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me)
    ),
  )
  directory = epath.Path(directory)
  if not directory.exists():
    raise UserError(f"{directory} does not exist; run the finetune stage first")
  damage.check_losses(directory)
  with _manager(directory, options) as manager:
    found = manager.best_step() if step is None else step
    if found not in manager.all_steps():
      which = "checkpoint" if step is None else f"checkpoint of step {step}"
      raise UserError(
        f"{directory} holds no {which}; it has {manager.all_steps()}"
      )
    damage.check_params(directory / str(found))
    yield manager, found


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

  # Not nn.unbox, which inside a mesh lays out what it takes out of its box.
  is_box = lambda leaf: isinstance(leaf, nn.Partitioned)
  plain = jax.tree.map(
    lambda leaf: leaf.value if is_box(leaf) else leaf, boxed, is_leaf=is_box
  )
  return jax.tree.map(place, plain, shardings)
