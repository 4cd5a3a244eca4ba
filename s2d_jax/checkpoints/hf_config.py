"""config.json of Hugging Face: what a model computes, read and written.

The values decide. `model_type` only says which code in transformers gives
those values their meaning, so it stands in one table; a value that would be
computed differently here is refused by name.
"""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from s2d_jax.errors import UserError
from s2d_jax.models.config import Llama3Scaling, ModelConfig

# What a family's code assumes where config.json is silent.
_FAMILIES = {
  "llama": {},
  "mistral": {"use_sliding_window": True, "sliding_window": 4096},
  "qwen2": {},
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


def read_config(folder: epath.PathLike) -> ModelConfig:
  """The architecture that `folder`/config.json describes.

  Raises:
    UserError: config.json is missing, broken, or asks for something that this
      package does not compute; the message names the key and its value.
  """
  path = epath.Path(folder) / "config.json"
  values = read_json(path)
  family = values.get("model_type")
  if family not in _FAMILIES:
    raise UserError(
      f"{path}: model_type {json.dumps(family)} is not supported; models of"
      f" type {', '.join(_FAMILIES)} are"
    )
  values = _FAMILIES[family] | values
  for key, only in _ONLY.items():
    _require(path, values, key, only)

  def size(key: str, default: int | None = None) -> int:
    value = default if values.get(key) is None else values[key]
    if type(value) is not int or value < 1:
      raise UserError(
        f"{path}: {key} is {json.dumps(value)} and should be a positive"
        " whole number"
      )
    return value

  _check_window(path, values, size("max_position_embeddings"))
  theta, scaling = _rope(path, values)
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
      max_context=size("max_position_embeddings"),
      rope_theta=theta,
      rms_eps=float(values.get("rms_norm_eps", 1e-6)),
      tie_embeddings=bool(values.get("tie_word_embeddings", False)),
      attention_bias=family == "qwen2",
      rope_scaling=scaling,
    )
  except ValueError as error:
    raise UserError(f"{path}: {error}") from None


def config_values(config: ModelConfig) -> dict[str, Any]:
  """The opposite of `read_config`: what config.json says about `config`.

  RoPE is written twice, as transformers 5 and as transformers 4 look for it.
  """
  scaling = config.rope_scaling
  rope = {"rope_type": "default"}
  if scaling is not None:
    rope = {
      "rope_type": "llama3",
      "factor": scaling.factor,
      "low_freq_factor": scaling.low_freq_factor,
      "high_freq_factor": scaling.high_freq_factor,
      "original_max_position_embeddings": scaling.original_context,
    }
  if config.attention_bias:
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
    "rope_theta": config.rope_theta,
    "rope_scaling": None if scaling is None else rope,
    "rope_parameters": {"rope_theta": config.rope_theta} | rope,
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
  layers = values.get("layer_types")
  if layers is None:
    used = values.get("use_sliding_window", False)
  else:
    used = any(kind != "full_attention" for kind in layers)
  if used and (values.get("sliding_window") or context) < context:
    _require(path, values, "sliding_window", None)


def _rope(path, values: dict[str, Any]) -> tuple[float, Llama3Scaling | None]:
  """Base and scaling, as transformers 5 writes them or as older ones did."""
  rope = {
    "rope_theta": values.get("rope_theta", 10000.0),
    **(values.get("rope_scaling") or {}),
    **(values.get("rope_parameters") or {}),
  }
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind not in ("default", "llama3"):
    raise UserError(
      f"{path}: rope_type {json.dumps(kind)} is not supported; default and"
      " llama3 are"
    )
  _require(path, rope, "partial_rotary_factor", 1.0)
  try:
    theta = float(rope["rope_theta"])
    if kind == "default":
      return theta, None
    return theta, Llama3Scaling(
      factor=float(rope["factor"]),
      low_freq_factor=float(rope["low_freq_factor"]),
      high_freq_factor=float(rope["high_freq_factor"]),
      original_context=int(rope["original_max_position_embeddings"]),
    )
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(
      f"{path}: the RoPE values are incomplete or not numbers ({error!r})"
    ) from None
