"""config.json of Hugging Face: what a model computes, read and written.

The values decide. `model_type` only says which code in transformers gives
those values their meaning, so it stands in one table; a value that would be
computed differently here is refused by name.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from etils import epath

from s2d_jax.errors import UserError
from s2d_jax.models.config import Llama3Scaling, ModelConfig, alike

# What a family's code assumes where config.json is silent.
_FAMILIES = {
  "llama": {},
  "mistral": {"sliding_window": 4096},
  "qwen2": {"sliding_window": 4096},
}
# Keys that change the computation, with the one value that is computed here.
# `attention_bias` of Llama's code puts a bias on o_proj too, which is why Qwen
# 2, whose biases end at q, k and v, is told apart by its type: its code has
# them always and its config.json has no key for them.
_ONLY = {
  "hidden_act": "silu",
  "attention_bias": False,
  "mlp_bias": False,
  "partial_rotary_factor": 1.0,
  "quantization_config": None,
}
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")


def read_config(folder: epath.PathLike) -> ModelConfig:
  """The architecture that `folder`/config.json describes.

  Raises:
    UserError: config.json is missing, broken, or asks for something that this
      package does not compute; the message names the key and its value.
  """
  path = epath.Path(folder) / "config.json"
  values = read_json(path)
  family = values.get("model_type")
  if not isinstance(family, str) or family not in _FAMILIES:
    raise UserError(
      f"{path}: model_type {json.dumps(family)} is not supported; models of"
      f" type {', '.join(_FAMILIES)} are"
    )
  values = _without_nulls(_FAMILIES[family] | values)
  for key, only in _ONLY.items():
    _require(path, values, key, only)
  size = functools.partial(_size, path, values)
  context = size("max_position_embeddings")
  _check_window(path, values, context)
  theta, scaling = _rope(path, values, context)
  heads = size("num_attention_heads")
  try:
    return ModelConfig(
      vocab_size=size("vocab_size"),
      embed_dim=size("hidden_size"),
      num_layers=size("num_hidden_layers"),
      num_heads=heads,
      num_kv_heads=size("num_key_value_heads", heads),
      head_dim=size("head_dim", size("hidden_size") // heads),
      mlp_dim=size("intermediate_size"),
      max_context=context,
      pattern=alike(theta, scaling),
      rms_eps=_number(path, values, "rms_norm_eps", 1e-6),
      tie_embeddings=_flag(path, values, "tie_word_embeddings"),
      qkv_bias=family == "qwen2",
    )
  except ValueError as error:
    raise UserError(f"{path}: {error}") from None


def config_values(config: ModelConfig) -> dict[str, Any]:
  """The opposite of `read_config`: what config.json says about `config`.

  RoPE is written twice, as transformers 5 and as transformers 4 look for it.
  """
  (kind,) = set(config.layer_kinds)
  scaling = kind.rope.scaling
  rope = {"rope_type": "default"}
  if scaling is not None:
    rope = {
      "rope_type": "llama3",
      "factor": scaling.factor,
      "low_freq_factor": scaling.low_freq_factor,
      "high_freq_factor": scaling.high_freq_factor,
      "original_max_position_embeddings": scaling.original_context,
    }
  if config.qkv_bias:
    family = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
  else:
    family = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
  return family | {
    "vocab_size": config.vocab_size,
    "hidden_size": config.embed_dim,
    "num_hidden_layers": config.num_layers,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    "hidden_act": "silu",
    "max_position_embeddings": config.max_context,
    "rms_norm_eps": config.rms_eps,
    "tie_word_embeddings": config.tie_embeddings,
    "rope_theta": kind.rope.theta,
    "rope_scaling": None if scaling is None else rope,
    "rope_parameters": {"rope_theta": kind.rope.theta} | rope,
  }


def read_generation_config(folder: epath.PathLike) -> dict[str, Any]:
  """What `folder`/generation_config.json says of replies, if it is there.

  Returns:
    Its values; `eos_token_id` is a list, with what config.json has under it.

  Raises:
    UserError: a file is broken, or an end token is no token id.
  """
  path = epath.Path(folder) / "generation_config.json"
  config = epath.Path(folder) / "config.json"
  values = read_json(path) if path.exists() else {}
  ends = {*_end_tokens(path, values), *_end_tokens(config, read_json(config))}
  return values | {"eos_token_id": sorted(ends)}


def _end_tokens(path: epath.Path, values: dict[str, Any]) -> list[int]:
  """A list, one id or nothing, as transformers has it."""
  found = values.get("eos_token_id")
  if found is None:
    return []
  ends = found if isinstance(found, list) else [found]
  if any(type(end) is not int for end in ends):
    raise UserError(
      f"{path}: eos_token_id is {json.dumps(found)} and should be a token id"
      " or a list of them"
    )
  return ends


def read_json(path: epath.Path) -> dict[str, Any]:
  """One JSON object, or a sentence about what is wrong with the file."""
  if not path.exists():
    raise UserError(f"{path} does not exist; is this the folder of a model?")
  try:
    values = json.loads(path.read_text())
  except ValueError as error:
    raise UserError(f"{path} is not valid JSON ({error})") from None
  if not isinstance(values, dict):
    raise UserError(f"{path} is not a JSON object")
  return values


def _require(path, values: dict[str, Any], key: str, only: Any) -> None:
  if values.get(key, only) != only:
    raise UserError(
      f"{path}: {key} = {json.dumps(values[key])} is not supported, only"
      f" {json.dumps(only)}"
    )


def _check_window(path, values: dict[str, Any], context: int) -> None:
  """Refuses attention that sees less than the whole context."""
  layers = values.get("layer_types", [])
  if not isinstance(layers, list):
    raise _wrong(path, "layer_types", layers, "a list of words")
  if values["model_type"] == "mistral":
    used = True  # its code asks for nothing but the window
  elif layers:
    used = any(kind != "full_attention" for kind in layers)
  else:
    used = _flag(path, values, "use_sliding_window")
  if used and _size(path, values, "sliding_window", context) < context:
    _require(path, values, "sliding_window", None)


def _rope(
  path, values: dict[str, Any], context: int
) -> tuple[float, Llama3Scaling | None]:
  """Base and scaling, as transformers 5 writes them or as older ones did.

  Which counts where there are several: `convert_rope_params_to_dict` in
  modeling_rope_utils.py of transformers.
  """
  older = values.get("rope_scaling")
  key = "rope_scaling" if older else "rope_parameters"
  rope = values.get(key) or {}
  if not isinstance(rope, dict):
    raise _wrong(path, key, rope, "null or an object with a rope_type")
  rope = {"rope_theta": values.get("rope_theta", 10000.0)} | _without_nulls(
    rope
  )
  for name, value in rope.items():
    if isinstance(value, (dict, list)):
      raise _wrong(path, f"{key}.{name}", value, "the same for all layers")
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind not in ("default", "llama3"):
    raise UserError(
      f"{path}: rope_type {json.dumps(kind)} is not supported; default and"
      " llama3 are"
    )
  _require(path, rope, "partial_rotary_factor", 1.0)
  number = lambda name: _number(path, rope, name, within=f"{key}.")
  if kind == "default":
    return number("rope_theta"), None
  if missing := [name for name in _LLAMA3 if name not in rope]:
    raise UserError(
      f"{path}: {key} is incomplete: rope_type llama3 needs"
      f" {', '.join(map(repr, missing))} too"
    )
  rope.setdefault("original_max_position_embeddings", context)
  original = number("original_max_position_embeddings")
  factors = {name: number(name) for name in _LLAMA3}
  scaling = Llama3Scaling(**factors, original_context=int(original))
  return number("rope_theta"), scaling


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
  """A null says no more than a missing key."""
  return {key: value for key, value in values.items() if value is not None}


def _size(
  path, values: dict[str, Any], key: str, default: int | None = None
) -> int:
  value = values.get(key, default)
  if type(value) is not int or value < 1:
    raise _wrong(path, key, value, "a positive whole number")
  return value


def _number(
  path,
  values: dict[str, Any],
  key: str,
  default: float | None = None,
  within: str = "",
) -> float:
  value = values.get(key, default)
  if type(value) not in (int, float) or not 0 < value < math.inf:
    raise _wrong(path, within + key, value, "a positive number")
  return float(value)


def _flag(path, values: dict[str, Any], key: str) -> bool:
  value = values.get(key, False)
  if not isinstance(value, bool):
    raise _wrong(path, key, value, "true or false")
  return value


def _wrong(path, key: str, value: Any, should: str) -> UserError:
  return UserError(
    f"{path}: {key} is {json.dumps(value)} and should be {should}"
  )
