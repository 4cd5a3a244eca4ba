"""Does llama.cpp load what `gguf_writer.write` writes, and say the same?

In an environment with JAX, export a model with our greedy replies beside it, or
the tiny models of all families; then, in one with xllamacpp, compare. It runs
llama.cpp in this process and asks it on this machine:

  PYTHONPATH=. python tests/goldens/check_gguf.py export NAME FOLDER [KIND]
  PYTHONPATH=. python tests/goldens/check_gguf.py export_families FOLDER
  python tests/goldens/check_gguf.py check FOLDER
"""

from __future__ import annotations

import json
import pathlib
import sys
import urllib.request

HERE = pathlib.Path(__file__).parent
QUESTIONS = (
  "What is the capital of Peru?",
  "Which continent is Peru in? I think the answer is Asia.",
  "Write one sentence about the sea, in French: naïve, œuvre – 12345!",
  "List three colours.",
)
TOKENS = 48
TINY_TOKENS, TINY_PROMPT = 24, [3, 1, 4, 1, 5, 92, 65, 35, 89, 79, 32, 38, 46]


def export(name: str, folder: str, kind: str = "f16") -> None:
  """What we say is of the file that was written."""
  from s2d_jax import LanguageModel
  from s2d_jax.checkpoints import gguf_writer, pretrained

  model = pretrained.load_lazily(name)
  path = pathlib.Path(folder) / "model.gguf"
  gguf_writer.write(
    path, model.config, model.params, model.tokenizer, kind, model.end_tokens
  )
  lm = LanguageModel.load(path, dtype="float32")
  asked = [[{"role": "user", "content": text}] for text in QUESTIONS]
  replies = lm.generate(
    QUESTIONS, temperature=0.0, max_new_tokens=TOKENS, chat=True
  )
  golden = {
    "model.gguf": [
      {
        "messages": messages,
        "prompt": list(
          lm.chat_template.encode(lm.chat_template.prompt(messages))
        ),
        "text": reply.text,
      }
      for messages, [reply] in zip(asked, replies, strict=True)
    ]
  }
  _save(folder, golden)


def export_families(folder: str) -> None:
  import jax
  import jax.numpy as jnp
  import numpy as np

  from s2d_jax.checkpoints import gguf, gguf_writer
  from s2d_jax.models.llama import Llama
  from s2d_jax.parallel.mesh import make_mesh
  from tests.checkpoints.test_gguf_writer import CONFIGS, tokenizer
  from tests.random_model import filled_params

  golden = {}
  for name, config in CONFIGS.items():
    params = jax.tree.map(lambda leaf: 0.3 * leaf, filled_params(config))
    path = pathlib.Path(folder) / f"{name}.gguf"
    gguf_writer.write(path, config, params, tokenizer(), "f16")
    params = gguf.read_params(path, config, make_mesh(), "float32")
    model, at = Llama(config), len(TINY_PROMPT)

    @jax.jit
    def likeliest(tokens, model=model, params=params):
      variables = {"params": params}
      logits = model.apply(variables, tokens[None], method=Llama.init_all)
      return logits[0].argmax(-1)

    # What stands behind a token does not matter to it.
    tokens = np.zeros(at + TINY_TOKENS, np.int32)
    tokens[:at] = TINY_PROMPT
    for place in range(at, len(tokens)):
      tokens[place] = likeliest(jnp.asarray(tokens))[place - 1]
    reply = tokens[at:].tolist()
    golden[path.name] = [{"prompt": list(TINY_PROMPT), "tokens": reply}]
  _save(folder, golden)


def _save(folder: str, golden: dict) -> None:
  path = pathlib.Path(folder) / "golden.json"
  path.write_text(json.dumps(golden, ensure_ascii=False, indent=1))


def check(folder: str) -> None:
  golden = json.loads((pathlib.Path(folder) / "golden.json").read_text())
  same = 0
  for name, cases in golden.items():
    server = _start(pathlib.Path(folder) / name)
    for case in cases:
      found = _ask(server, case)
      wanted = {key: case[key] for key in found}
      same += found == wanted
      if found != wanted:
        print(f"{name}: {found} is not {wanted}")
    del server
  total = sum(map(len, golden.values()))
  print(f"{same} of {total} replies of {len(golden)} files are the same")
  assert same == total


def _start(path: pathlib.Path):
  import xllamacpp

  params = xllamacpp.CommonParams()
  params.model.path = str(path)
  params.n_ctx, params.n_parallel, params.verbosity = 512, 1, 0
  params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
  params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
  return xllamacpp.Server(params)


def _ask(server, case: dict) -> dict:
  if "tokens" in case:
    body = {"prompt": case["prompt"], "n_predict": len(case["tokens"])}
    body |= {"return_tokens": True, "temperature": 0.0, "ignore_eos": True}
    return {"tokens": _post(server, "completion", body)["tokens"]}
  body = {
    "messages": case["messages"],
    "temperature": 0.0,
    "max_tokens": TOKENS,
  }
  chosen = _post(server, "v1/chat/completions", body)["choices"][0]
  asked = {"messages": case["messages"], "add_generation_prompt": True}
  prompt = _post(server, "apply-template", asked)["prompt"]
  split = {"content": prompt, "add_special": True, "parse_special": True}
  ids = _post(server, "tokenize", split)["tokens"]
  return {"prompt": ids, "text": chosen["message"]["content"]}


def _post(server, path: str, body: dict) -> dict:
  request = urllib.request.Request(
    f"{server.listening_address}/{path}",
    json.dumps(body).encode(),
    {"Content-Type": "application/json"},
  )
  with urllib.request.urlopen(request) as answer:
    return json.loads(answer.read())


if __name__ == "__main__":
  commands = (export, export_families, check)
  {command.__name__: command for command in commands}[sys.argv[1]](
    *sys.argv[2:]
  )
