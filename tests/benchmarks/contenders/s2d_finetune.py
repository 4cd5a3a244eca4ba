"""s2d_jax's train step, on rows packed as the fine-tune packs them."""

from __future__ import annotations

import jax
import numpy as np

from s2d_jax.checkpoints import pretrained
from s2d_jax.config import default
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.data import Splits, TrainingData
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.learner import Learner
from tests.benchmarks.contenders import race

# Of a run so long that its first steps are all at the top of the schedule: the
# rate is constant, as that of the others is.
_TOTAL_STEPS = 10**9


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


def training_data(job: race.Job, config, share: bool) -> TrainingData:
  """Batches of the job's examples, and all of them to take the loss of."""
  examples = {
    str(index): Tokenised(
      np.array(example["tokens"], np.int32),
      np.array(example["is_target"], bool),
    )
    for index, example in enumerate(job["examples"])
  }
  return TrainingData(config, Splits(examples, examples), seed=0, share=share)


def train(job: race.Job, model: pretrained.Pretrained) -> dict:
  """A result: see `race.run`; with the rates of the first and last update."""
  config, mesh = settings(job), meshes.make_mesh()
  batches = training_data(
    job, config, steps.can_share(config, model.config, mesh)
  )
  epoch_steps = batches.total_steps // config.epochs
  learner = Learner(config, model.config, mesh, _TOTAL_STEPS)
  rates = []
  with meshes.use(mesh, training=True):
    learner.start(model.params, seed=0)
    start_loss = learner.mean_loss(batches.valid)

    def epoch(repeat: int) -> dict:
      for index in range(repeat * epoch_steps, (repeat + 1) * epoch_steps):
        metrics = learner.update(batches.batch(index + 1))
        rates.append(metrics["learning_rate"])
      jax.block_until_ready(learner.state)
      return race.trained(job)

    result = race.run(job, epoch)
    end_loss = learner.mean_loss(batches.valid)
  return result | {
    "start_loss": start_loss,
    "end_loss": end_loss,
    "learning_rates": [float(rates[0]), float(rates[-1])],
  }


def main() -> None:
  job = race.read_job()
  # What is trained is float32, whatever the products are.
  model = pretrained.load(job["weights"], meshes.make_mesh())
  race.finish(job, train(job, model))


if __name__ == "__main__":
  main()
