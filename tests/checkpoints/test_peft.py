"""Adapters in PEFT's layout, against those that PEFT wrote itself."""

from __future__ import annotations

import json
import pathlib
import shutil

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from s2d_jax.checkpoints import hf, peft, pretrained, train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora
from s2d_jax.parallel.mesh import make_mesh
from tests.checkpoints.test_hf import tokenizer

_GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
BASE, _PEFT = _GOLDENS / "llama3_gqa", _GOLDENS / "peft"
# Of the base: PEFT's name of a projection → its path, axes in and axes out.
_PLACES = {
  "self_attn.q_proj": ("attention/q", (32,), (4, 8)),
  "self_attn.v_proj": ("attention/v", (32,), (2, 8)),
  "self_attn.o_proj": ("attention/o", (4, 8), (32,)),
  "mlp.down_proj": ("mlp/down", (64,), (32,)),
}


def write_run(run: pathlib.Path, base, targets=("q", "v", "o", "down")) -> None:
  """A run on `base` that has learnt the adapters of PEFT's golden."""
  run.mkdir(parents=True)
  lora = {"rank": 3, "alpha": 6.0, "targets": list(targets)}
  settings = {"model": {"name": str(base)}, "finetune": {"lora": lora}}
  (run / "config.json").write_text(json.dumps(settings))
  flat, theirs = {}, load_file(_PEFT / "adapter_model.safetensors")
  for name, (path, ins, outs) in _PLACES.items():
    layers = [f"base_model.model.model.layers.{i}.{name}" for i in range(2)]
    down = [theirs[f"{layer}.lora_A.weight"].T for layer in layers]
    up = [theirs[f"{layer}.lora_B.weight"].T for layer in layers]
    if path.rpartition("/")[2] in targets:
      flat[f"layers/{path}/lora_down"] = np.reshape(down, (2, *ins, 3))
      flat[f"layers/{path}/lora_up"] = np.reshape(up, (2, 3, *outs))
  tree = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
  with train_state.open_manager(run / "checkpoints") as manager:
    state = TrainState(jnp.int32(1), tree, {"moment": jnp.zeros(1)})
    train_state.save(manager, state, {}, 1.0)


def _with_tokenizer(base: str, folder: pathlib.Path) -> pathlib.Path:
  """A golden model that a run may name."""
  shutil.copytree(_GOLDENS / base, folder)
  tokenizer().save_pretrained(folder)
  return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("adapters")
  base = _with_tokenizer("llama3_gqa", folder / "model")
  write_run(folder / "run", base)
  return folder / "run"


def test_the_files_are_those_of_peft(run, tmp_path):
  """Names, shapes and values of the tensors; of the config what we give."""
  peft.write(tmp_path / "out", pretrained.load_adapters(run))
  files = sorted(path.name for path in (tmp_path / "out").iterdir())
  assert files == ["adapter_config.json", "adapter_model.safetensors"]
  ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
  theirs = load_file(_PEFT / "adapter_model.safetensors")
  assert ours.keys() == theirs.keys()
  for name in theirs:
    np.testing.assert_array_equal(ours[name], theirs[name])
  ours, theirs = (
    json.loads((folder / "adapter_config.json").read_text())
    for folder in (tmp_path / "out", _PEFT)
  )
  assert ours.pop("base_model_name_or_path") == str(run.parent / "model")
  assert {key: theirs.get(key, "none") for key in ours} == ours


def test_bfloat16_is_rounded_once(run, tmp_path):
  adapters = pretrained.load_adapters(run)
  peft.write(tmp_path / "out", adapters, "bfloat16")
  ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
  for name, theirs in load_file(_PEFT / "adapter_model.safetensors").items():
    np.testing.assert_array_equal(ours[name], theirs.astype(jnp.bfloat16))


def test_logits_of_the_merged_model_are_those_of_peft(run):
  model = pretrained.load(run, make_mesh())
  tokens = np.load(BASE / "logits.npz")["tokens"]
  logits = jax.jit(
    lambda params: Llama(model.config).apply(
      {"params": params}, tokens, method=Llama.init_all
    )
  )(model.params)
  golden = np.load(_PEFT / "adapted.npz")["logits"]
  unadapted = np.load(BASE / "logits.npz")["logits"]
  assert np.abs(golden - unadapted).max() > 1
  np.testing.assert_allclose(logits, golden, atol=1e-4, rtol=0)


def test_the_base_is_the_one_that_the_run_recorded(run, tmp_path):
  """Whatever its path is on this machine, and of a checkpoint too."""
  mine = shutil.copytree(run, tmp_path / "run")
  record = pretrained.identity(run.parent / "model") | {"path": "/pod/model"}
  (mine / "model.json").write_text(json.dumps(record))
  for name in (mine, mine / "checkpoints" / "1"):
    assert pretrained.load_adapters(name).base == "/pod/model"


def test_what_has_no_adapters_for_peft_is_refused(run, tmp_path):
  load = lambda name: pretrained.load_adapters(name)
  whole = tmp_path / "whole"
  shutil.copytree(run, whole)
  settings = json.loads((whole / "config.json").read_text())
  settings["finetune"]["lora"]["rank"] = 0
  (whole / "config.json").write_text(json.dumps(settings))
  for name in (run.parent / "model", whole):
    with pytest.raises(UserError, match=f"{name} has no adapters"):
      load(name)
  write_run(tmp_path / "second", run)
  with pytest.raises(UserError, match="beside what the run .* has learnt"):
    load(tmp_path / "second")


def test_kernels_that_the_base_holds_as_one_have_no_adapters(run, tmp_path):
  """Phi-3 has one matrix for q, k and v, but one for o alone."""
  base = _with_tokenizer("phi3", tmp_path / "phi3")
  config = hf.read_config(base)
  for target, shapes in {"o": ((4, 8), (32,)), "q": ((32,), (4, 8))}.items():
    lora = Lora(3, 6.0, (target,))
    pair = {
      "lora_down": jnp.ones((config.num_layers, *shapes[0], 3)),
      "lora_up": jnp.ones((config.num_layers, 3, *shapes[1])),
    }
    adapters = pretrained.Adapters(
      config,
      hf.read_stored(base),
      "phi3",
      lora,
      {"layers": {"attention": {target: pair}}},
    )
    if target == "o":
      peft.write(tmp_path / target, adapters)
    else:
      with pytest.raises(
        UserError, match=r"0\.self_attn\.qkv_proj for several"
      ):
        peft.write(tmp_path / target, adapters)
  assert not (tmp_path / "q").exists()
