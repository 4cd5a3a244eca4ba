"""The fine-tune: one loop from start parameters to the best checkpoint.

What a restart goes on from: step k of a run reads batch k of an order that
depends on the seed alone, so the step of the newest complete checkpoint is the
position in the data; lines of metrics after that step are dropped, and written
again as they were.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import hashlib

from etils import epath
import grain
import jax
from jax.sharding import Mesh
import ml_collections
import numpy as np

from s2d_jax.checkpoints import train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama, Params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.log import TrainingLog
from s2d_jax.training.loss import target_loss
from s2d_jax.training.optimizer import make_optimizer
from s2d_jax.training.packing import Rows


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a fine-tune ended; losses are nats a target token."""

  checkpoint: epath.Path  # of the lowest validation loss
  step: int
  valid_loss: float
  start_valid_loss: float  # of the parameters it started from
  total_steps: int


def finetune(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  params: Params,
  train: Rows,
  valid: Rows,
  workdir: epath.PathLike,
  mesh: Mesh,
  seed: int,
) -> Summary:
  """Trains on `train`, keeps the checkpoint that does best on `valid`.

  Writes `checkpoints/` and `metrics/finetune.jsonl` in `workdir`, and goes on
  from there when started again. The loss of a line is that of the batch before
  the update, its `valid_loss` that of all of `valid` after it; line 0 has the
  validation loss of the start parameters alone.

  Args:
    config: the `finetune` section.
    model_config: architecture.
    params: float32 arrays to start from. They are given up: their memory holds
      the trained parameters, or is freed where a checkpoint is gone on from.
    train: packed rows to learn; every process holds all of them.
    valid: packed rows to choose the checkpoint by.
    workdir: folder of the run.
    mesh: devices; the rows of a micro-batch must divide evenly over them.
    seed: of the order of rows.

  Raises:
    UserError: sizes that do not fit together, a checkpoint of other data, or a
      loss that is no longer finite.
  """
  workdir = epath.Path(workdir)
  order = row_order(config, len(train.tokens), seed)
  micro_rows = _micro_batch_rows(config, mesh)
  model = steps.make_model(config, model_config, mesh)
  abstract = steps.abstract_state(config, model_config, mesh, len(order))
  optimizer = make_optimizer(config, len(order))
  data = {
    "seed": seed,
    "total_steps": len(order),
    "batch_rows": config.batch_rows,
    "rows": _digest(train),
  }
  directory = workdir / "checkpoints"
  with (
    meshes.use(mesh, training=True),
    train_state.open_manager(directory, config.keep) as manager,
  ):
    state, start_loss = _start(manager, abstract, params, optimizer, data)
    start = int(state.step)
    train_step = steps.make_train_step(config, model, abstract, len(order))
    validate = _validation(model, valid, micro_rows, mesh)
    path = workdir / "metrics" / "finetune.jsonl"
    with TrainingLog(path, start, len(order)) as log:
      if start_loss is None:
        start_loss = validate(state.params)
        log.start_line(start_loss)
      pending = None
      for step in range(start + 1, len(order) + 1):
        rows = train.take(order[step - 1], config.batch_rows)
        batch = steps.put_rows(rows, config.accumulate, mesh)
        state, metrics = train_step(state, batch)
        # The device is busy with this step while the last one is written.
        if pending:
          log.step_line(*pending)
        pending = (step, metrics)
        if step % config.eval_every == 0 or step == len(order):
          valid_loss = validate(state.params)
          log.step_line(*pending, valid_loss)
          pending = None
          log.flush()
          position = {**data, "start_valid_loss": start_loss}
          train_state.save(manager, state, position, valid_loss)
    best = manager.best_step()
    return Summary(
      checkpoint=directory / str(best),
      step=best,
      valid_loss=manager.metrics(best)["valid_loss"],
      start_valid_loss=start_loss,
      total_steps=len(order),
    )


def row_order(
  config: ml_collections.ConfigDict, rows: int, seed: int
) -> grain.MapDataset:
  """Element k: the indices of the rows of step k; the last may be fewer."""
  return (
    grain.MapDataset.range(rows)
    .seed(seed)
    .shuffle()
    .repeat(config.epochs)
    .batch(config.batch_rows)
  )


def _micro_batch_rows(config: ml_collections.ConfigDict, mesh: Mesh) -> int:
  shards = meshes.batch_shards(mesh)
  if config.batch_rows % (config.accumulate * shards):
    raise UserError(
      f"finetune.batch_rows={config.batch_rows} does not divide evenly over"
      f" finetune.accumulate={config.accumulate} micro-batches on {shards}"
      " shards of the mesh; make it a multiple of their product"
    )
  return config.batch_rows // config.accumulate


def _digest(rows: Rows) -> str:
  digest = hashlib.sha256()
  for field in rows:
    digest.update(str(field.shape).encode())
    digest.update(np.ascontiguousarray(field))
  return digest.hexdigest()


def _shardings(abstract):
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _start(
  manager, abstract, params, optimizer, data
) -> tuple[TrainState, float | None]:
  """The newest checkpoint's state and the run's first validation loss.

  Without a checkpoint: a new state around `params`, and None.
  """
  if manager.latest_step() is None:
    params = jax.device_put(params, _shardings(abstract.params), donate=True)
    init = jax.jit(optimizer.init, out_shardings=_shardings(abstract.opt_state))
    step = jax.device_put(np.int32(0), abstract.step.sharding)
    return TrainState(step, params, init(params)), None
  for leaf in jax.tree.leaves(params):
    leaf.delete()
  state, position = train_state.restore_latest(manager, abstract)
  for name, value in data.items():
    if position[name] != value:
      raise UserError(
        f"{manager.directory} was trained with {name}={position[name]}, this"
        f" run has {value}; use another workdir or delete that folder"
      )
  return state, position["start_valid_loss"]


def _validation(
  model: Llama, valid: Rows, micro_rows: int, mesh: Mesh
) -> Callable[[Params], float]:
  """A function from parameters to the mean loss over all of `valid`."""

  # The running sum makes each batch wait for the one before: their activations
  # are never in memory at once.
  def add_loss(total, params, rows: Rows):
    rows = jax.tree.map(lambda field: field[0], rows)
    return total + target_loss(model, params, rows)

  add_loss = jax.jit(add_loss, out_shardings=meshes.replicated(mesh))
  count = len(valid.tokens)
  targets = float(valid.target_weight.sum())

  def validate(params: Params) -> float:
    total = jax.device_put(np.float32(0), meshes.replicated(mesh))
    for first in range(0, count, micro_rows):
      indices = np.arange(first, min(first + micro_rows, count))
      batch = steps.put_rows(valid.take(indices, micro_rows), 1, mesh)
      total = add_loss(total, params, batch)
    return float(total) / targets

  return validate
