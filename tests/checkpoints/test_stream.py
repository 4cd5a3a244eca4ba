"""Weights streamed into their shards: their values, what is read, memory.

The number of devices is fixed when JAX starts, so what needs several runs in a
process of its own: one of the functions below.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

from s2d_jax.checkpoints import hf, hf_config, layout, stream, train_state
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.params import abstract_params
from s2d_jax.models.quantize import quantize_params
from s2d_jax.parallel.mesh import make_mesh, param_shardings
from tests import tiny_chat
from tests.lazy import in_memory
from tests.one_device import read
from tests.processes import Process

_ROOT = pathlib.Path(__file__).parents[2]
_GOLDENS = _ROOT / "tests" / "goldens"
# Sizes of data, fsdp and tensor. Of the models, the second has grouped heads
# and a tied embedding, the third one head of keys, the fourth biases; others
# norms of all heads together, tensors of several leaves, norms less one.
_CASES = [
  ("theta_untied", (8, 1, 1)),
  ("theta_untied", (1, 2, 4)),
  ("llama3_gqa", (1, 8, 1)),
  ("llama3_gqa", (2, 2, 2)),
  ("head_dim_sharded", (2, 4, 1)),
  ("qwen2", (1, 4, 2)),
  ("qwen2", (2, 2, 2)),
  ("olmo3", (1, 4, 2)),
  ("phi3", (2, 2, 2)),
  ("gemma3_text", (2, 4, 1)),
]


_PROGRAM = """
import json, sys
from tests.checkpoints import test_stream
print(json.dumps(getattr(test_stream, sys.argv[1])(*sys.argv[2:])))
"""


def _environ(devices: int = 8) -> dict[str, str]:
  return {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}


def _start(function: str, *args, devices: int = 8) -> Process:
  return Process(_PROGRAM, [function, *map(str, args)], **_environ(devices))


def _result(process: Process) -> dict:
  ended = process.wait()
  assert ended.status == 0, ended.err
  return json.loads(ended.out.splitlines()[-1])


def _tensors(name: str) -> dict[str, np.ndarray]:
  found = {}
  for file in (_GOLDENS / name).glob("*.safetensors"):
    found |= load_file(file)
  return {
    key: np.asarray(tensor).astype(np.float32) for key, tensor in found.items()
  }


def _reference(name: str) -> dict[str, np.ndarray]:
  """The leaves by their paths, from whole tensors and without the table."""
  tensors, config = _tensors(name), hf.read_config(_GOLDENS / name)
  heads = {
    "q": (config.num_heads, config.head_dim),
    "k": (config.num_kv_heads, config.head_dim),
    "v": (config.num_kv_heads, config.head_dim),
  }
  for key in [key for key in tensors if "qkv_proj" in key]:
    ends = np.cumsum([np.prod(shape) for shape in heads.values()])[:-1]
    for short, rows in zip("qkv", np.split(tensors[key], ends), strict=True):
      tensors[key.replace("qkv", short)] = rows
  for key in [key for key in tensors if "gate_up_proj" in key]:
    gate, up = np.split(tensors[key], 2)
    tensors[key.replace("gate_up", "gate")] = gate
    tensors[key.replace("gate_up", "up")] = up
  if name.startswith("gemma"):
    for key in [key for key in tensors if "norm" in key]:
      tensors[key] = tensors[key] + 1

  def stacked(name: str) -> np.ndarray:
    layers = range(config.num_layers)
    return np.stack([tensors[f"model.layers.{i}.{name}"] for i in layers])

  def matrix(name: str) -> np.ndarray:
    return stacked(name + ".weight").swapaxes(1, 2)

  leaves = {
    "embed/embedding": tensors["model.embed_tokens.weight"],
    "final_norm/scale": tensors["model.norm.weight"],
  }
  norms = {
    "before": ("attention_norm", "mlp_norm"),
    "after": ("attention_norm_after", "mlp_norm_after"),
    "both": (
      *("attention_norm", "attention_norm_after"),
      *("mlp_norm", "mlp_norm_after"),
    ),
  }[config.norms]
  names = {
    "before": ("input", "post_attention"),
    "after": ("post_attention", "post_feedforward"),
    "both": (
      *("input", "post_attention"),
      *("pre_feedforward", "post_feedforward"),
    ),
  }[config.norms]
  for norm, long in zip(norms, names, strict=True):
    leaves[f"layers/{norm}/scale"] = stacked(f"{long}_layernorm.weight")
  if not config.tie_embeddings:
    leaves["head/kernel"] = tensors["lm_head.weight"].T
  for short, shape in heads.items():
    long = f"self_attn.{short}_proj"
    kernel = matrix(long)
    leaves[f"layers/attention/{short}/kernel"] = kernel.reshape(
      *kernel.shape[:2], *shape
    )
    if config.qkv_bias:
      bias = stacked(long + ".bias")
      leaves[f"layers/attention/{short}/bias"] = bias.reshape(-1, *shape)
  for short in () if config.qk_norm == "none" else ("q", "k"):
    scale = stacked(f"self_attn.{short}_norm.weight")
    if config.qk_norm == "all":
      scale = scale.reshape(-1, *heads[short])
    leaves[f"layers/attention/{short}_norm/scale"] = scale
  kernel = matrix("self_attn.o_proj")
  leaves["layers/attention/o/kernel"] = kernel.reshape(
    len(kernel), *heads["q"], -1
  )
  for short in ("gate", "up", "down"):
    leaves[f"layers/mlp/{short}/kernel"] = matrix(f"mlp.{short}_proj")
  return leaves


class _Counting:
  """`safetensors.safe_open` that counts how often each element is read."""

  counts: dict[str, np.ndarray] = {}
  real_open = safetensors.safe_open

  def __init__(self, *args, **options):
    self.file = self.real_open(*args, **options)

  def __enter__(self):
    self.file.__enter__()
    return self

  def __exit__(self, *error):
    return self.file.__exit__(*error)

  def keys(self):
    return self.file.keys()

  def get_slice(self, name):
    return _CountingSlice(name, self.file.get_slice(name))


class _CountingSlice:
  def __init__(self, name, part):
    self.name, self.part = name, part
    self.get_shape, self.get_dtype = part.get_shape, part.get_dtype

  def __getitem__(self, window):
    zeros = np.zeros(self.part.get_shape(), int)
    _Counting.counts.setdefault(self.name, zeros)[window] += 1
    return self.part[window]


def _assert_shards(params, leaves: dict[str, np.ndarray]) -> None:
  """Every shard of this process is its part of the whole leaf."""
  flat = traverse_util.flatten_dict(params, sep="/")
  assert flat.keys() == leaves.keys()
  for path, leaf in leaves.items():
    assert flat[path].shape == leaf.shape, path
    for shard in flat[path].addressable_shards:
      expected = leaf[shard.index].astype(flat[path].dtype)
      np.testing.assert_array_equal(shard.data, expected, err_msg=path)


def _check_export(name: str, config: ModelConfig, mesh: Mesh) -> None:
  """Written from where it lies, a model gives the file it was read from."""
  with tempfile.TemporaryDirectory() as out:
    out = pathlib.Path(out) / "model"
    whole = hf.read_params(_GOLDENS / name, config, mesh, "float32")
    hf.write(out, config, whole, tiny_chat.tokenizer(), "float32")
    written, tensors = load_file(out / "model.safetensors"), _tensors(name)
    assert written.keys() == tensors.keys()
    for key, tensor in tensors.items():
      np.testing.assert_array_equal(written[key], tensor)


def _check_int8(name: str, config: ModelConfig, mesh: Mesh, bfloat16) -> None:
  int8 = hf.read_params(_GOLDENS / name, config, mesh, "int8")
  abstract = abstract_params(config, jnp.bfloat16, "int8")
  assert jax.tree.map(lambda x: x.sharding, int8) == param_shardings(
    abstract, mesh
  )
  # Quantised as one array on the host: half a step may fall either way, and
  # the leaves that stay may be rounded to bfloat16 or not.
  expected = quantize_params(jax.device_get(bfloat16))
  for ours, wanted, form in zip(
    *map(jax.tree.leaves, (int8, expected, nn.unbox(abstract))), strict=True
  ):
    assert (ours.shape, ours.dtype) == (form.shape, form.dtype)
    ours, wanted = np.float32(ours), np.float32(wanted)
    if form.dtype == jnp.int8:
      assert np.abs(ours - wanted).max() <= 1
      assert (ours != wanted).mean() < 1e-3
    else:
      np.testing.assert_allclose(ours, wanted, rtol=2**-8)


def cases() -> dict:
  """Each model on its meshes: values, places, what is read, and the export."""
  safetensors.safe_open = _Counting
  for name, shape in _CASES:
    folder, mesh = _GOLDENS / name, make_mesh(*shape)
    config, leaves = hf.read_config(folder), _reference(name)
    for dtype in ("float32", "bfloat16"):
      _Counting.counts = {}
      params = hf.read_params(folder, config, mesh, dtype)
      _assert_shards(params, leaves)
      shardings = param_shardings(abstract_params(config), mesh)
      assert jax.tree.map(lambda x: x.sharding, params) == shardings
      for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        kept = "float32" if path.endswith("/scale") else dtype
        assert leaf.dtype.name == kept, path
      stored = hf_config.read_stored(folder)
      for key, parts in layout.tensors(config, stored).items():
        once = np.ones(parts[0].shape, int)
        np.testing.assert_array_equal(_Counting.counts[key], once)
    if shape == (2, 2, 2):
      _check_export(name, config, mesh)
      _check_int8(name, config, mesh, params)
  return {"cases": len(_CASES)}


def test_shards_are_those_of_the_whole_tensors_and_are_read_once():
  assert _result(_start("cases")) == {"cases": len(_CASES)}


def pod(process: str, port: str, directory: str) -> dict:
  """One of two processes with two devices each, weights parted between them."""
  me, name = int(process), "qwen2"
  jax.distributed.initialize(f"localhost:{port}", 2, me)
  safetensors.safe_open = _Counting
  config, leaves = hf.read_config(_GOLDENS / name), _reference(name)
  everywhere = make_mesh(fsdp=2, tensor=2)
  params = hf.read_params(_GOLDENS / name, config, everywhere, "float32")
  _assert_shards(params, leaves)
  counts = _Counting.counts
  assert max(count.max() for count in counts.values()) == 1
  layer = "model.layers.0."
  share = {
    "gate": counts[layer + "mlp.gate_proj.weight"].mean(),
    "norm": counts[layer + "input_layernorm.weight"].mean(),
  }
  with train_state.open_manager(directory) as manager:
    state = train_state.TrainState(np.int32(1), params, {"moment": params})
    train_state.save(manager, state, {}, 1.0)
  if me == 1:  # alone: the other process is at its end
    source = train_state.open_params(directory, config)
    lazy = in_memory(config, stream.lazy(config, "float32", source))
    found = traverse_util.flatten_dict(lazy, sep="/")
    for path, leaf in leaves.items():
      np.testing.assert_array_equal(found[path], leaf, err_msg=path)
    here = make_mesh(tensor=2, devices=jax.local_devices())
    for mesh in (here, everywhere):
      restored = train_state.restore_params(directory, config, mesh)
      _assert_shards(restored, leaves)
  return share


def test_processes_read_their_own_parts_and_restore_alone(tmp_path):
  with socket.socket() as found:
    found.bind(("localhost", 0))
    port = found.getsockname()[1]
  programs = [_start("pod", i, port, tmp_path, devices=2) for i in (0, 1)]
  for program in programs:
    assert _result(program) == {"gate": 0.5, "norm": 1.0}


def memory(folder: str, layers: str, dtype: str) -> dict:
  """Llama-2-7B's layers out of a file of zeros, and what the process held."""
  config = ModelConfig(
    vocab_size=32000,
    embed_dim=4096,
    num_layers=int(layers),
    num_heads=32,
    num_kv_heads=32,
    head_dim=128,
    mlp_dim=11008,
    max_context=4096,
    pattern=alike(10000.0),
    rms_eps=1e-5,
    tie_embeddings=False,
  )
  header, end = {}, 0
  for name, (tensor,) in layout.tensors(config).items():
    start, end = end, end + 2 * int(np.prod(tensor.shape))
    header[name] = {
      "dtype": "BF16",
      "shape": tensor.shape,
      "data_offsets": [start, end],
    }
  values = json.dumps(hf_config.config_values(config))
  (pathlib.Path(folder) / "config.json").write_text(values)
  text = json.dumps(header).encode()
  with open(pathlib.Path(folder) / "model.safetensors", "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.truncate(8 + len(text) + end)  # a hole: takes no space on the disk

  mesh = make_mesh(fsdp=2, tensor=4)
  before = _status("VmRSS")
  params = hf.read_params(folder, config, mesh, dtype)
  shards = [
    shard.data.nbytes
    for leaf in jax.tree.leaves(params)
    for shard in leaf.addressable_shards
  ]
  # Pages of the file count as well, though the system could take them back.
  peak = _status("VmHWM") - before
  largest = max(int(np.prod(leaf.shape)) for leaf in layout.leaves(config))
  return {
    "arrays": sum(shards),
    "largest_shard": max(shards),
    "largest_leaf_in_bfloat16": 2 * largest,
    "beside_the_arrays": peak - sum(shards),
  }


def _status(key: str) -> int:
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(key + ":"):
      return int(line.split()[1]) * 1024
  raise KeyError(key)


_linux = pytest.mark.skipif(
  not pathlib.Path("/proc/self/status").exists(), reason="Linux counts memory"
)


@_linux
@pytest.mark.parametrize(
  "layers", [2, pytest.param(32, marks=pytest.mark.slow)]
)
def test_memory_is_the_arrays_and_one_shard(layers, tmp_path):
  # No fork: what that one has freed could be taken again.
  ended = subprocess.run(
    [sys.executable, "-c", _PROGRAM]
    + ["memory", str(tmp_path), str(layers), "bfloat16"],
    env=os.environ | _environ() | {"PYTHONPATH": str(_ROOT)},
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert ended.returncode == 0, ended.stderr
  held = json.loads(ended.stdout.splitlines()[-1])
  print(held)
  assert held["beside_the_arrays"] <= 1.5 * held["largest_shard"]


def test_an_unknown_dtype(tmp_path):
  with pytest.raises(UserError, match="'float16' is none of float32, bfloat16"):
    read(hf, _GOLDENS / "qwen2", "float16")
