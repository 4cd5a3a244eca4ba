"""A bare PyTorch loop over a Hugging Face model: what one writes first."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from tests.benchmarks.contenders import race

_NO_TARGET = -100


def load(job: race.Job):
  """The model, with the threads and number type of the job."""
  torch.set_num_threads(job["threads"])
  dtype = getattr(torch, job["dtype"])
  return AutoModelForCausalLM.from_pretrained(job["weights"], dtype=dtype)


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
  """A batch padded to its longest example."""
  width = max(len(example["tokens"]) for example in examples)

  def padded(row: list[int], fill: int) -> list[int]:
    return row + [fill] * (width - len(row))

  labels = [
    [
      token if is_target else _NO_TARGET
      for token, is_target in zip(e["tokens"], e["is_target"], strict=True)
    ]
    for e in examples
  ]
  return {
    "input_ids": torch.tensor([padded(e["tokens"], 0) for e in examples]),
    "attention_mask": torch.tensor(
      [padded([1] * len(e["tokens"]), 0) for e in examples]
    ),
    "labels": torch.tensor([padded(row, _NO_TARGET) for row in labels]),
  }


def mean_loss(model, job: race.Job) -> float:
  """Nats a target token over all examples."""
  total = 0.0
  with torch.inference_mode():
    for batch in batches(job):
      targets = int((batch["labels"][:, 1:] != _NO_TARGET).sum())
      total += float(model(**batch).loss) * targets
  return total / race.target_tokens(job)


def batches(job: race.Job) -> list[dict[str, torch.Tensor]]:
  size, examples = job["batch_examples"], job["examples"]
  return [
    collate(examples[i : i + size]) for i in range(0, len(examples), size)
  ]


def main() -> None:
  job = race.read_job()
  model = load(job)
  start_loss = mean_loss(model, job)
  optimizer = torch.optim.AdamW(
    model.parameters(),
    lr=job["learning_rate"],
    betas=(0.9, 0.95),
    weight_decay=0.0,
    foreach=True,
  )
  model.train()

  def epoch(_: int) -> dict:
    for batch in batches(job):
      model(**batch).loss.backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
      optimizer.step()
      optimizer.zero_grad()
    return race.trained(job)

  result = race.run(job, epoch)
  result |= {"start_loss": start_loss, "end_loss": mean_loss(model.eval(), job)}
  race.finish(job, result)


if __name__ == "__main__":
  main()
