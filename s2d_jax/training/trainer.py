"""The fine-tune: one loop from start parameters to the best checkpoint.

What a restart goes on from: step k of a run reads batch k of an order that
depends on the seed alone, so the step of the newest complete checkpoint is the
position in the data; lines of metrics after that step are dropped, and written
again as they were.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NoReturn

from etils import epath
from jax.sharding import Mesh
import ml_collections

from s2d_jax import profiling
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import Preempted
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import micro_batches, step as steps
from s2d_jax.training.data import Splits, TrainingData
from s2d_jax.training.learner import Learner
from s2d_jax.training.log import TrainingLog
from s2d_jax.training.on_policy import OnPolicyData, OwnReplies
from s2d_jax.training.preemption import Preemption
from s2d_jax.training.run_checkpoints import RunCheckpoints


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a fine-tune ended; losses are nats a target token."""

  checkpoint: epath.Path  # of the lowest validation loss
  step: int
  valid_loss: float
  start_valid_loss: float  # of the parameters it started from
  total_steps: int
  accumulate: int  # micro-batches of an update


def finetune(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  splits: Splits,
  workdir: epath.PathLike,
  mesh: Mesh,
  seed: int,
  own: OwnReplies | None = None,
) -> Summary:
  """Trains on `splits.train`, keeps the checkpoint best on `splits.valid`.

  Writes `checkpoints/`, `metrics/finetune.jsonl` and `tensorboard/finetune/` in
  `workdir`, and goes on from there when started again. The loss of a line is
  that of the batch before the update, its `valid_loss` that of all of the
  validation split after it; line 0 has the validation loss of the start
  parameters alone.

  Args:
    config: the `finetune` section.
    model: to start from; its parameters are float32 where they are trained.
      They are given up: their memory holds the trained parameters, or is freed
      where a checkpoint is gone on from.
    splits: examples to learn, and to choose the checkpoint by.
    workdir: folder of the run.
    mesh: devices; the rows of a micro-batch must divide evenly over them.
    seed: of the order of rows and of new adapters.
    own: how the model's own replies come about, if it learns from them and not
      from `splits.train`: their files are in `replies/`, and the loss of a line
      is KL(student || teacher) in nats a token.

  Raises:
    UserError: sizes that do not fit together, no examples or one too long, a
      checkpoint of other data, or a loss that is no longer finite.
    Preempted: SIGTERM came; the state is saved.
  """
  workdir = epath.Path(workdir)
  directory = workdir / "checkpoints"
  share = steps.can_share(config, model.config, mesh)
  if own is None:
    data = TrainingData(config, splits, seed, share)
  else:
    multiple = steps.teacher_multiple(mesh)
    share &= steps.can_share(config, model.config, mesh, multiple)
    data = OnPolicyData(
      config, splits.valid, own, workdir / "replies", seed, share, multiple
    )
  config = micro_batches.decided(config, model.config, mesh, data)
  total = data.total_steps
  learner = Learner(config, model.config, mesh, total, data.teacher_length)
  with (
    meshes.use(mesh, training=True),
    RunCheckpoints(directory, config, data.fingerprint()) as checkpoints,
    Preemption() as preemption,
  ):
    is_new = checkpoints.latest_step is None
    if is_new:
      learner.start(model.params, seed)
    else:
      learner.resume(model.params, checkpoints)
    start = learner.step
    with TrainingLog(workdir, start, total) as log:
      if is_new:
        checkpoints.start_valid_loss = learner.mean_loss(data.valid)
        log.start_line(checkpoints.start_valid_loss)
      for step in profiling.traced("finetune", range(start + 1, total + 1)):
        data.prepare(step, learner.weights)
        metrics = learner.update(data.batch(step)) | data.figures(step)
        log.update(step, metrics)  # reads those of the update before
        if step % config.eval_every == 0 or step == total:
          valid_loss = learner.mean_loss(data.valid)
          log.flush(valid_loss)
          checkpoints.save(learner.state, valid_loss)
        if preemption.reached(step) and step < total:
          _save_and_leave(step, learner, log, checkpoints)
    best_step, best_loss = checkpoints.best()
    return Summary(
      checkpoint=directory / str(best_step),
      step=best_step,
      valid_loss=best_loss,
      start_valid_loss=checkpoints.start_valid_loss,
      total_steps=total,
      accumulate=config.accumulate,
    )


def _save_and_leave(
  step: int, learner: Learner, log: TrainingLog, checkpoints: RunCheckpoints
) -> NoReturn:
  """Saves where the run stands, whatever it is worth, and ends it."""
  if checkpoints.latest_step != step:
    log.flush()
    checkpoints.save(learner.state, math.inf)
  checkpoints.wait()
  raise Preempted(
    f"told to stop; finetune step {step} is saved, and the same command goes on"
    " from there"
  )
