"""Does transformers load what `hf.write` writes, and compute the same?

In an environment with JAX, export a model with our logits beside it; then, in
one with PyTorch (transformers 4 or 5), load the folder and compare:

  PYTHONPATH=. python tests/goldens/check_export.py export NAME FOLDER [DTYPE]
  python tests/goldens/check_export.py check FOLDER

The same of the families (export_families, check_families) and, where PEFT is
there too, of adapters (export_adapters, check_adapters).
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
CHAT = [
  {"role": "user", "content": "What is the capital of Peru?"},
  {"role": "assistant", "content": "Lima, since 1535."},
  {"role": "user", "content": "And of Canada? I think it is Toronto."},
]


def export(name: str, folder: str, dtype: str = "float32") -> None:
  import jax.numpy as jnp

  from s2d_jax.checkpoints import hf, pretrained
  from s2d_jax.models.llama import Llama
  from s2d_jax.parallel.mesh import make_mesh

  config, params, tokenizer, _ = pretrained.load(name, make_mesh())
  hf.write(folder, config, params, tokenizer, dtype, max_shard_bytes=2e8)
  params = pretrained.load(folder, make_mesh()).params
  tokens = jnp.array([_prompt(tokenizer)])
  positions = jnp.arange(tokens.shape[1])[None]
  model, variables = Llama(config), {"params": params}
  hidden, _ = model.apply(variables, tokens, positions)
  logits = model.apply(variables, hidden, method=Llama.logits)
  np.savez(pathlib.Path(folder) / "logits.npz", tokens=tokens, logits=logits)


def check(folder: str) -> None:
  import torch
  from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

  ours = np.load(pathlib.Path(folder) / "logits.npz")
  tokenizer = AutoTokenizer.from_pretrained(folder)
  assert _prompt(tokenizer) == ours["tokens"][0].tolist(), "other token ids"
  model, info = AutoModelForCausalLM.from_pretrained(
    folder, torch_dtype=torch.float32, output_loading_info=True
  )
  print({key: value for key, value in info.items() if value})
  print("eos", model.generation_config.eos_token_id)
  with torch.no_grad():
    theirs = model(torch.from_numpy(ours["tokens"]).long()).logits.numpy()
  worst = np.abs(theirs - ours["logits"]).max()
  print(f"transformers {__version__}: max |difference of logits| {worst:.2e}")
  assert worst <= 1e-3


def export_families(folder: str) -> None:
  from s2d_jax.checkpoints import hf
  from s2d_jax.parallel.mesh import make_mesh
  from tests.checkpoints.test_hf import tokenizer

  for golden in sorted(HERE.glob("*/logits.npz")):
    config = hf.read_config(golden.parent)
    params = hf.read_params(golden.parent, config, make_mesh(), "float32")
    out = pathlib.Path(folder) / golden.parent.name
    hf.write(out, config, params, tokenizer())


def check_families(folder: str) -> None:
  import torch
  from transformers import AutoModelForCausalLM, __version__

  print(f"transformers {__version__}: max |difference of logits|")
  for golden in sorted(HERE.glob("*/logits.npz")):
    known = np.load(golden)
    model, info = AutoModelForCausalLM.from_pretrained(
      pathlib.Path(folder) / golden.parent.name,
      torch_dtype=torch.float32,
      attn_implementation="eager",
      output_loading_info=True,
    )
    assert not any(info.values()), info
    with torch.no_grad():
      logits = model(torch.from_numpy(known["tokens"]).long()).logits.numpy()
    worst = np.abs(logits - known["logits"]).max()
    print(f"{golden.parent.name:16} {type(model).__name__:20} {worst:.1e}")
    assert worst <= 1e-5


def export_adapters(folder: str) -> None:
  from s2d_jax.checkpoints import peft, pretrained
  from tests.checkpoints.test_peft import write_run

  run = pathlib.Path(folder) / "run"
  write_run(run, HERE / "llama3_gqa")
  adapters = pretrained.load_adapters(run)
  peft.write(pathlib.Path(folder) / "adapters", adapters)


def check_adapters(folder: str) -> None:
  from make_peft_golden import logits

  tokens = np.load(HERE / "llama3_gqa" / "logits.npz")["tokens"]
  found = logits(pathlib.Path(folder) / "adapters", tokens)
  worst = np.abs(found - np.load(HERE / "peft" / "adapted.npz")["logits"]).max()
  print(f"PEFT: max |difference of logits| {worst:.1e}")
  assert worst <= 1e-5


def _prompt(tokenizer) -> list[int]:
  text = tokenizer.apply_chat_template(
    CHAT, add_generation_prompt=True, tokenize=False
  )
  return tokenizer(text, add_special_tokens=False)["input_ids"]


if __name__ == "__main__":
  commands = (export, check, export_families, check_families)
  commands += (export_adapters, check_adapters)
  {command.__name__: command for command in commands}[sys.argv[1]](
    *sys.argv[2:]
  )
