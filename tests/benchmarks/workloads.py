"""What is measured, as jobs: the same ids and lengths for every contender."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from configs import quickstart
from s2d_jax import evaluation, records
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.stages import setup
from s2d_jax.training.examples import tokenise
from s2d_jax.training.packing import pack

Job = dict[str, Any]

SAMPLING = ("A", "B128", "B448", "C")
FINETUNE = ("8x128", "2x512", "quickstart")

_TEXT = pathlib.Path(evaluation.__file__).parent / "retention_text.txt"
_EXAMPLES = pathlib.Path(__file__).parent / "quickstart_examples.jsonl"
_GREEDY_PROMPTS = 8
_GREEDY_TOKENS = 32


def sampling(name: str, tokenizer) -> Job:
  """A sampling workload.

  A: 16 prompts of 128 tokens, 1 sample each, 64 new tokens.
  B128, B448: 8 prompts of 128 or 448 tokens, 8 samples each, 64 new tokens.
  C: 64 questions behind the same worked examples, 8 samples each, until the
    end of the turn: the first step of the quickstart.
  """
  if name not in SAMPLING:
    raise UserError(f"--workload={name} must be one of {', '.join(SAMPLING)}")
  if name == "C":
    job = {
      "prompts": questions(tokenizer, 64),
      "samples": 8,
      "max_new_tokens": 128,
      "eos": list(ChatTemplate(tokenizer).end_tokens),
      "temperature": 0.7,
      "rows": quickstart.get_config().sampling.batch_rows,
    }
  else:
    count, samples = (16, 1) if name == "A" else (8, 8)
    length = 448 if name == "B448" else 128
    job = {
      "prompts": windows(text_tokens(tokenizer), count, length),
      "samples": samples,
      "max_new_tokens": 64,
      "eos": [],  # every sample is drawn to its full length
      "temperature": 1.0,
      "rows": count * samples,
    }
  greedy = {
    "greedy_prompts": job["prompts"][:_GREEDY_PROMPTS],
    "greedy_tokens": min(_GREEDY_TOKENS, job["max_new_tokens"]),
  }
  return {"workload": name} | job | greedy


def finetune(name: str, tokenizer) -> Job:
  """A fine-tuning workload: examples, and how many of them a step learns.

  8x128, 2x512: so many rows of so many tokens, all of them a step, the second
    half of each row to be learnt.
  quickstart: what an earlier quickstart curated, short targets behind
    prompts of unequal lengths; an epoch. s2d_jax packs them into rows as the
    quickstart does; others take as many examples a step.
  """
  if name not in FINETUNE:
    raise UserError(f"--workload={name} must be one of {', '.join(FINETUNE)}")
  if name == "quickstart":
    return quickstart_examples(tokenizer)
  count, length = map(int, name.split("x"))
  rows = windows(text_tokens(tokenizer), count, length)
  is_target = [0] * (length // 2) + [1] * (length - length // 2)
  return {
    "workload": name,
    "examples": [{"tokens": row, "is_target": is_target} for row in rows],
    "packed": {"batch_rows": count, "row_length": length},
    "batch_examples": count,
    "distinct_tokens": count * length,
  }


def quickstart_examples(tokenizer) -> Job:
  """What an earlier quickstart learnt, as it curated it."""
  settings = quickstart.get_config().finetune
  chat = ChatTemplate(tokenizer)
  examples = [
    tokenise(chat, record["prompt"], record["target"])
    for record in records.read(_EXAMPLES)
  ]
  named = {str(index): example for index, example in enumerate(examples)}
  rows = pack(named, settings.row_length)
  step = settings.batch_rows / len(rows.tokens)
  return {
    "workload": "quickstart",
    "examples": [
      {"tokens": tokens.tolist(), "is_target": is_target.astype(int).tolist()}
      for tokens, is_target in examples
    ],
    "packed": {
      "batch_rows": settings.batch_rows,
      "row_length": settings.row_length,
    },
    "batch_examples": round(len(examples) * step),
    "distinct_tokens": int((rows.until > 0).sum()),
  }


def text_tokens(tokenizer) -> list[int]:
  return tokenizer(_TEXT.read_text())["input_ids"]


def windows(tokens: list[int], count: int, length: int) -> list[list[int]]:
  """Stretches of a text, each with another beginning; they may overlap."""
  tokens = tokens * -(-2 * length // len(tokens))
  stride = (len(tokens) - length) // count
  if stride < 1:
    raise UserError(f"the text is too short for {count} windows of {length}")
  return [tokens[i * stride :][:length] for i in range(count)]


def questions(tokenizer, count: int) -> list[list[int]]:
  """The prompts by which the quickstart removes opinions."""
  config: ConfigDict = quickstart.get_config()
  task = setup.task_of(config)
  extract = setup.prompts_of(config, task)["extract"]
  calls = [
    extract.ask(**task.fields(example, variant))
    for example in task.examples()["train"]
    for variant in task.variants
  ]
  chat = ChatTemplate(tokenizer)
  texts = [chat.prompt(call.messages) for call in calls[:count]]
  return [list(chat.encode(text)) for text in texts]


def common_prefix(prompts: list[list[int]]) -> int:
  """Tokens that all prompts begin with."""
  return len(os.path.commonprefix(prompts))


def save(path: pathlib.Path, job: Job) -> pathlib.Path:
  path.write_text(json.dumps(job))
  return path
