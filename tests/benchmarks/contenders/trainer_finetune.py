"""The Hugging Face Trainer, with a collator that pads each batch."""

from __future__ import annotations

import tempfile

from transformers import Trainer, TrainingArguments

from tests.benchmarks.contenders import race
from tests.benchmarks.contenders.torch_finetune import collate, load, mean_loss


def arguments(job: race.Job, folder: str) -> TrainingArguments:
  """An epoch without reports or checkpoints."""
  return TrainingArguments(
    output_dir=folder,
    per_device_train_batch_size=job["batch_examples"],
    num_train_epochs=1,
    learning_rate=job["learning_rate"],
    lr_scheduler_type="constant",
    adam_beta2=0.95,
    max_grad_norm=1.0,
    use_cpu=True,
    seed=0,
    report_to=[],
    logging_strategy="no",
    save_strategy="no",
    disable_tqdm=True,
    remove_unused_columns=False,
  )


def main() -> None:
  job = race.read_job()
  model = load(job)
  start_loss = mean_loss(model, job)
  with tempfile.TemporaryDirectory() as folder:
    # One for all epochs, or each would begin with new moments.
    trainer = Trainer(
      model=model,
      args=arguments(job, folder),
      train_dataset=job["examples"],
      data_collator=collate,
    )

    def epoch(_: int) -> dict:
      trainer.train()
      return race.trained(job)

    result = race.run(job, epoch)
  result |= {"start_loss": start_loss, "end_loss": mean_loss(model.eval(), job)}
  race.finish(job, result)


if __name__ == "__main__":
  main()
