"""Hugging Face folders against transformers' own logits, and every refusal."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
  AutoConfig,
  GenerationConfig,
  PreTrainedTokenizerFast,
)

from s2d_jax.checkpoints import hf
from s2d_jax.checkpoints.hf_config import read_config
from s2d_jax.errors import UserError
from s2d_jax.models.config import Llama3Scaling, alike
from s2d_jax.models.llama import Llama
from tests.one_device import read

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
LLAMA3 = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
}
MODELS = ["theta_untied", "llama3_gqa", "head_dim_sharded", "qwen2"]


def logits_of(config, params, tokens):
  model = Llama(config)

  @jax.jit
  def run(params):
    return model.apply({"params": params}, tokens, method=Llama.init_all)

  return run(params)


def tokenizer() -> PreTrainedTokenizerFast:
  vocab = {"<s>": 0, "</s>": 1, "a": 2, "b": 3}
  return PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE(vocab, [])),
    bos_token="<s>",
    eos_token="</s>",
    chat_template="{{ messages[0]['content'] }}",
  )


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  """A copy of a golden folder, to be spoilt."""
  return shutil.copytree(GOLDENS / "theta_untied", tmp_path / "model")


def change(path, **values):
  old = json.loads(path.read_text())
  path.write_text(json.dumps(old | values))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name):
  config, params = read(hf, GOLDENS / name)
  golden = np.load(GOLDENS / name / "logits.npz")
  logits = logits_of(config, params, jnp.asarray(golden["tokens"]))
  assert np.abs(golden["logits"]).max() > 1
  np.testing.assert_allclose(logits, golden["logits"], atol=1e-4, rtol=0)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("f4")}


def test_config_values():
  config = read_config(GOLDENS / "head_dim_sharded")
  assert config.head_dim == 16
  scaling = Llama3Scaling(8.0, 1.0, 4.0, 32)
  assert config.pattern == alike(500000.0, scaling)
  qwen2 = read_config(GOLDENS / "qwen2")
  assert qwen2.qkv_bias and not qwen2.o_bias
  sparse = read_config(GOLDENS / "theta_untied")
  assert (sparse.num_kv_heads, sparse.head_dim) == (4, 8)
  assert not sparse.tie_embeddings


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_shard_bytes", [5e9, 40_000])
def test_round_trip_is_exact(name, max_shard_bytes, tmp_path):
  config, params = read(hf, GOLDENS / name)
  out = tmp_path / "out"
  hf.write(out, config, params, tokenizer(), max_shard_bytes=max_shard_bytes)
  assert (out / "model.safetensors").exists() == (max_shard_bytes > 1e6)
  read_config_, read_params = read(hf, out)
  assert read_config_ == config
  jax.tree.map(np.testing.assert_array_equal, read_params, params)


def test_the_files_are_those_of_transformers(tmp_path):
  """Names, shapes and values, of a folder that transformers wrote."""
  config, params = read(hf, GOLDENS / "qwen2")
  hf.write(tmp_path / "out", config, params, tokenizer())
  ours = load_file(tmp_path / "out" / "model.safetensors")
  theirs = load_file(GOLDENS / "qwen2" / "model.safetensors")
  assert ours.keys() == theirs.keys()
  for name in theirs:
    np.testing.assert_array_equal(ours[name], theirs[name].astype(np.float32))


def test_bfloat16_is_rounded_once(tiny, tmp_path):
  hf.write(tmp_path / "out", *tiny, tokenizer(), dtype="bfloat16")
  _, params = read(hf, tmp_path / "out")
  rounded = jax.tree.map(
    lambda x: np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32)),
    tiny.params,
  )
  jax.tree.map(np.testing.assert_array_equal, params, rounded)


def test_tokenizer_and_special_ids_are_written(tiny, tmp_path):
  hf.write(tmp_path / "out", *tiny, tokenizer())
  generation = json.loads((tmp_path / "out/generation_config.json").read_text())
  assert generation["eos_token_id"] == 1
  saved = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
  # The name that transformers 4 knows too.
  assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
  again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
  assert again.chat_template == "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
  "ends, written", [((), 1), ((3,), 3), ((1, 3), [1, 3])]
)
def test_all_ends_of_a_reply_are_written(tiny, tmp_path, ends, written):
  hf.write(tmp_path / "out", *tiny, tokenizer(), end_tokens=ends)
  generation = json.loads((tmp_path / "out/generation_config.json").read_text())
  assert generation["eos_token_id"] == written


@pytest.mark.parametrize(
  "generation, config, ends",
  [
    (None, 1, [1]),
    ({"eos_token_id": [3, 2]}, 1, [1, 2, 3]),
    ({"eos_token_id": 2}, [1, 2], [1, 2]),
    ({"eos_token_id": None}, None, []),
    ({"temperature": 0.5}, None, []),
  ],
)
def test_end_tokens_are_those_of_both_files(folder, generation, config, ends):
  change(folder / "config.json", eos_token_id=config)
  if generation is not None:
    (folder / "generation_config.json").write_text(json.dumps(generation))
    theirs = GenerationConfig.from_pretrained(folder).eos_token_id
    theirs = theirs if isinstance(theirs, list) else [theirs]
    assert set(theirs) - {None} <= set(ends)
  values = hf.read_generation_config(folder)
  assert values == (generation or {}) | {"eos_token_id": ends}


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("end", ["</s>", 2.0, True, [1, None], [[1]]])
def test_end_tokens_are_ids(folder, file, end):
  path = folder / file
  path.exists() or path.write_text("{}")
  change(path, eos_token_id=end)
  with pytest.raises(UserError, match=f"{file}: eos_token_id is .*a token id"):
    hf.read_generation_config(folder)


def test_the_export_keeps_how_a_model_is_sampled(tiny, tmp_path):
  """As transformers reads it."""
  own = {
    "eos_token_id": [1, 3],
    "bos_token_id": 2,
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "repetition_penalty": 1.05,
    "transformers_version": "4.45.0",
    "_from_model_config": True,
  }
  out = tmp_path / "out"
  hf.write(out, *tiny, tokenizer(), generation_config=own, end_tokens=(1, 2, 3))
  theirs = GenerationConfig.from_pretrained(out).to_dict()
  expected = GenerationConfig(**own).to_dict() | {"eos_token_id": [1, 2, 3]}
  del own["_from_model_config"], own["transformers_version"]
  assert {key: theirs[key] for key in own} == {
    key: expected[key] for key in own
  }
  assert not GenerationConfig.from_pretrained(out)._from_model_config
  assert hf.read_generation_config(out)["eos_token_id"] == [1, 2, 3]


def test_both_styles_of_rope_are_written(tmp_path):
  config, params = read(hf, GOLDENS / "llama3_gqa")
  hf.write(tmp_path / "out", config, params, tokenizer())
  values = json.loads((tmp_path / "out/config.json").read_text())
  old = {"rope_theta": values["rope_theta"]} | values["rope_scaling"]
  assert old == values["rope_parameters"]
  del values["rope_parameters"]
  (tmp_path / "out/config.json").write_text(json.dumps(values))
  assert read_config(tmp_path / "out") == config


def test_write_leaves_nothing_half_done(tiny, tmp_path, monkeypatch):
  def killed(*unused, **also_unused):
    raise KeyboardInterrupt

  monkeypatch.setattr(hf, "save_file", killed)
  with pytest.raises(KeyboardInterrupt):
    hf.write(tmp_path / "out", *tiny, tokenizer())
  assert not (tmp_path / "out").exists()
  monkeypatch.undo()
  hf.write(tmp_path / "out", *tiny, tokenizer())
  assert [path.name for path in tmp_path.iterdir()] == ["out"]
  with pytest.raises(UserError, match="exists already"):
    hf.write(tmp_path / "out", *tiny, tokenizer())
  with pytest.raises(UserError, match="^gs://b/out is in a bucket; name a"):
    hf.write("gs://b/out", *tiny, tokenizer())
  with pytest.raises(UserError, match="float16"):
    hf.write(tmp_path / "other", *tiny, tokenizer(), dtype="float16")


@pytest.mark.parametrize(
  "values, message",
  [
    ({"model_type": "mixtral"}, 'model_type "mixtral"'),
    ({"hidden_act": "gelu"}, 'hidden_act = "gelu"'),
    # Of other families: their code has none, and there is no key for it.
    ({"model_type": "qwen2", "attention_bias": True}, "attention_bias = true"),
    ({"model_type": "mistral", "mlp_bias": True}, "mlp_bias = true"),
    ({"logits_scaling": 8.0}, "logits_scaling = 8.0 is .* only 1.0"),
    ({"final_logit_softcapping": 30.0}, "softcapping = 30.0 .* only null"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 'pe "dynamic"'),
    ({"rope_parameters": {"rope_type": "longrope"}}, 'rope_type "longrope"'),
    ({"rope_parameters": {"rope_type": "yarn"}}, "incomplete.*'factor'"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rotary.* = 0.5"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "incomplete.*'factor'"),
    ({"rope_parameters": LLAMA3 | {"factor": None}}, "incomplete.*'factor'"),
    ({"rope_scaling": "llama3"}, 'rope_scaling is "llama3" and should be null'),
    ({"rope_scaling": ["llama3"]}, r'rope_scaling is \["llama3"\]'),
    ({"rope_parameters": 8}, "rope_parameters is 8"),
    ({"rope_scaling": LLAMA3 | {"factor": "8"}}, 'rope_scaling.factor is "8"'),
    ({"rope_parameters": {"rope_theta": "1e4"}}, 'rope_theta is "1e4"'),
    ({"rope_theta": 0, "rope_scaling": None}, "rope_theta is 0 and should be"),
    ({"rope_parameters": {"full_attention": {}}}, "full_attention is {} and"),
    ({"rms_norm_eps": "1e-5"}, 'rms_norm_eps is "1e-5" and should be a posi'),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is NaN"),
    ({"rms_norm_eps": True}, "rms_norm_eps is true"),
    ({"tie_word_embeddings": "false"}, 'embeddings is "false" and should be'),
    ({"layer_types": "full_attention"}, "layer_types is .* a list of words"),
    ({"head_dim": "8"}, 'head_dim is "8"'),
    ({"head_dim": 0}, "head_dim is 0"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0"),
    ({"max_position_embeddings": 256.0}, "max_position_embeddings is 256.0"),
    ({"vocab_size": True}, "vocab_size is true"),
    ({"model_type": ["llama"]}, r'model_type \["llama"\]'),
    ({"model_type": None}, "model_type null"),
    ({"hidden_size": "32"}, 'hidden_size is "32"'),
    ({"num_hidden_layers": None}, "num_hidden_layers is null"),
    ({"num_key_value_heads": 3}, "not a multiple"),
    # Llama's code has no windows, and Qwen's only where they are switched on.
    ({"layer_types": ["sliding_attention"] * 2}, '"sliding_attention" is not'),
    (
      {
        "model_type": "qwen2",
        "layer_types": ["full_attention", "sliding_attention"],
        "sliding_window": 64,
      },
      "use_sliding_window is null and should be true",
    ),
    ({"model_type": "qwen2", "layer_types": ["linear_attention"] * 2}, "linea"),
    ({"model_type": "qwen2", "layer_types": ["full_attention"]}, "each layer"),
    ({"model_type": "mistral", "sliding_window": "64"}, 'window is "64"'),
  ],
)
def test_unsupported_values_are_named(folder, values, message):
  change(folder / "config.json", **{"num_key_value_heads": 4} | values)
  with pytest.raises(UserError, match=r"config\.json: .*" + message):
    read_config(folder)


# What may be left out or null; for the others transformers has sizes of some
# model.
OPTIONAL = (
  *("rms_norm_eps", "head_dim", "tie_word_embeddings", "hidden_act"),
  *("rope_theta", "rope_scaling", "rope_parameters", "layer_types"),
  *("attention_bias", "mlp_bias", "sliding_window"),
)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_silent_and_null_keys_are_as_in_transformers(folder, family):
  """It refuses some nulls; they are then as if the key were not there."""
  path = folder / "config.json"
  change(path, model_type=family, head_dim=8, num_key_value_heads=None)
  whole = json.loads(path.read_text())
  for key in OPTIONAL:
    told = {name: v for name, v in whole.items() if name != key}
    for values in (told, told | {key: None}):
      path.write_text(json.dumps(values))
      ours = read_config(folder)
      try:
        theirs = AutoConfig.from_pretrained(folder)
      except Exception:  # a null that its validation does not take
        assert None in values.values()
        path.write_text(json.dumps(told | {"num_key_value_heads": 4}))
        theirs = AutoConfig.from_pretrained(folder)
      assert ours.rms_eps == theirs.rms_norm_eps, key
      assert ours.num_kv_heads == theirs.num_attention_heads, key
      assert ours.tie_embeddings == theirs.tie_word_embeddings, key
      head_dim = getattr(theirs, "head_dim", None)
      assert ours.head_dim == (
        head_dim or theirs.hidden_size // theirs.num_attention_heads
      ), key
      theta = theirs.rope_parameters["rope_theta"]
      assert ours.pattern[0].rope.theta == (theta or 10000.0), key


@pytest.mark.parametrize(
  "values",
  [
    {"rope_scaling": LLAMA3},  # the original context is the context
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 32}},
    {"rope_parameters": LLAMA3 | {"rope_theta": 7.0}},
    {"rope_theta": 5, "rope_parameters": {"rope_theta": 7.0}},
    {"rope_theta": 5, "rope_scaling": {}, "rope_parameters": None},
    {"rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 7.0}},
    {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
    {"rope_scaling": {"type": "default", "rope_theta": 7.0}},
  ],
)
def test_which_value_of_rope_counts(folder, values):
  change(folder / "config.json", **values)
  (kind,) = read_config(folder).pattern
  ours = kind.rope
  theirs = AutoConfig.from_pretrained(folder).rope_parameters
  assert ours.theta == theirs["rope_theta"]
  assert (ours.scaling is not None) == (theirs["rope_type"] == "llama3")
  if ours.scaling is not None:
    assert dataclasses.asdict(ours.scaling) == {
      name.replace("max_position_embeddings", "context"): theirs[name]
      for name in (*list(LLAMA3)[1:], "original_max_position_embeddings")
    }


@pytest.mark.parametrize(
  "values",
  [
    {"model_type": "qwen2", "sliding_window": 64},  # not switched on
    {"model_type": "mistral", "sliding_window": None},
    {"model_type": "mistral", "sliding_window": 256},  # all there is
  ],
)
def test_sliding_window_not_in_use(folder, values):
  change(folder / "config.json", num_key_value_heads=4, **values)
  config = read_config(folder)
  assert config.max_context == 256
  hidden = [w for w in config.windows if w is not None and w < 256]
  assert not hidden


def test_config_file_missing_or_broken(folder):
  (folder / "config.json").write_text('{"a": ')
  with pytest.raises(UserError, match="not valid JSON"):
    read_config(folder)
  for value in ("[]", "null", '"llama"'):
    (folder / "config.json").write_text(value)
    with pytest.raises(UserError, match=r"config\.json is not a JSON object"):
      read_config(folder)
  (folder / "config.json").unlink()
  with pytest.raises(UserError, match=r"config\.json does not exist"):
    read_config(folder)


def spoil(folder, edit):
  file = folder / "model.safetensors"
  tensors = load_file(file)
  edit(tensors)
  save_file(tensors, file)


Q = "model.layers.1.self_attn.q_proj.weight"
O_BIAS = "model.layers.1.self_attn.o_proj.bias"


@pytest.mark.parametrize(
  "edit, message",
  [
    (lambda t: t.pop(Q), f"lack tensor {Q}"),
    (lambda t: t.update({Q: t[Q][:8]}), rf"{Q} has shape \[8, 32\]"),
    (lambda t: t.update({Q: t[Q].astype(np.int8)}), f"{Q} is of type I8"),
    (
      lambda t: t.update({Q.replace("q_proj", "q_norm"): t[Q]}),
      "q_norm.weight belongs to something",
    ),
    (
      lambda t: t.update({O_BIAS: t[Q][0]}),
      "o_proj.bias belongs to something",
    ),
  ],
)
def test_tensors_are_checked(folder, edit, message):
  spoil(folder, edit)
  with pytest.raises(UserError, match=message):
    read(hf, folder)


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def test_a_tied_head_that_is_another_is_refused(folder):
  """And what the sentence says gives transformers' logits, which unties it."""
  change(folder / "config.json", tie_word_embeddings=True)
  message = "lm_head.weight differs from model.embed_tokens.weight"
  with pytest.raises(UserError, match=message):
    read(hf, folder)
  change(folder / "config.json", tie_word_embeddings=False)
  golden = np.load(folder / "logits.npz")
  config, params = read(hf, folder)
  logits = logits_of(config, params, jnp.asarray(golden["tokens"]))
  np.testing.assert_allclose(logits, golden["logits"], atol=1e-4, rtol=0)


def test_a_second_copy_of_a_tied_head_changes_nothing(tmp_path):
  folder = shutil.copytree(GOLDENS / "llama3_gqa", tmp_path / "model")
  expected = read(hf, folder)[1]
  spoil(folder, lambda t: t.update({HEAD: t[EMBEDDING]}))
  config, params = read(hf, folder)
  assert config.tie_embeddings
  jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
  "edit",
  [
    lambda head: head.at[-1, -1].add(1),  # one weight of the last rows
    lambda head: head.astype(np.float32),
    lambda head: head[:-1],
  ],
)
def test_a_copy_of_a_tied_head_is_compared_whole(tmp_path, edit):
  folder = shutil.copytree(GOLDENS / "llama3_gqa", tmp_path / "model")
  head = lambda t: np.asarray(edit(jnp.asarray(t[EMBEDDING])))
  spoil(folder, lambda t: t.update({HEAD: head(t)}))
  with pytest.raises(UserError, match="lm_head.weight differs"):
    read(hf, folder)


@pytest.mark.parametrize(
  "name",
  [
    "model.layers.2.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "lm_head.bias",
    "score.weight",
    "model.norm.bias",
  ],
)
def test_tensors_that_would_be_left_out_are_named(folder, name):
  spoil(folder, lambda t: t.update({name: np.ones(32, np.float32)}))
  with pytest.raises(UserError, match=f"tensor {name} belongs to something"):
    read(hf, folder)


def test_tensors_that_an_index_forgets_are_named(tmp_path):
  folder = shutil.copytree(GOLDENS / "head_dim_sharded", tmp_path / "model")
  shard = folder / "model-00002-of-00003.safetensors"
  tensors = load_file(shard) | {"lm_head.bias": np.ones(128, np.float32)}
  save_file(tensors, shard)
  with pytest.raises(UserError, match=r"00002-of.*tensor lm_head\.bias"):
    read(hf, folder)


def test_tables_of_old_files_are_ignored(folder):
  old = "model.layers.0.self_attn.rotary_emb.inv_freq"
  spoil(folder, lambda t: t.update({old: np.ones(4, np.float32)}))
  read(hf, folder)


@pytest.mark.parametrize("kept", [0, 5, 1000, -4])
def test_truncated_file_is_named(folder, kept):
  file = folder / "model.safetensors"
  file.write_bytes(file.read_bytes()[:kept])
  with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
    read(hf, folder)


def test_shards_are_checked(tmp_path):
  folder = shutil.copytree(GOLDENS / "head_dim_sharded", tmp_path / "model")
  index = folder / "model.safetensors.index.json"
  weight_map = json.loads(index.read_text())["weight_map"]
  shard = folder / "model-00002-of-00003.safetensors"
  tensors = load_file(shard)
  save_file({"other": np.ones(1, np.float32)}, shard)
  with pytest.raises(UserError, match=r"00002-of-00003\.safetensors is dam"):
    read(hf, folder)
  save_file(tensors, shard)
  shard.rename(folder / "elsewhere")
  with pytest.raises(UserError, match=r"00002-of-00003\.safetensors does not"):
    read(hf, folder)
  (folder / "elsewhere").rename(shard)
  change(index, weight_map=weight_map | {Q: "../secret"})
  with pytest.raises(UserError, match=r"\.\./secret is not the name"):
    read(hf, folder)
  change(index, weight_map=weight_map | {Q: 2})
  with pytest.raises(UserError, match="2 is not the name of a file"):
    read(hf, folder)
  index.write_text("{}")
  with pytest.raises(UserError, match="no weight_map"):
    read(hf, folder)
  index.unlink()
  with pytest.raises(UserError, match="safetensors only"):
    read(hf, folder)
