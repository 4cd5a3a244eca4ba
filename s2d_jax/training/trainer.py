"""The fine-tune: one loop from start parameters to the best checkpoint.

What a restart goes on from: step k of a run reads batch k of an order that
depends on the seed alone, so the step of the newest complete checkpoint is the
position in the data; lines of metrics after that step are dropped, and written
again as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import math
from typing import NoReturn

from etils import epath
from flax import linen as nn
import grain
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import ml_collections
import numpy as np
import optax

from s2d_jax import profiling
from s2d_jax.checkpoints import train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import Preempted, UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.log import TrainingLog
from s2d_jax.training.loss import joined, target_loss
from s2d_jax.training.optimizer import make_optimizer
from s2d_jax.training.packing import PackedRows, pack
from s2d_jax.training.preemption import Preemption


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
  train: Mapping[str, Tokenised],
  valid: Mapping[str, Tokenised],
  workdir: epath.PathLike,
  mesh: Mesh,
  seed: int,
) -> Summary:
  """Trains on `train`, keeps the checkpoint that does best on `valid`.

  Writes `checkpoints/`, `metrics/finetune.jsonl` and `tensorboard/finetune/` in
  `workdir`, and goes on from there when started again. The loss of a line is
  that of the batch before the update, its `valid_loss` that of all of `valid`
  after it; line 0 has the validation loss of the start parameters alone.

  Args:
    config: the `finetune` section.
    model_config: architecture.
    params: arrays to start from, float32 where they are trained. They are
      given up: their memory holds the trained parameters, or is freed where a
      checkpoint is gone on from.
    train: examples to learn; every process holds all of them.
    valid: examples to choose the checkpoint by.
    workdir: folder of the run.
    mesh: devices; the rows of a micro-batch must divide evenly over them.
    seed: of the order of rows.

  Raises:
    UserError: sizes that do not fit together, no examples or one too long, a
      checkpoint of other data, or a loss that is no longer finite.
    Preempted: SIGTERM came; the state is saved.
  """
  share = steps.can_share(config, mesh)
  train, valid = (pack(x, config.row_length, share) for x in (train, valid))
  order = row_order(config, len(train.tokens), seed)
  micro_rows = _micro_batch_rows(config, mesh)
  model = steps.make_model(config, model_config, mesh)
  abstract = steps.abstract_state(config, model_config, mesh, len(order))
  data = {
    "seed": seed,
    "total_steps": len(order),
    "batch_rows": config.batch_rows,
    "rows": _digest(train),
  }
  workdir = epath.Path(workdir)
  directory = workdir / "checkpoints"
  with (
    meshes.use(mesh, training=True),
    train_state.open_manager(
      directory, config.keep, config.async_save
    ) as manager,
    Preemption() as preemption,
  ):
    train_step = steps.make_train_step(config, model, abstract, len(order))
    validate = _validation(model, valid, micro_rows, mesh)
    resumed = manager.latest_step() is not None
    if resumed:
      frozen = _keep_frozen(config, model_config, params, mesh)
      if not frozen:  # what was trained stands in the checkpoint
        jax.tree.map(lambda leaf: leaf.delete(), params)
      state, start_loss = _restored(manager, abstract, data)
    else:
      optimizer = make_optimizer(config, len(order))
      state, frozen = _new_state(
        config, model, optimizer, abstract, params, mesh, seed
      )
    start = int(state.step)
    with TrainingLog(workdir, start, len(order)) as log:
      if not resumed:
        start_loss = validate(state.params, frozen)
        log.start_line(start_loss)
      position = {**data, "start_valid_loss": start_loss}
      pending = None
      updates = range(start + 1, len(order) + 1)
      for step in profiling.traced("finetune", updates):
        rows = train.take(order[step - 1], config.batch_rows)
        batch = steps.put_rows(rows, config.accumulate, mesh)
        state, metrics = train_step(state, frozen, batch)
        # The device is busy with this step while the last one is written.
        if pending:
          log.step_line(*pending)
        pending = (step, metrics)
        if step % config.eval_every == 0 or step == len(order):
          valid_loss = validate(state.params, frozen)
          log.step_line(*pending, valid_loss)
          pending = None
          log.flush()
          train_state.save(manager, state, position, valid_loss)
        if preemption.reached(step) and step < len(order):
          _save_and_leave(manager, state, position, log, pending)
    manager.wait_until_finished()
    best = manager.best_step()
    return Summary(
      checkpoint=directory / str(best),
      step=best,
      valid_loss=manager.metrics(best)["valid_loss"],
      start_valid_loss=start_loss,
      total_steps=len(order),
    )


def _save_and_leave(manager, state, position, log, pending) -> NoReturn:
  """Saves where the run stands, whatever it is worth, and ends it."""
  if pending:  # else this very step has just been saved
    log.step_line(*pending)
    log.flush()
    train_state.save(manager, state, position, math.inf)
  manager.wait_until_finished()
  raise Preempted(
    f"told to stop; finetune step {int(state.step)} is saved, and the same"
    " command goes on from there"
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


def _digest(rows: PackedRows) -> str:
  digest = hashlib.sha256()
  for field in rows:
    digest.update(str(field.shape).encode())
    digest.update(np.ascontiguousarray(field))
  return digest.hexdigest()


def _shardings(abstract):
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _new_state(
  config: ml_collections.ConfigDict,
  model: Llama,
  optimizer: optax.GradientTransformation,
  abstract: TrainState,
  params: Params,
  mesh: Mesh,
  seed: int,
) -> tuple[TrainState, Params]:
  """The state before the first update, and what is not trained."""
  frozen = _keep_frozen(config, model.config, params, mesh)
  if model.lora is None:
    params = jax.device_put(params, _shardings(abstract.params), donate=True)
  else:

    def adapters(key):
      tokens = jnp.zeros((1, 1), jnp.int32)
      variables = model.init(key, tokens, method=Llama.init_all)
      return lora.split(nn.unbox(variables)["params"])[0]

    init = jax.jit(adapters, out_shardings=_shardings(abstract.params))
    params = init(jax.random.key(seed))
  init = jax.jit(optimizer.init, out_shardings=_shardings(abstract.opt_state))
  step = jax.device_put(np.int32(0), abstract.step.sharding)
  return TrainState(step, params, init(params)), frozen


def _keep_frozen(config, model_config, params: Params, mesh: Mesh) -> Params:
  """What is not trained, if anything."""
  abstract = steps.abstract_frozen(config, model_config, mesh)
  if not abstract:
    return {}
  cast = jax.jit(
    lambda params: optax.tree.cast(params, steps.given_dtype(config, mesh)),
    out_shardings=_shardings(abstract),
    donate_argnums=0,
  )
  return cast(params)


def _restored(manager, abstract, data) -> tuple[TrainState, float]:
  """The newest checkpoint's state and the run's first validation loss."""
  state, position = train_state.restore_latest(manager, abstract)
  for name, value in data.items():
    if position[name] != value:
      raise UserError(
        f"{manager.directory} was trained with {name}={position[name]}, this"
        f" run has {value}; use another workdir or delete that folder"
      )
  return state, position["start_valid_loss"]


def _validation(
  model: Llama, valid: PackedRows, micro_rows: int, mesh: Mesh
) -> Callable[[Params, Params], float]:
  """From what is trained and what is not to the mean loss over `valid`."""

  # The running sum makes each batch wait for the one before: their activations
  # are never in memory at once.
  def add_loss(total, params, frozen, rows: PackedRows):
    rows = jax.tree.map(lambda field: field[0], rows)
    variables = {"params": joined(params, frozen)}
    return total + target_loss(model, variables, rows)

  add_loss = jax.jit(add_loss, out_shardings=meshes.replicated(mesh))
  count = len(valid.tokens)
  targets = float(valid.target_weight.sum())

  def validate(params: Params, frozen: Params) -> float:
    total = jax.device_put(np.float32(0), meshes.replicated(mesh))
    for first in range(0, count, micro_rows):
      indices = np.arange(first, min(first + micro_rows, count))
      batch = steps.put_rows(valid.take(indices, micro_rows), 1, mesh)
      total = add_loss(total, params, frozen, batch)
    return float(total) / targets

  return validate
