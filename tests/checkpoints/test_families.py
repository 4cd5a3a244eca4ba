"""Each family of models against transformers' own code."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
  MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from s2d_jax.checkpoints import hf, hf_config, layout
from s2d_jax.checkpoints.families import FAMILIES, REFUSED
from s2d_jax.checkpoints.hf_config import (
  config_values,
  read_config,
  read_stored,
)
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Engine, Request
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.config import (
  LayerKind,
  LinearScaling,
  Rope,
  YarnScaling,
)
from s2d_jax.models.llama import Llama
from s2d_jax.training.loss import mean_loss_and_grads
from s2d_jax.training.packing import PackedRows
from tests import tiny_chat
from tests.one_device import read

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
MODELS = [
  *("llama_biases", "mistral", "qwen3", "smollm3", "olmo2", "olmo3"),
  *("gemma", "gemma2", "gemma3_text", "granite", "phi3"),
]
ROPE = {"rope_type": "default", "rope_theta": 5e4}
YARN = {"rope_type": "yarn", "factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 2}
SWITCHED = {"use_sliding_window": True}
WITH_GRADIENTS = ["qwen3", "smollm3", "gemma3_text"]


@functools.cache
def model(name: str):
  return read(hf, GOLDENS / name)


def golden(name: str):
  return np.load(GOLDENS / name / "logits.npz")


def logits_of(config, params, tokens) -> np.ndarray:
  llama = Llama(config)

  @jax.jit
  def run(params):
    return llama.apply({"params": params}, tokens, method=Llama.init_all)

  return np.asarray(run(params))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name):
  config, params = model(name)
  theirs = golden(name)
  ours = logits_of(config, params, jnp.asarray(theirs["tokens"]))
  assert np.abs(theirs["logits"]).max() > 3
  print(name, np.abs(ours - theirs["logits"]).max())
  np.testing.assert_allclose(ours, theirs["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text"])
def test_norms_are_not_rounded_with_the_weights(name):
  """In bfloat16 one and a small weight would be one."""
  config, params = read(hf, GOLDENS / name, "bfloat16")
  theirs = golden(name)
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
  ours = logits_of(config, params, jnp.asarray(theirs["tokens"]))
  np.testing.assert_allclose(ours, theirs["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_replies_are_those_of_transformers(name):
  """Prompts and replies both longer than the window, where there is one."""
  config, params = model(name)
  theirs = golden(name)
  reply = theirs["reply"].tolist()
  prompt = theirs["tokens"][0, :24].tolist()
  greedy = Sampling(temperature=0.0, max_new_tokens=len(reply))
  engine = Engine(
    Llama(config),
    params,
    tiny_chat.tokenizer(),
    (),
    slots=1,
    rows=1,
    max_new_tokens=len(reply),
  )
  engine.submit(Request(tuple(prompt), 0, greedy, name))
  (completion,) = [done for _, done in finished(engine)]
  assert list(completion.tokens) == reply


def finished(engine):
  while engine.busy:
    yield from engine.step()


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_are_those_of_transformers(name):
  """Of every parameter, of the mean cross-entropy, by the fine-tune's code."""
  config, params = model(name)
  theirs = golden(name)
  tokens = theirs["tokens"].astype(np.int32)
  length = tokens.shape[1]
  steps = np.arange(length, dtype=np.int32)[None]
  rows = PackedRows(
    tokens=tokens,
    positions=steps,
    until=np.full_like(tokens, length),
    target_index=steps[:, :-1],
    target_token=tokens[:, 1:],
    target_weight=np.ones((1, length - 1), np.float32),
  )
  rows = jax.tree.map(lambda field: jnp.asarray(field)[None], rows)
  loss_and_grads = functools.partial(mean_loss_and_grads, Llama(config))
  _, grads = jax.jit(loss_and_grads)(params, {}, rows)
  seen = set()
  for tensor_name, parts in layout.tensors(
    config, read_stored(GOLDENS / name)
  ).items():
    parts = [part._replace(added=0.0) for part in parts]
    ours = layout.extract(grads, parts, np.float32).astype(np.float64)
    if ours.ndim == 1:
      found = {"whole": ours}
    else:
      high, wide = map(np.arange, ours.shape)
      found = {"rows": ours @ np.cos(wide), "columns": np.cos(high) @ ours}
    for kind, value in found.items():
      wanted = theirs[f"{kind}/{tensor_name}"]
      seen.add(f"{kind}/{tensor_name}")
      error = np.linalg.norm(value - wanted) / np.linalg.norm(wanted)
      assert error < 1e-4, (kind, tensor_name)
  assert seen == {key for key in theirs if "/" in key}


@pytest.mark.parametrize("name", MODELS)
def test_the_export_is_the_file_it_was_read_from(name, tmp_path):
  """For the family's own class, with the weights under its own names."""
  config, params = model(name)
  out = tmp_path / "out"
  hf.write(out, config, params, tiny_chat.tokenizer(), "bfloat16")
  told = json.loads((out / "config.json").read_text())
  theirs = json.loads((GOLDENS / name / "config.json").read_text())
  assert told["model_type"] == theirs["model_type"]
  assert told["architectures"] == theirs["architectures"]
  again, params_again = read(hf, out)
  assert again == config
  jax.tree.map(np.testing.assert_array_equal, params_again, params)
  names = [set(hf._tensor_files(folder)) for folder in (out, GOLDENS / name)]
  assert names[0] == names[1]


@pytest.mark.parametrize("name", MODELS)
def test_the_file_of_an_export_says_the_same_to_transformers(name):
  """What its configuration class makes of ours and of the golden's own."""
  values = config_values(read_config(GOLDENS / name))
  ours = AutoConfig.for_model(**values)
  theirs = AutoConfig.from_pretrained(GOLDENS / name)
  for key in (
    *("rope_parameters", "layer_types", "sliding_window", "no_rope_layers"),
    *("head_dim", "num_key_value_heads", "rms_norm_eps", "hidden_act"),
    *("hidden_activation", "attention_bias", "mlp_bias"),
    *("query_pre_attn_scalar", "attn_logit_softcapping", "logits_scaling"),
    *("final_logit_softcapping", "embedding_multiplier"),
    *("attention_multiplier", "residual_multiplier", "tie_word_embeddings"),
  ):
    wanted = getattr(theirs, key, None)
    if key == "rope_parameters":
      wanted = filled(wanted)
    elif key == "head_dim":
      wanted = wanted or theirs.hidden_size // theirs.num_attention_heads
    assert getattr(ours, key, None) == wanted, key


def filled(rope: dict) -> dict:
  """With what YaRN assumes where nothing is said, which we write out."""
  rope = {
    key: filled(value) if isinstance(value, dict) else value
    for key, value in rope.items()
  }
  if rope.get("rope_type") == "yarn":
    usual = 0.1 * np.log(rope["factor"]) + 1
    rope = {
      "attention_factor": pytest.approx(usual),
      "beta_fast": 32.0,
      "beta_slow": 1.0,
      "truncate": True,
    } | rope
  return rope


SIZES = {
  "vocab_size": 128,
  "hidden_size": 256,
  "intermediate_size": 96,
  "num_hidden_layers": 30,
  "num_attention_heads": 32,
  "max_position_embeddings": 8192,
}
# What may be left out or null; for sizes transformers has those of some model.
OPTIONAL = {
  "rms_norm_eps": 1e-4,
  "head_dim": 32,
  "num_key_value_heads": 2,
  "tie_word_embeddings": True,
  "attention_bias": True,
  "mlp_bias": True,
  "rope_theta": 5e4,
  "rope_local_base_freq": 300.0,
  "sliding_window": 512,
  "use_sliding_window": True,
  "max_window_layers": 7,
  "sliding_window_pattern": 5,
  "no_rope_layer_interval": 3,
  "no_rope_layers": [1, 0] * 15,
  "layer_types": ["full_attention", "full_attention", "sliding_attention"] * 10,
  "query_pre_attn_scalar": 100,
  "attn_logit_softcapping": 5.0,
  "final_logit_softcapping": 6.0,
  "embedding_multiplier": 2.0,
  "attention_multiplier": 0.3,
  "residual_multiplier": 0.4,
  "logits_scaling": 4.0,
  "partial_rotary_factor": 0.75,
}
# Those that a family's own code knows; layer_types are of no use to some.
KNOWN = {
  "llama": ("attention_bias", "mlp_bias"),
  "mistral": ("sliding_window",),
  "qwen2": ("sliding_window", "use_sliding_window", "max_window_layers"),
  "qwen3": (
    *("sliding_window", "use_sliding_window", "max_window_layers"),
    *("attention_bias", "layer_types"),
  ),
  "smollm3": (
    *("sliding_window", "use_sliding_window", "no_rope_layers"),
    *("no_rope_layer_interval", "attention_bias", "mlp_bias"),
  ),
  "olmo2": ("attention_bias",),
  "olmo3": ("attention_bias", "sliding_window", "layer_types"),
  "gemma": ("attention_bias",),
  "gemma2": (
    *("attention_bias", "sliding_window", "layer_types"),
    *("query_pre_attn_scalar", "attn_logit_softcapping"),
    "final_logit_softcapping",
  ),
  "gemma3_text": (
    *("attention_bias", "sliding_window", "sliding_window_pattern"),
    *("layer_types", "query_pre_attn_scalar", "final_logit_softcapping"),
    "rope_local_base_freq",
  ),
  "granite": (
    *("attention_bias", "mlp_bias", "embedding_multiplier"),
    *("attention_multiplier", "residual_multiplier", "logits_scaling"),
  ),
  "phi3": ("sliding_window", "partial_rotary_factor"),
}
COMMON = (
  *("rms_norm_eps", "head_dim", "num_key_value_heads"),
  *("tie_word_embeddings", "rope_theta"),
)


def as_values(theirs) -> dict:
  """Ours, out of the attributes that transformers computes with."""
  told = lambda key, default=None: getattr(theirs, key, default)
  layers = range(theirs.num_hidden_layers)
  heads, embed = theirs.num_attention_heads, theirs.hidden_size
  head_dim = told("head_dim") or embed // heads
  ropes = theirs.rope_parameters
  everywhere = theirs.model_type in ("mistral", "phi3")
  all_types = ["sliding_attention" if everywhere else "full_attention"] * 30
  types = told("layer_types") or all_types
  window = told("sliding_window")

  def kind(layer) -> LayerKind:
    rope = ropes.get(types[layer], ropes)
    channels = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    own = channels if channels != head_dim else None
    turns = told("no_rope_layers", [1] * 30)[layer]
    sees = window if types[layer] == "sliding_attention" else None
    made = Rope(rope["rope_theta"], channels=own) if turns else None
    return LayerKind(made, sees)

  scale = told("query_pre_attn_scalar", head_dim) ** -0.5
  scale = told("attention_multiplier", scale)
  return {
    "layer_kinds": tuple(map(kind, layers)),
    "head_dim": head_dim,
    "num_kv_heads": theirs.num_key_value_heads,
    "rms_eps": theirs.rms_norm_eps,
    "tie_embeddings": theirs.tie_word_embeddings,
    "o_bias": told("attention_bias", False),
    "qkv_bias": told("attention_bias", theirs.model_type == "qwen2"),
    "mlp_bias": told("mlp_bias", False),
    "query_scale": None if scale == head_dim**-0.5 else scale,
    "attention_cap": told("attn_logit_softcapping"),
    "logit_cap": told("final_logit_softcapping"),
    "residual_scale": told("residual_multiplier", 1.0),
    "logit_scale": 1 / told("logits_scaling", 1.0),
  }


@pytest.mark.parametrize("family", FAMILIES)
def test_silent_null_and_told_keys_are_as_in_transformers(family, tmp_path):
  """Each key alone, and without it; what refuses a null takes none."""
  known = (*COMMON, *KNOWN[family])
  whole = {key: OPTIONAL[key] for key in known}
  cases = [{}, whole]
  cases += [{key: whole[key]} for key in known]
  cases += [
    {name: value for name, value in whole.items() if name != key}
    for key in known
  ]
  # It would multiply by a base of null.
  cases += [whole | {key: None} for key in known if key[:5] != "rope_"]
  compared = 0
  for case in cases:
    values = {"model_type": family} | SIZES | case
    text = json.dumps(values)
    (tmp_path / "config.json").write_text(text)
    try:
      theirs = AutoConfig.for_model(**json.loads(text))
    except Exception:  # a null that its validation does not take
      assert None in values.values()
      continue
    if "sliding_attention" in (getattr(theirs, "layer_types", None) or ()):
      if theirs.sliding_window is None:  # nothing that its model could run
        with pytest.raises(UserError, match="sliding_window is null|true for"):
          read_config(tmp_path)
        continue
    ours = read_config(tmp_path)
    for name, wanted in as_values(theirs).items():
      assert getattr(ours, name) == wanted, (name, case)
    assert read_written(ours) == ours
    compared += 1
  assert compared > 2 * len(known)


def read_written(config):
  """Through the file that is written for it."""
  values = json.loads(json.dumps(config_values(config)))
  return hf_config.from_values(pathlib.Path("config.json"), values)


@pytest.mark.parametrize("name", MODELS)
def test_a_config_written_is_read_as_it_was(name):
  config = read_config(GOLDENS / name)
  assert read_written(config) == config
  # However its pattern is given.
  repeated = dataclasses.replace(config, pattern=config.layer_kinds)
  assert read_written(repeated) == config


def test_a_model_of_no_class_is_refused():
  config = read_config(GOLDENS / "granite")
  strange = dataclasses.replace(config, qk_norm="all")
  with pytest.raises(UserError, match="no class of transformers computes"):
    config_values(strange)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_classes_are_those_of_transformers(model_type):
  named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
  assert FAMILIES[model_type].model_class == named


@pytest.mark.parametrize(
  "model_type, what",
  [
    ("mixtral", "a mixture of experts"),
    ("qwen3_moe", "a mixture of experts"),
    ("qwen3_5_text", "a hybrid with linear attention"),
    ("qwen3_next", "a hybrid with linear attention"),
    ("gemma3n_text", "a model whose layers share keys and values"),
    ("gemma3", "a model that sees pictures"),
    ("qwen2_5_vl", "a model that sees pictures"),
    ("gpt2", "unknown; models of type llama, mistral, qwen2, .* phi3 are"),
  ],
)
def test_other_families_are_refused_by_what_they_are(
  model_type, what, tmp_path
):
  values = {"model_type": model_type} | SIZES
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(UserError, match=f'"{model_type}" is {what}'):
    read_config(tmp_path)
  assert not set(REFUSED) & set(FAMILIES)


@pytest.mark.parametrize(
  "family, values, message",
  [
    ("gemma3_text", {"rope_parameters": ROPE}, "with full_attention and slid"),
    ("gemma3_text", {"rope_local_base_freq": "1e4"}, 'freq is "1e4"'),
    ("gemma3_text", {"attn_logit_softcapping": 5.0}, "capping = 5.0 is not"),
    ("gemma2", {"use_bidirectional_attention": True}, "attention = true"),
    ("gemma2", {"sliding_window": None}, "sliding_window is null and should"),
    ("gemma2", {"hidden_activation": "relu"}, 'hidden_activation = "relu"'),
    ("gemma2", {"query_pre_attn_scalar": 0}, "scalar is 0 and should be a po"),
    ("smollm3", {"no_rope_layers": [1, 2] * 15}, "no_rope_layers = 2"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "one for each layer"),
    ("granite", {"logits_scaling": 0}, "logits_scaling is 0 and should"),
    ("phi3", {"rope_scaling": LONG}, 'rope_type "longrope" is not supported'),
    ("phi3", {"rope_scaling": YARN}, 'rope_type "yarn" is not supported'),
    ("phi3", {"partial_rotary_factor": 0.8}, "channels=3 must be even"),
    ("qwen3", {"rope_scaling": YARN | {"truncate": 1}}, "truncate is 1 and"),
    ("qwen3", {"max_window_layers": -1, **SWITCHED}, "is -1 and should be a w"),
    (
      "olmo3",
      {"rope_parameters": {"full_attention": YARN | {"truncate": False}}},
      "rope_parameters.full_attention.truncate = false is not supported",
    ),
  ],
)
def test_what_a_family_does_not_compute_is_named(
  family, values, message, tmp_path
):
  values = {"model_type": family} | SIZES | {"head_dim": 4} | values
  values = {"num_key_value_heads": 16} | values
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(UserError, match=r"config\.json: .*" + message):
    read_config(tmp_path)


@pytest.mark.parametrize(
  "scaling, wanted",
  [
    (YARN, YarnScaling(4.0, 8192, 0.1 * math.log(4) + 1)),
    (
      YARN | {"original_max_position_embeddings": 2048, "truncate": False},
      YarnScaling(4.0, 2048, 0.1 * math.log(4) + 1, truncate=False),
    ),
    (
      YARN | {"attention_factor": 1.5, "beta_fast": 16, "beta_slow": 2},
      YarnScaling(4.0, 8192, 1.5, 16.0, 2.0),
    ),
    (
      YARN | {"mscale": 0.7, "mscale_all_dim": 0.4},
      YarnScaling(
        4.0, 8192, (0.07 * math.log(4) + 1) / (0.04 * math.log(4) + 1)
      ),
    ),
    (YARN | {"factor": 0.5}, YarnScaling(0.5, 8192, 1.0)),
    ({"type": "linear", "factor": 3}, LinearScaling(3.0)),
  ],
)
def test_scalings_are_read(scaling, wanted, tmp_path):
  """YaRN's magnitude by `_compute_yarn_parameters` of transformers."""
  values = {"model_type": "llama", "rope_scaling": scaling} | SIZES
  (tmp_path / "config.json").write_text(json.dumps(values))
  (kind,) = read_config(tmp_path).pattern
  assert kind.rope == Rope(10_000.0, wanted)
