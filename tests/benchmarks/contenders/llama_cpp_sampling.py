"""llama.cpp's server, as a library: parallel sequences, each prompt read once.

The samples of a prompt are one request (`n_cmpl`): the server reads the prompt
and copies its keys and values to the other sequences. In workload C it also
keeps what a sequence has in common with the prompt before; elsewhere that is
off, or a second call would find every prompt read already.
"""

from __future__ import annotations

from concurrent import futures
import json
import os
import urllib.request

import xllamacpp

from tests.benchmarks.contenders import gguf_file, race

_CACHE_TYPES = {
  "float32": xllamacpp.ggml_type.GGML_TYPE_F32,
  "bfloat16": xllamacpp.ggml_type.GGML_TYPE_BF16,
}


def start(job: race.Job) -> xllamacpp.Server:
  """A server with as many sequences as the workload draws at once."""
  params = xllamacpp.CommonParams()
  params.model.path = str(gguf_file.convert(job["weights"], job["dtype"]))
  length = max(map(len, job["prompts"])) + job["max_new_tokens"]
  params.n_parallel = job["rows"]
  params.n_ctx = job["rows"] * (-(-length // 256) * 256)
  params.kv_unified = False  # or every token would look at every sequence
  params.cache_type_k = params.cache_type_v = _CACHE_TYPES[job["dtype"]]
  params.cpuparams.n_threads = job["threads"]
  params.cpuparams_batch.n_threads = job["threads"]
  params.cache_ram_mib = params.n_ctx_checkpoints = 0
  params.cache_idle_slots = False
  params.verbosity = 0
  return xllamacpp.Server(params)


def ask(
  server, eos: list[int], prompt: list[int], samples: int, **settings
) -> list[list[int]]:
  """New tokens of each sample, the end token too."""
  body = {"prompt": prompt, "n_cmpl": samples, "return_tokens": True}
  request = urllib.request.Request(
    f"{server.listening_address}/completion",
    json.dumps(body | settings).encode(),
    {"Content-Type": "application/json"},
  )
  with urllib.request.urlopen(request) as answer:
    replies = json.loads(answer.read())
  replies = replies if isinstance(replies, list) else [replies]
  # An end token is drawn, but not in the reply.
  return [
    race.until_end(reply["tokens"], eos)
    + eos[:1]
    * (reply["stop_type"] == "eos" and reply["tokens"][-1:] != eos[:1])
    for reply in replies
  ]


def ask_all(
  server, eos: list[int], prompts, samples: int, **settings
) -> list[list[list[int]]]:
  """All prompts at once: the server queues what it has no room for."""
  with futures.ThreadPoolExecutor(len(prompts)) as pool:
    one = lambda prompt: ask(server, eos, prompt, samples, **settings)
    return list(pool.map(one, prompts))


def main() -> None:
  job = race.read_job()
  server, eos = start(job), job["eos"]
  shares = len(os.path.commonprefix(job["prompts"])) >= 32
  plain = {
    "samplers": ["temperature"],
    "ignore_eos": not eos,
    "cache_prompt": shares,
  }
  hot = plain | {
    "temperature": job["temperature"],
    "n_predict": job["max_new_tokens"],
  }

  def once(repeat: int) -> dict:
    seed = 1000 * repeat + 1
    replies = ask_all(
      server, eos, job["prompts"], job["samples"], seed=seed, **hot
    )
    return race.count([row for rows in replies for row in rows], eos)

  result = race.run(job, once)
  cold = plain | {"temperature": 0.0, "n_predict": job["greedy_tokens"]}
  replies = ask_all(server, eos, job["greedy_prompts"], 1, **cold)
  result["greedy"] = [rows[0] for rows in replies]
  race.finish(job, result)


if __name__ == "__main__":
  main()
