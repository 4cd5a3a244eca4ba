"""GGUF files, written by the gguf library, against the equal HF folder."""

from __future__ import annotations

import json
import pathlib

import gguf as gguf_library
from gguf import GGMLQuantizationType as Type
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from s2d_jax.checkpoints import gguf, hf
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.errors import UserError
from s2d_jax.models.llama import Llama
from tests.one_device import read

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
SHORT = {
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "input_layernorm": "attn_norm",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
  "model.layers": "blk",
}


def permute(rows, heads):
  """What llama.cpp's convert_hf_to_gguf.py does to q and k of llama."""
  shape = rows.shape
  rows = rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
  return rows.swapaxes(1, 2).reshape(shape)


def write_gguf(path, name, kind=Type.F32, extra=None, **fields):
  """The golden folder `name` as a GGUF file of quantisation `kind`."""
  config = hf.read_config(GOLDENS / name)
  family = "qwen2" if config.attention_bias else "llama"
  writer = gguf_library.GGUFWriter(path, fields.pop("architecture", family))
  writer.add_context_length(config.max_context)
  writer.add_embedding_length(config.embed_dim)
  writer.add_block_count(config.num_layers)
  writer.add_feed_forward_length(config.mlp_dim)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_key_length(config.head_dim)
  writer.add_layer_norm_rms_eps(config.rms_eps)
  writer.add_rope_freq_base(config.rope_theta)
  for key, value in fields.items():
    writer.add_key_value(key.replace("__", "."), *value)
  tensors = {}
  for file in sorted((GOLDENS / name).glob("*.safetensors")):
    tensors |= load_file(file)
  for long, tensor in tensors.items():
    tensor = tensor.astype(np.float32)
    for old, new in SHORT.items():
      long = long.replace(old, new)
    if family == "llama" and ".attn_q." in long:
      tensor = permute(tensor, config.num_heads)
    if family == "llama" and ".attn_k." in long:
      tensor = permute(tensor, config.num_kv_heads)
    if tensor.ndim == 1 or kind == Type.F32:
      writer.add_tensor(long, tensor)
    else:
      blocks = gguf_library.quants.quantize(tensor, kind)
      writer.add_tensor(long, blocks, raw_dtype=kind)
  for extra_name, tensor in (extra or {}).items():
    writer.add_tensor(extra_name, tensor)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


@pytest.mark.parametrize("name", ["theta_untied", "qwen2"])
def test_float32_is_the_same_model(name, tmp_path):
  config, params = read(gguf, write_gguf(tmp_path / "m.gguf", name))
  wanted_config, wanted = read(hf, GOLDENS / name)
  assert config == wanted_config
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


@pytest.mark.parametrize("name", ["theta_untied", "qwen2"])
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


@pytest.mark.parametrize("name", ["theta_untied", "qwen2"])
def test_bfloat16_is_rounded_once(name, tmp_path):
  path = write_gguf(tmp_path / "m.gguf", name)
  _, params = read(gguf, path, "bfloat16")
  _, wanted = read(hf, GOLDENS / name)
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wanted)
  jax.tree.map(np.testing.assert_array_equal, params, rounded)


@pytest.mark.parametrize("name", ["theta_untied", "qwen2"])
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
  scaling = read(gguf, path)[0].rope_scaling
  assert scaling.factor == factor
  assert scaling.original_context == 8192


def test_other_rope_factors_are_refused(tmp_path):
  extra = {"rope_freqs.weight": np.array([1, 1, 2, 9], np.float32)}
  path = write_gguf(tmp_path / "m.gguf", "theta_untied", extra=extra)
  with pytest.raises(UserError, match=r"rope_freqs\.weight is not"):
    read(gguf, path)


U32 = gguf_library.GGUFValueType.UINT32
STRING = gguf_library.GGUFValueType.STRING


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"architecture": "gemma3"}, "architecture 'gemma3'"),
    ({"llama__expert_count": (8, U32)}, "expert_count = 8"),
    ({"llama__rope__scaling__type": ("yarn", STRING)}, "type = 'yarn'"),
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
