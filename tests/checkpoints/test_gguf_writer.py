"""GGUF files that we write, against our reader and another writer's files."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import gguf as gguf_library
from gguf import GGMLQuantizationType as Type
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from s2d_jax.checkpoints import gguf, gguf_tokenizer, gguf_writer, hf, names
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, YarnScaling
from tests import tiny_chat
from tests.checkpoints import test_gguf, test_tokenizer
from tests.one_device import read
from tests.random_model import filled_params

_GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"


def _config(name: str) -> ModelConfig:
  return hf.read_config(_GOLDENS / name)


def _with(name: str, **values) -> ModelConfig:
  return dataclasses.replace(_config(name), **values)


def _scaled(kind, **values):
  """A kind of layers whose frequencies are stretched in another way."""
  scaling = dataclasses.replace(kind.rope.scaling, **values)
  rope = dataclasses.replace(kind.rope, scaling=scaling)
  return dataclasses.replace(kind, rope=rope)


def _turning(kind, channels: int) -> dict:
  """Without a window, and of heads of which some channels turn."""
  rope = dataclasses.replace(kind.rope, channels=channels)
  return {"pattern": (dataclasses.replace(kind, rope=rope, window=None),)}


def _configs() -> dict[str, ModelConfig]:
  """Of each family what GGUF has keys for, as published models have it."""
  (llama3,) = _config("head_dim_sharded").pattern
  first, *_, last = _config("gemma3_text").pattern
  *windowed, whole = _config("olmo3").pattern
  usual = YarnScaling(4.0, 32, 0.1 * math.log(4.0) + 1, 16.0)
  (phi3,) = _config("phi3").pattern
  qwen3, smollm3 = _config("qwen3"), _config("smollm3")
  return {
    **{
      name: _config(name)
      for name in (
        *("theta_untied", "llama_biases", "qwen2"),
        *("olmo2", "gemma", "granite"),
      )
    },
    "head_dim_sharded": _with(
      "head_dim_sharded", pattern=(_scaled(llama3, original_context=8192),)
    ),
    "qwen3": _with(
      "qwen3", qkv_bias=False, o_bias=False, **test_gguf.alike(qwen3)
    ),
    "smollm3": _with("smollm3", **test_gguf.every_fourth_unturned(smollm3)),
    "olmo3": _with(
      "olmo3",
      pattern=(
        *windowed,
        _scaled(whole, **dataclasses.asdict(usual)),
      ),
    ),
    "gemma2": _with("gemma2", query_scale=None),
    "gemma3_text": _with(
      "gemma3_text",
      query_scale=None,
      num_layers=6,
      pattern=(*[first] * 5, last),
    ),
    # llama.cpp asks a file with phi3 in its name for Phi-3's own tokens.
    "phi": _with("phi3", head_dim=8, **_turning(phi3, 4)),
  }


CONFIGS = _configs()


def tokenizer() -> PreTrainedTokenizerFast:
  """Of half the bytes, as many as the golden models have embeddings."""
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:126]
  vocab = {letter: i for i, letter in enumerate([*letters, "is", "</s>"])}
  fast = Tokenizer(models.BPE(vocab=vocab, merges=[("i", "s")]))
  fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  fast.decoder = decoders.ByteLevel()
  return PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="</s>")


def _write(path, config, params, kind="f16", ends=()) -> pathlib.Path:
  gguf_writer.write(path, config, params, tokenizer(), kind, ends)
  return path


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_read_back_is_the_same_model(name, tmp_path):
  """Matrices rounded once to F16; in blocks of a byte a weight nearly so."""
  config = CONFIGS[name]
  params = filled_params(config)
  again, found = read(gguf, _write(tmp_path / "f16.gguf", config, params))
  assert again == config

  def rounded(leaf, path) -> np.ndarray:
    vector = path.endswith(("/scale", "/bias"))
    return np.asarray(leaf if vector else leaf.astype(jnp.float16), np.float32)

  wanted = _by_path(params)
  for path, leaf in _by_path(found).items():
    np.testing.assert_array_equal(leaf, rounded(wanted[path], path), path)
  again, found = read(
    gguf, _write(tmp_path / "q8.gguf", config, params, "q8_0")
  )
  assert again == config
  for path, leaf in _by_path(found).items():
    error = np.linalg.norm(leaf - wanted[path]) / np.linalg.norm(wanted[path])
    assert error < 0.01, path  # another order of rows would be near 1.4


def _by_path(params) -> dict[str, jax.Array]:
  leaves = jax.tree_util.tree_leaves_with_path(params)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  return {name(path): leaf for path, leaf in leaves}


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("name", ["theta_untied", "qwen2", "gemma", "granite"])
def test_the_file_is_that_of_another_writer(name, kind, tmp_path):
  """Every tensor to the byte, and every value of the model."""
  fields, _ = test_gguf.FAMILIES.get(name, ({}, None))
  theirs = test_gguf.write_gguf(
    tmp_path / "theirs.gguf", name, Type[kind.upper()], **fields
  )
  config, params = read(hf, _GOLDENS / name)
  ours = _write(tmp_path / "ours.gguf", config, params, kind)
  ours, theirs = map(gguf_library.GGUFReader, (ours, theirs))
  for key, field in theirs.fields.items():
    # Of heads that have a size of their own; this writer tells it always.
    if not key.startswith("GGUF.") and not key.endswith(".key_length"):
      assert ours.fields[key].contents() == field.contents(), key
  tensors = {tensor.name: tensor for tensor in ours.tensors}
  assert tensors.keys() == {tensor.name for tensor in theirs.tensors}
  for tensor in theirs.tensors:
    mine = tensors[tensor.name]
    assert mine.tensor_type == tensor.tensor_type
    np.testing.assert_array_equal(mine.data, tensor.data, tensor.name)
  kinds = {"f16": 1, "q8_0": 7}  # of llama.cpp's `llama_ftype`
  assert ours.fields["general.file_type"].contents() == kinds[kind]


def test_rows_that_blocks_do_not_fill_are_f16(tmp_path):
  config = _with("theta_untied", mlp_dim=48)
  path = _write(tmp_path / "m.gguf", config, filled_params(config), "q8_0")
  tensors = GGUFFile(path).tensors
  assert tensors["blk.0.ffn_down.weight"].type == Type.F16
  assert tensors["blk.0.ffn_up.weight"].type == Type.Q8_0
  assert tensors["blk.0.attn_norm.weight"].type == Type.F32


def test_the_real_model_has_the_metadata_of_its_file(smollm2, tmp_path):
  """Key by key those of llama.cpp's converter, but for its model card's."""
  theirs = GGUFFile(names.smollm2_gguf()).fields
  told = gguf_tokenizer.write(
    smollm2.tokenizer, smollm2.config.vocab_size, smollm2.end_tokens
  )
  header = gguf_writer.header(smollm2.config, "f16")
  ours = header.fields | told
  card = {key for key in theirs if key.startswith("general.")}
  assert ours.keys() == theirs.keys() - card | {"general.architecture"}
  for key in ours:
    value = theirs[key]
    is_number = isinstance(value, float)
    wanted = pytest.approx(value, rel=1e-6) if is_number else value
    assert ours[key] == wanted, key
  kept = GGUFFile(names.smollm2_gguf()).tensors
  shapes = {name: info.shape for name, info in header.tensors.items()}
  assert shapes == {name: info.shape for name, info in kept.items()}


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "gpt-2", "smollm"])
def test_words_are_cut_as_they_were(pre, tmp_path):
  own = test_tokenizer.byte_level(tmp_path / "t.gguf", pre)
  fields = gguf_tokenizer.write(own, len(own), [2])
  assert fields["tokenizer.ggml.pre"] == pre
  theirs = GGUFFile(tmp_path / "t.gguf").fields
  for key in ("tokens", "token_type", "merges", "eos_token_id"):
    key = f"tokenizer.ggml.{key}"
    assert fields[key] == theirs[key]
  assert fields["tokenizer.ggml.add_bos_token"] == (pre == "llama-bpe")
  assert fields["tokenizer.chat_template"] == own.chat_template


def test_sentencepiece_has_ranks_for_scores(tmp_path):
  """The library's scores are ranks too; the order of merges is the same."""
  golden = test_tokenizer.GOLDEN["sentencepiece"]
  own = test_tokenizer.sentencepiece(tmp_path / "t.gguf")
  fields = gguf_tokenizer.write(own, len(own) + 2, [2])
  assert fields["tokenizer.ggml.tokens"] == [
    *golden["tokens"],
    *(f"[PAD{len(own) + i}]" for i in range(2)),
  ]
  assert fields["tokenizer.ggml.token_type"] == [*golden["types"], 5, 5]
  again = gguf_tokenizer.read("again.gguf", fields)
  texts = test_tokenizer.GOLDEN["texts"]
  for text, ids in zip(texts, golden["ids"], strict=True):
    assert again(text)["input_ids"] == ids, text


def test_tokenizers_without_an_equal_are_refused():
  own = tokenizer()
  words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
  other = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
  own.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Whitespace(),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  letters = tiny_chat.tokenizer()  # without merges
  for refused in (other, own, letters):
    with pytest.raises(UserError, match="no tokenizer that GGUF has a name"):
      gguf_tokenizer.write(refused, len(refused))


def test_ends_of_a_reply_have_keys_of_their_own(tmp_path):
  """The tokenizer's, and two more that llama.cpp does not know by name."""
  config = CONFIGS["theta_untied"]
  params = filled_params(config)
  path = _write(tmp_path / "m.gguf", config, params, ends=(5, 6, 127))
  assert gguf.read_generation_config(path) == {"eos_token_id": [5, 6, 127]}
  for ends in ((1, 2, 3), (1, 2, 3, 127)):
    with pytest.raises(UserError, match=f"end by {len(ends)} tokens"):
      _write(tmp_path / "other.gguf", config, params, ends=ends)
  endless = tokenizer()
  endless.eos_token = None
  fields = gguf_tokenizer.write(endless, 128, (7,))
  assert fields["tokenizer.ggml.eos_token_id"] == 7


@pytest.mark.parametrize(
  "name, config, told",
  [
    ("gemma2", _config("gemma2"), "gemma2 cannot say .* query_scale,"),
    ("biased", _with("qwen3", **test_gguf.alike(_config("qwen3"))), "o_bias,"),
    ("phi3", _config("phi3"), "phi3 cannot say .* pattern, head_dim,"),
    ("mistral", _config("mistral"), "llama cannot say .* pattern,"),
    ("qwen3", _config("qwen3"), "qwen3 cannot say .* pattern,"),
    ("yarn", _config("olmo3"), "olmo2 cannot say .* pattern,"),
    ("llama3", _config("llama3_gqa"), r"cannot be a GGUF file \(.*rope_freqs"),
  ],
)
def test_what_llama_cpp_would_not_compute_is_refused(
  name, config, told, tmp_path
):
  with pytest.raises(UserError, match=told):
    _write(tmp_path / "m.gguf", config, {})
  assert list(tmp_path.iterdir()) == []


def test_weights_beyond_f16(tmp_path):
  config = CONFIGS["theta_untied"]
  params = filled_params(config)
  down = params["layers"]["mlp"]["down"]
  down["kernel"] = down["kernel"].at[1, 0, 0].set(7e4)
  with pytest.raises(UserError, match=r"blk\.1\.ffn_down.*up to 7e\+04"):
    _write(tmp_path / "m.gguf", config, params)
  assert list(tmp_path.iterdir()) == []
  _write(tmp_path / "m.gguf", config, params, "q8_0")
  with pytest.raises(UserError, match="exists already"):
    _write(tmp_path / "m.gguf", config, params)
