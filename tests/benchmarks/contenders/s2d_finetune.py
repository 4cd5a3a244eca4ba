"""s2d_jax's train step, on rows packed as the fine-tune packs them."""

from __future__ import annotations

import jax
import numpy as np

from s2d_jax.checkpoints import pretrained
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.config import default
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps, trainer
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import target_loss
from s2d_jax.training.optimizer import make_optimizer
from s2d_jax.training.packing import PackedRows, pack
from tests.benchmarks.contenders import race


def settings(job: race.Job):
  """The fine-tune's own, with the sizes of the job."""
  config = default().finetune.unlock()
  config.update(job["packed"])
  config.update(job.get("settings", {}))
  config.dtype = job["dtype"]
  config.learning_rate = job["learning_rate"]
  config.warmup_steps = 0
  config.epochs = job["repeats"] + 1
  return config.lock()


def packed(job: race.Job, share: bool) -> PackedRows:
  examples = {
    str(index): Tokenised(
      np.array(example["tokens"], np.int32),
      np.array(example["is_target"], bool),
    )
    for index, example in enumerate(job["examples"])
  }
  return pack(examples, job["packed"]["row_length"], share)


def train(job: race.Job, model: pretrained.Pretrained) -> dict:
  """A result: see `race.run`."""
  config, mesh = settings(job), meshes.make_mesh()
  rows = packed(job, steps.can_share(config, mesh))
  order = trainer.row_order(config, len(rows.tokens), seed=0)
  epoch_steps = len(order) // config.epochs
  batch = lambda indices: steps.put_rows(  # noqa: E731
    rows.take(indices, config.batch_rows), config.accumulate, mesh
  )
  with meshes.use(mesh, training=True):
    network = steps.make_model(config, model.config, mesh)
    abstract = steps.abstract_state(config, model.config, mesh, len(order))
    step = steps.make_train_step(config, network, abstract, len(order))
    loss = jax.jit(
      lambda params, rows: target_loss(network, {"params": params}, rows)
    )

    def mean_loss(params) -> float:
      parts = np.arange(len(rows.tokens))
      size = config.batch_rows
      total = 0.0
      for start in range(0, len(parts), size):
        put = batch(parts[start : start + size])
        total += float(loss(params, jax.tree.map(lambda x: x[0], put)))
      return total / race.target_tokens(job)

    start_loss = mean_loss(model.params)
    init = jax.jit(make_optimizer(config, len(order)).init)
    state = TrainState(
      jax.device_put(np.int32(0), abstract.step.sharding),
      model.params,
      init(model.params),
    )

    def epoch(repeat: int) -> dict:
      nonlocal state
      for index in range(repeat * epoch_steps, (repeat + 1) * epoch_steps):
        state, _ = step(state, {}, batch(order[index]))
      jax.block_until_ready(state)
      return race.trained(job)

    result = race.run(job, epoch)
    end_loss = mean_loss(state.params)
  return result | {"start_loss": start_loss, "end_loss": end_loss}


def main() -> None:
  job = race.read_job()
  # What is trained is float32, whatever the products are.
  model = pretrained.load(job["weights"], meshes.make_mesh())
  race.finish(job, train(job, model))


if __name__ == "__main__":
  main()
