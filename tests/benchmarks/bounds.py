"""What the matrix products alone would allow.

Attention's products with keys and values, which have no weights, are left out.
"""

from __future__ import annotations

import statistics

from tests.benchmarks import summary
from tests.benchmarks.contenders import race
from tests.benchmarks.workloads import Job, common_prefix

_READ_AT_ONCE = 512  # prompt tokens

Pass = dict[str, int | bool]  # see `contenders.products.measure`


def sampling_passes(job: Job) -> list[Pass]:
  """The products of a decode step, and of prompt tokens that are read."""
  rows, reading = job["rows"], min(_READ_AT_ONCE, prompt_tokens(job))
  return [
    {"rows": rows, "head_rows": rows, "learns": False},
    {"rows": reading, "head_rows": 0, "learns": False},
  ]


def prompt_tokens(job: Job) -> int:
  """That have to be read: what all prompts begin with only once."""
  shared = common_prefix(job["prompts"])
  return shared + sum(len(prompt) - shared for prompt in job["prompts"])


def sampling(job: Job, seconds: list[float], tokens: float) -> float:
  """Tokens a second.

  Args:
    job: the workload.
    seconds: of each of its `sampling_passes`.
    tokens: that are drawn; every row of every step draws one.
  """
  step, read = seconds
  steps = tokens / job["rows"]
  reads = prompt_tokens(job) / sampling_passes(job)[1]["rows"]
  return tokens / (steps * step + reads * read)


def finetune_passes(job: Job) -> list[Pass]:
  """The products of a step: the head's of targets only.

  What examples of a row begin with alike is computed once.
  """
  share = _of_an_epoch(job)
  return [
    {
      "rows": round(job["distinct_tokens"] * share),
      "head_rows": round(race.target_tokens(job) * share),
      "learns": True,
    }
  ]


def _of_an_epoch(job: Job) -> float:
  """How much of it is a step."""
  return job["batch_examples"] / len(job["examples"])


def finetune(job: Job, seconds: list[float], unit: str) -> float:
  """Units a second: "tokens" or "target_tokens"."""
  return race.trained(job)[unit] * _of_an_epoch(job) / seconds[0]


def drawn(results: dict[str, summary.Result]) -> float:
  """Tokens of a repeat of the first contender."""
  counts = next(iter(results.values()))["counts"]
  return statistics.median(one["tokens"] for one in counts)
