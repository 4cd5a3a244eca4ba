"""s2d_jax's engine."""

from __future__ import annotations

import os
import time

from s2d_jax.checkpoints import pretrained
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import kernels
from s2d_jax.models.llama import Llama
from s2d_jax.parallel.mesh import make_mesh
from tests.benchmarks.contenders import race


def make_engine(job: race.Job, model: pretrained.Pretrained, samples: int):
  """An engine that has read what all prompts begin with."""
  engine = Engine(
    Llama(model.config, kernels.Float(job["dtype"])),
    model.params,
    model.tokenizer,
    job["eos"],
    rows=min(job["rows"], len(job["prompts"]) * samples),
    samples=samples,
    max_new_tokens=job["max_new_tokens"],
  )
  prefix = os.path.commonprefix(job["prompts"])
  if len(prefix) >= 32:
    engine.share_prefix(prefix)
  return engine


def draw(engine, prompts, samples: int, sampling: Sampling, seed: int):
  """Tokens by prompt and sample, and when the first completion was there."""
  for index, prompt in enumerate(prompts):
    for sample in range(samples):
      key = random_key(seed, index, sample)
      engine.submit(Request(tuple(prompt), key, sampling, (index, sample)))
  rows, first = {}, None
  while engine.busy:
    for tag, completion in engine.step():
      first = first or time.perf_counter()
      rows[tag] = list(completion.tokens)
  return rows, first


def sample(job: race.Job, model: pretrained.Pretrained) -> dict:
  """A result: see `race.run`."""
  hot = Sampling(job["temperature"], max_new_tokens=job["max_new_tokens"])

  def once(repeat: int) -> dict:
    # A new engine: what an earlier call has read must not help a later one.
    engine = make_engine(job, model, job["samples"])
    rows, first = draw(engine, job["prompts"], job["samples"], hot, repeat)
    counts = race.count(list(rows.values()), job["eos"])
    return counts | {"useful": engine.usage.useful, "first_result": first}

  result = race.run(job, once)
  cold = Sampling(0.0, max_new_tokens=job["greedy_tokens"])
  engine = make_engine(job, model, 1)
  rows, _ = draw(engine, job["greedy_prompts"], 1, cold, 0)
  result["greedy"] = [rows[key] for key in sorted(rows)]
  return result


def main() -> None:
  job = race.read_job()
  model = pretrained.load(job["weights"], make_mesh(), job["dtype"])
  race.finish(job, sample(job, model))


if __name__ == "__main__":
  main()
