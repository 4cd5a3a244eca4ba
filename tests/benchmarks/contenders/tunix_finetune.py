"""google-tunix's trainer, on all weights, with its own loss."""

from __future__ import annotations

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tunix.sft import peft_trainer
from tunix.sft.peft_trainer import TrainingInput

from tests.benchmarks.contenders import race, tunix_model


def batches(job: race.Job) -> list[TrainingInput]:
  """Padded to the longest example of all, so that one program is compiled."""
  width = max(len(example["tokens"]) for example in job["examples"])
  size = job["batch_examples"]

  def padded(row: list[int]) -> list[int]:
    return row + [0] * (width - len(row))

  def batch(examples) -> TrainingInput:
    examples = examples + [{"tokens": [], "is_target": []}] * (
      size - len(examples)
    )
    return TrainingInput(
      input_tokens=np.array([padded(e["tokens"]) for e in examples], np.int32),
      input_mask=np.array([padded(e["is_target"]) for e in examples], bool),
    )

  examples = job["examples"]
  return [batch(examples[i : i + size]) for i in range(0, len(examples), size)]


def inputs(batch: TrainingInput) -> dict:
  """Of its loss: padding stands behind, so a causal mask is enough."""
  count, width = batch.input_tokens.shape
  causal = jnp.tril(jnp.ones((width, width), bool))
  return {
    "input_tokens": batch.input_tokens,
    "input_mask": batch.input_mask,
    "positions": jnp.broadcast_to(jnp.arange(width), (count, width)),
    "attention_mask": jnp.broadcast_to(causal, (count, width, width)),
  }


def mean_loss(model, job: race.Job) -> float:
  """Nats a target token over all examples."""
  total = 0.0
  for batch in batches(job):
    loss = peft_trainer._default_loss_fn(model, **inputs(batch))
    total += float(loss) * int(batch.input_mask[:, 1:].sum())
  return total / race.target_tokens(job)


def main() -> None:
  job = race.read_job()
  logging.set_verbosity(logging.ERROR)
  model = tunix_model.load(job)
  start_loss = mean_loss(model, job)
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(job["learning_rate"], b1=0.9, b2=0.95, weight_decay=0.0),
  )
  settings = peft_trainer.TrainingConfig(eval_every_n_steps=10**9)
  trainer = peft_trainer.PeftTrainer(model, optimizer, settings)
  trainer = trainer.with_gen_model_input_fn(inputs)
  trainer.is_managed_externally = True  # or it would skip what it has seen
  data = batches(job)

  def epoch(_: int) -> dict:
    trainer.train(data)
    jax.block_until_ready(jax.tree.leaves(trainer.model))
    return race.trained(job)

  result = race.run(job, epoch)
  result |= {"start_loss": start_loss, "end_loss": mean_loss(model, job)}
  race.finish(job, result)


if __name__ == "__main__":
  main()
