"""GGUF files, written by the gguf library, against the equal HF folder."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import gguf as gguf_library
from gguf import GGMLQuantizationType as Type
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from s2d_jax.checkpoints import gguf, hf, stream
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.errors import UserError
from s2d_jax.models.config import LayerKind, LinearScaling, YarnScaling
from s2d_jax.models.llama import Llama
from tests.lazy import in_memory
from tests.one_device import read
from tests.random_model import as_loaded

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
MODELS = ["theta_untied", "qwen2"]
# model_type → general.architecture.
ARCHITECTURES = {"gemma3_text": "gemma3", "olmo3": "olmo2"}
REORDERED = ("llama", "smollm3", "granite")


def permute(rows, heads):
  """What llama.cpp's convert_hf_to_gguf.py does to q and k of llama."""
  shape = rows.shape
  rows = rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
  return rows.swapaxes(1, 2).reshape(shape)


def write_gguf(path, name, kind=Type.F32, extra=None, **fields):
  """The golden folder `name` as a GGUF file of quantisation `kind`.

  As llama.cpp's convert_hf_to_gguf.py writes it, under the names that the gguf
  library has for those of Hugging Face.
  """
  config = hf.read_config(GOLDENS / name)
  family = json.loads((GOLDENS / name / "config.json").read_text())
  family = ARCHITECTURES.get(family["model_type"], family["model_type"])
  names = gguf_library.get_tensor_name_map(
    gguf_library.MODEL_ARCH[family.upper()], config.num_layers
  )
  writer = gguf_library.GGUFWriter(path, fields.pop("architecture", family))
  writer.add_context_length(config.max_context)
  writer.add_embedding_length(config.embed_dim)
  writer.add_block_count(config.num_layers)
  writer.add_feed_forward_length(config.mlp_dim)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_key_length(config.head_dim)
  writer.add_layer_norm_rms_eps(config.rms_eps)
  _add_rope(writer, config)
  for key, value in fields.items():
    writer.add_key_value(key.replace("__", "."), *value)
  tensors = {}
  for file in sorted((GOLDENS / name).glob("*.safetensors")):
    tensors |= read_tensors(file)
  for long, tensor in tensors.items():
    short = names.get_name(long, try_suffixes=(".weight", ".bias"))
    if family in REORDERED and ".attn_q." in short:
      tensor = permute(tensor, config.num_heads)
    if family in REORDERED and ".attn_k." in short:
      tensor = permute(tensor, config.num_kv_heads)
    if family.startswith("gemma") and long.endswith("norm.weight"):
      tensor = tensor + 1
    if tensor.ndim == 1 or kind == Type.F32:
      writer.add_tensor(short, tensor)
    else:
      blocks = gguf_library.quants.quantize(tensor, kind)
      writer.add_tensor(short, blocks, raw_dtype=kind)
  for extra_name, tensor in (extra or {}).items():
    writer.add_tensor(extra_name, tensor)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def read_tensors(file) -> dict[str, np.ndarray]:
  """As float32; numpy alone knows no bfloat16."""
  tensors = load_file(file)
  return {name: np.asarray(t).astype(np.float32) for name, t in tensors.items()}


def _add_rope(writer, config) -> None:
  """Of layers that see everything, or of all that have positions."""
  told = [kind for kind in config.layer_kinds if kind.rope]
  told = [kind for kind in told if kind.window is None] or told
  rope = told[0].rope
  writer.add_rope_freq_base(rope.theta)
  if rope.channels is not None:
    writer.add_rope_dimension_count(rope.channels)
  match rope.scaling:
    case LinearScaling(factor):
      writer.add_rope_scaling_type(gguf_library.RopeScalingType.LINEAR)
      writer.add_rope_scaling_factor(factor)
    case YarnScaling(factor, original, magnitude, fast, slow):
      writer.add_rope_scaling_type(gguf_library.RopeScalingType.YARN)
      writer.add_rope_scaling_factor(factor)
      if magnitude != 0.1 * math.log(factor) + 1:
        writer.add_rope_scaling_attn_factors(magnitude)
      writer.add_rope_scaling_orig_ctx_len(original)
      writer.add_rope_scaling_yarn_beta_fast(fast)
      writer.add_rope_scaling_yarn_beta_slow(slow)


@pytest.mark.parametrize("name", MODELS)
def test_float32_is_the_same_model(name, tmp_path):
  config, params = read(gguf, write_gguf(tmp_path / "m.gguf", name))
  wanted_config, wanted = read(hf, GOLDENS / name)
  assert config == wanted_config
  jax.tree.map(np.testing.assert_array_equal, params, wanted)


KINDS = gguf_library.GGUFValueType
FLOAT, BOOL, U32 = KINDS.FLOAT32, KINDS.BOOL, KINDS.UINT32
ARRAY, STRING = KINDS.ARRAY, KINDS.STRING


def sliding(config) -> tuple:
  return [kind.window is not None for kind in config.layer_kinds], ARRAY, BOOL


def as_it_is(config) -> dict:
  return {}


def alike(config) -> dict:
  """All layers as the first one, without its window."""
  return {"pattern": (dataclasses.replace(config.pattern[0], window=None),)}


def every_fourth_unturned(config) -> dict:
  kind = config.pattern[0]
  return {"pattern": (kind, kind, kind, LayerKind(None))}


# By family: what its converter writes beside the sizes; and what llama.cpp has
# no key for, so that the file is of a model that differs in it.
FAMILIES = {
  "llama_biases": ({}, as_it_is),
  "qwen3": ({}, alike),
  "smollm3": ({}, every_fourth_unturned),
  "olmo2": ({}, as_it_is),
  "olmo3": (
    {
      "olmo2__attention__sliding_window": (16, U32),
      "olmo2__attention__sliding_window_pattern": sliding,
    },
    as_it_is,
  ),
  "gemma": ({}, as_it_is),
  "gemma2": (
    {
      "gemma2__attn_logit_softcapping": (3.0, FLOAT),
      "gemma2__final_logit_softcapping": (5.0, FLOAT),
      "gemma2__attention__sliding_window": (16, U32),
    },
    lambda config: {"query_scale": None},
  ),
  "gemma3_text": (
    {
      "gemma3__attention__sliding_window": (16, U32),
      "gemma3__attention__sliding_window_pattern": (3, U32),
      "gemma3__rope__freq_base_swa": (100.0, FLOAT),
    },
    lambda config: {"query_scale": None},
  ),
  "granite": (
    {
      "granite__attention__scale": (0.6, FLOAT),
      "granite__embedding_scale": (3.0, FLOAT),
      "granite__residual_scale": (0.4, FLOAT),
      "granite__logit_scale": (0.7, FLOAT),
    },
    as_it_is,
  ),
  "phi3": ({"phi3__attention__sliding_window": (16, U32)}, as_it_is),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_the_same_models(name, tmp_path):
  fields, differing = FAMILIES[name]
  wanted_config, wanted = read(hf, GOLDENS / name)
  fields = {
    key: value(wanted_config) if callable(value) else value
    for key, value in fields.items()
  }
  path = write_gguf(tmp_path / "m.gguf", name, **fields)
  config, params = read(gguf, path)
  differing = differing(wanted_config)
  assert config == dataclasses.replace(wanted_config, **differing)
  jax.tree.map(np.testing.assert_array_equal, params, wanted)


def test_end_tokens(tmp_path):
  """By their keys, and as in llama.cpp by name."""
  kinds = gguf_library.GGUFValueType
  number = kinds.UINT32
  path = write_gguf(tmp_path / "none.gguf", "theta_untied")
  assert gguf.read_generation_config(path) == {"eos_token_id": []}
  names = ["a", "b", "<|eot_id|>", "c", "d", "<|end_of_text|>", "</s>"]
  path = write_gguf(
    tmp_path / "m.gguf",
    "theta_untied",
    tokenizer__ggml__eos_token_id=(1, number),
    tokenizer__ggml__eot_token_id=(3, number),
    tokenizer__ggml__eom_token_id=(4, number),
    tokenizer__ggml__tokens=(names, kinds.ARRAY, kinds.STRING),
  )
  found = gguf.read_generation_config(path)
  assert found == {"eos_token_id": [1, 2, 3, 4, 5]}


def test_a_head_beside_the_embedding_is_the_head(tmp_path):
  """GGUF has no flag for tied ones: llama.cpp takes the head where one is."""
  head = np.random.default_rng(0).normal(size=(128, 32)).astype(np.float32)
  for name, extra in (("tied", {}), ("own", {"output.weight": head})):
    path = write_gguf(tmp_path / f"{name}.gguf", "llama3_gqa", extra=extra)
    config, params = read(gguf, path)
    assert config.tie_embeddings == (name == "tied") == ("head" not in params)
  np.testing.assert_array_equal(params["head"]["kernel"], head.T)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
  "kind, tolerance",
  [
    ("F16", 1e-3),
    ("BF16", 1e-2),
    ("Q8_0", 1e-2),
    ("Q4_1", 0.1),
    ("Q4_0", 0.13),
  ],
)
def test_quantised_is_nearly_the_same_model(name, kind, tolerance, tmp_path):
  """Relative error of each tensor; a wrong row order would be near 1.4."""
  path = write_gguf(tmp_path / "m.gguf", name, Type[kind])
  _, params = read(gguf, path)
  _, wanted = read(hf, GOLDENS / name)

  def check(ours, theirs):
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert error < tolerance

  jax.tree.map(check, params, wanted)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_rounded_once(name, tmp_path):
  path = write_gguf(tmp_path / "m.gguf", name)
  _, params = read(gguf, path, "bfloat16")
  _, wanted = read(hf, GOLDENS / name)
  wanted = as_loaded(wanted, "bfloat16")
  jax.tree.map(np.testing.assert_array_equal, params, wanted)


@pytest.mark.parametrize("name", ["theta_untied", "phi3"])
def test_layers_that_stay_in_the_file(name, tmp_path):
  """Of which no more is decoded than is asked for."""
  fields, _ = FAMILIES.get(name, ({}, None))
  path = write_gguf(tmp_path / "m.gguf", name, **fields)
  config, wanted = read(gguf, path)
  source = gguf.open_params(path, config)
  lazy = in_memory(config, stream.lazy(config, "float32", source))
  jax.tree.map(np.testing.assert_array_equal, lazy, wanted)
  largest = []

  def fill(leaf, index, shard):
    largest.append(shard.size)
    source.fill(leaf, index, shard)

  counted = stream.Source(fill, source.stored)
  in_memory(config, stream.lazy(config, "float32", counted))
  assert max(largest) == config.vocab_size * config.embed_dim


@pytest.mark.parametrize("name", MODELS)
def test_logits_through_gguf(name, tmp_path):
  config, params = read(gguf, write_gguf(tmp_path / "m.gguf", name))
  golden = np.load(GOLDENS / name / "logits.npz")
  model = Llama(config)
  logits = jax.jit(
    lambda params: model.apply(
      {"params": params}, golden["tokens"], method=Llama.init_all
    )
  )(params)
  np.testing.assert_allclose(logits, golden["logits"], atol=1e-4, rtol=0)


def test_blocks_that_only_llama_cpp_writes(tmp_path):
  """Q4_K and Q6_K as transformers decodes them in PyTorch."""
  golden = np.load(GOLDENS / "blocks.npz")
  writer = gguf_library.GGUFWriter(tmp_path / "m.gguf", "llama")
  for name in ("Q4_K", "Q6_K"):
    writer.add_tensor(name, golden[name], raw_dtype=Type[name])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  file = GGUFFile(tmp_path / "m.gguf")
  for name in ("Q4_K", "Q6_K"):
    np.testing.assert_allclose(
      file.tensor(name), golden[name + "_values"], rtol=1e-6
    )


def test_header_is_that_of_the_gguf_library(tmp_path):
  path = write_gguf(
    tmp_path / "m.gguf",
    "qwen2",
    Type.Q8_0,
    test__strings=(["a", "", "é"], gguf_library.GGUFValueType.ARRAY),
    test__numbers=([1, -2, 3], gguf_library.GGUFValueType.ARRAY),
    test__yes=(True, gguf_library.GGUFValueType.BOOL),
  )
  ours, theirs = GGUFFile(path), gguf_library.GGUFReader(path)
  for key, field in theirs.fields.items():
    if not key.startswith("GGUF."):
      assert ours.fields[key] == field.contents(), key
  assert list(ours.tensors) == [t.name for t in theirs.tensors]
  for tensor in theirs.tensors:
    info = ours.tensors[tensor.name]
    assert (info.start, info.type) == (tensor.data_offset, tensor.tensor_type)
    assert info.shape == tuple(int(n) for n in reversed(tensor.shape))


def factors(factor):
  """`rope_freqs.weight` after llama.cpp's convert_hf_to_gguf.py."""
  out = []
  for frequency in 1 / 50000.0 ** (np.arange(0, 8, 2) / 8):
    wavelength = 2 * np.pi / frequency
    if wavelength < 8192 / 4:
      out.append(1)
    elif wavelength > 8192 / 1:
      out.append(factor)
    else:
      smooth = (8192 / wavelength - 1) / (4 - 1)
      out.append(1 / ((1 - smooth) / factor + smooth))
  return np.array(out, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_rope_factors_become_llama3_scaling(factor, tmp_path):
  extra = {"rope_freqs.weight": factors(factor)}
  path = write_gguf(tmp_path / "m.gguf", "theta_untied", extra=extra)
  (kind,) = read(gguf, path)[0].pattern
  scaling = kind.rope.scaling
  assert scaling.factor == factor
  assert scaling.original_context == 8192


def test_other_rope_factors_are_refused(tmp_path):
  extra = {"rope_freqs.weight": np.array([1, 1, 2, 9], np.float32)}
  path = write_gguf(tmp_path / "m.gguf", "theta_untied", extra=extra)
  with pytest.raises(UserError, match=r"rope_freqs\.weight is not"):
    read(gguf, path)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"architecture": "gemma3n"}, "architecture 'gemma3n'"),
    ({"llama__expert_count": (8, U32)}, "expert_count = 8"),
    ({"llama__rope__scaling__type": ("longrope", STRING)}, '"longrope" is not'),
    ({"llama__rope__scaling__type": ("yarn", STRING)}, "needs 'factor' too"),
    ({"llama__rope__scaling__alpha": (2.0, FLOAT)}, "scaling.alpha = 2.0"),
    ({"llama__attention__sliding_window": (64, U32)}, "sliding_window = 64"),
    ({"llama__rope__dimension_count": (4, U32)}, "dimension_count = 4"),
  ],
)
def test_unsupported_values_are_named(fields, message, tmp_path):
  path = write_gguf(tmp_path / "m.gguf", "theta_untied", **fields)
  with pytest.raises(UserError, match=message):
    read(gguf, path)


def test_surplus_and_missing_tensors_are_named(tmp_path):
  norm = {"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}
  path = write_gguf(tmp_path / "a.gguf", "theta_untied", extra=norm)
  with pytest.raises(UserError, match=r"blk\.0\.attn_q_norm\.weight belongs"):
    read(gguf, path)
  path = write_gguf(tmp_path / "b.gguf", "theta_untied")
  data = path.read_bytes()
  # One layer more than there is: the value follows its key and type.
  key = b"llama.block_count" + U32.to_bytes(4, "little")
  at = data.index(key) + len(key)
  path.write_bytes(data[:at] + b"\3" + data[at + 1 :])
  with pytest.raises(UserError, match=r"tensor blk\.2\..* is missing"):
    read(gguf, path)


@pytest.mark.parametrize("kept", [4, 30, 200, 1000])
def test_truncated_header(kept, tmp_path):
  path = write_gguf(tmp_path / "m.gguf", "theta_untied")
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(UserError, match=r"m\.gguf is truncated or damaged"):
    read(gguf, path)


def test_truncated_data_names_the_tensor(tmp_path):
  path = write_gguf(tmp_path / "m.gguf", "theta_untied")
  last = list(GGUFFile(path).tensors)[-1]
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(UserError, match=f"truncated: tensor {last} ends"):
    read(gguf, path)


def test_not_gguf(tmp_path):
  for content in (b"", b"PK\3\4 something else"):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(UserError, match="is not a GGUF file"):
      read(gguf, tmp_path / "m.gguf")
  (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\1\0\0\0" + bytes(40))
  with pytest.raises(UserError, match="GGUF version 1"):
    read(gguf, tmp_path / "m.gguf")


def test_real_model_is_that_of_transformers(smollm2):
  """Every position of 12 chats, 256 of the logits and the sum over all."""
  golden = np.load(GOLDENS / "smollm2.npz")
  chats = json.loads((GOLDENS / "smollm2_chats.json").read_text())
  lengths = golden["prompt_lengths"]
  prompts = np.split(golden["prompt_tokens"], np.cumsum(lengths)[:-1])
  for chat, prompt in zip(chats, prompts, strict=True):
    ids = smollm2.tokenizer.apply_chat_template(
      chat, add_generation_prompt=True, return_dict=False
    )
    assert ids == list(prompt)

  config, params = smollm2.config, smollm2.params
  chosen = [prompts[i] for i in golden["with_logits"]]
  tokens = np.zeros((len(chosen), max(map(len, chosen))), np.int32)
  until = np.zeros_like(tokens)
  for row, prompt in enumerate(chosen):
    tokens[row, : len(prompt)] = prompt
    until[row, : len(prompt)] = len(prompt)
  positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
  model = Llama(config)

  @jax.jit
  def real_logits(params):
    variables = {"params": params}
    hidden, _ = model.apply(variables, tokens, positions, until)
    return model.apply(variables, hidden[until > 0], method=Llama.logits)

  logits = np.asarray(real_logits(params))
  assert len(logits) >= 400
  close = dict(atol=1e-3, rtol=0)
  some = logits[:, golden["vocab_ids"]]
  np.testing.assert_allclose(some, golden["logits"], **close)
  np.testing.assert_allclose(logits.max(-1), golden["max"], **close)
  total = jax.nn.logsumexp(logits, axis=-1)
  np.testing.assert_allclose(total, golden["logsumexp"], **close)
  best = logits[np.arange(len(logits)), golden["argmax"]]
  np.testing.assert_allclose(best, golden["max"], **close)
