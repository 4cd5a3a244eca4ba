"""Everyday questions, asked as a chat: replies that nobody scores."""

from __future__ import annotations

import dataclasses
from importlib import resources

from s2d_jax.conversation import ChatTemplate
from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.generation.sampling import GREEDY
from s2d_jax.records import Record
from s2d_jax.system2.program import Prompts, Template
from s2d_jax.system2.scheduler import Job, Result

EVERYDAY = "everyday"  # stands for a task in the records
_PACKAGED = resources.files("s2d_jax.evaluation") / "everyday_questions.txt"
_TEMPLATE = Template("{text}", max_new_tokens=64)


@dataclasses.dataclass(frozen=True)
class Chat:
  """The part of a task that prompts are made of: nothing beside a question."""

  name: str = EVERYDAY
  prompts: Prompts = dataclasses.field(
    default_factory=lambda: {SYSTEM1: _TEMPLATE}
  )


def questions(most: int) -> dict[str, str]:
  """The first packaged questions, by the names of their records."""
  lines = _PACKAGED.read_text(encoding="utf-8").splitlines()
  asked = [line.strip() for line in lines if line.strip()]
  return {f"{EVERYDAY}/{i}": text for i, text in enumerate(asked[:most])}


def job(name: str, question: str) -> Job:
  """For a greedy reply to a question."""
  return Job((EVERYDAY, name), {"text": question}, GREEDY, scheduler=EVERYDAY)


def record(result: Result) -> Record:
  """Without a reply where the prompt does not fit the model's window."""
  found = {
    "task": EVERYDAY,
    "example_id": result.job.name[-1],
    "question": result.job.fields["text"],
  }
  if result.too_long is not None:
    return found | {"too_long": result.too_long}
  (step,) = result.steps
  tokens = step.completion.tokens
  return found | {
    "text": step.completion.text,
    "tokens": len(tokens),
    "finish": step.completion.finish_reason,
    "token_ids": list(tokens),
  }


def prompt_tokens(chat: ChatTemplate, question: str) -> tuple[int, ...]:
  """What a model reads before its reply to a question."""
  return chat.encode(chat.prompt(_TEMPLATE.messages(text=question)))
