"""Hugging Face transformers on PyTorch: `generate`, prompts in batches."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from tests.benchmarks.contenders import race


def load(job: race.Job):
  """The model, with the threads and number type of the job."""
  torch.set_num_threads(job["threads"])
  dtype = getattr(torch, job["dtype"])
  model = AutoModelForCausalLM.from_pretrained(job["weights"], dtype=dtype)
  # The job alone says how it is drawn.
  model.generation_config = GenerationConfig(pad_token_id=0)
  return model.eval()


def padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
  """Prompts [B, T] with padding on the left, and the mask of their tokens."""
  width = max(map(len, prompts))
  tokens = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
  mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
  return {
    "input_ids": torch.tensor(tokens),
    "attention_mask": torch.tensor(mask),
  }


def generate(model, prompts, eos: list[int], **settings) -> list[list[int]]:
  """New tokens of each row."""
  inputs = padded(prompts)
  with torch.inference_mode():
    out = model.generate(**inputs, eos_token_id=eos or None, **settings)
  return out[:, inputs["input_ids"].shape[1] :].tolist()


def main() -> None:
  job = race.read_job()
  model = load(job)
  eos, samples = job["eos"], job["samples"]
  hot = {
    "do_sample": True,
    "temperature": job["temperature"],
    "top_k": 0,
    "num_return_sequences": samples,
    "max_new_tokens": job["max_new_tokens"],
  }

  def once(repeat: int) -> dict:
    torch.manual_seed(repeat)
    rows = []
    for part in race.batches(job["prompts"], samples, job["rows"]):
      rows += generate(model, part, eos, **hot)
    return race.count(rows, eos)

  result = race.run(job, once)
  cold = {"do_sample": False, "max_new_tokens": job["greedy_tokens"]}
  rows = generate(model, job["greedy_prompts"], eos, **cold)
  result["greedy"] = [race.until_end(row, eos) for row in rows]
  race.finish(job, result)


if __name__ == "__main__":
  main()
