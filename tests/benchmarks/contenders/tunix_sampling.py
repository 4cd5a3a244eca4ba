"""google-tunix's sampler: every sample is a row with its own prompt."""

from __future__ import annotations

from tunix.generate.sampler import CacheConfig, Sampler

from tests.benchmarks.contenders import race, tunix_model


class Ids:
  """Stands for a tokenizer: texts are lists of ids already.

  Args:
    pad: an id that no prompt has; the sampler masks it wherever it stands.
    nothing: an id that is never drawn as an end.
  """

  def __init__(self, pad: int, nothing: int):
    self._pad, self._nothing = pad, nothing

  def encode(self, ids: list[int]) -> list[int]:
    return ids

  def decode(self, ids: list[int]) -> str:
    return ""

  def bos_id(self) -> int:
    return 0  # as good as none: the sampler puts nothing before the prompt

  def eos_id(self) -> int:
    return self._nothing

  def pad_id(self) -> int:
    return self._pad


def unused_id(job: race.Job, vocabulary: int) -> int:
  used = {token for prompt in job["prompts"] for token in prompt}
  return next(i for i in reversed(range(vocabulary)) if i not in used)


def main() -> None:
  job = race.read_job()
  model = tunix_model.load(job)
  config = model.config
  length = max(map(len, job["prompts"]))
  nothing = config.vocab_size  # no token has this number
  sampler = Sampler(
    model,
    Ids(unused_id(job, config.vocab_size), nothing),
    CacheConfig(
      cache_size=length + job["max_new_tokens"],
      num_layers=config.num_layers,
      num_kv_heads=config.num_kv_heads,
      head_dim=config.head_dim,
    ),
  )
  eos = job["eos"] or [nothing]

  def draw(prompts, new: int, seed: int, **settings) -> list[list[int]]:
    out = sampler(
      prompts,
      max_generation_steps=new,
      max_prompt_length=length,
      eos_tokens=eos,
      seed=seed,
      **settings,
    )
    # The end token is drawn, but not in the reply.
    return [row.tolist() + eos[:1] * (len(row) < new) for row in out.tokens]

  def once(repeat: int) -> dict:
    drawn = []
    hot = {"temperature": job["temperature"], "top_p": 1.0}
    for part in race.batches(job["prompts"], job["samples"], job["rows"]):
      rows = [prompt for prompt in part for _ in range(job["samples"])]
      drawn += draw(rows, job["max_new_tokens"], repeat, **hot)
    return race.count(drawn, eos)

  result = race.run(job, once)
  result["greedy"] = draw(job["greedy_prompts"], job["greedy_tokens"], 0)
  race.finish(job, result)


if __name__ == "__main__":
  main()
