"""config.json of Hugging Face: what a model computes, read and written.

The values decide. `model_type` only chooses the row of the table
(`families.py`) that says what its code makes of them; a value that would be
computed differently here is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
from typing import Any

from etils import epath

from s2d_jax.checkpoints.families import FAMILIES, NEUTRAL, REFUSED, Family
from s2d_jax.checkpoints.layout import Stored
from s2d_jax.errors import UserError
from s2d_jax.models.config import (
  LayerKind,
  LinearScaling,
  Llama3Scaling,
  ModelConfig,
  Rope,
  Scaling,
  YarnScaling,
)

_FULL, _SLIDING = "full_attention", "sliding_attention"
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")
# Keys whose null says that there is none; elsewhere it says nothing.
_NULLABLE = (
  "num_key_value_heads",
  "sliding_window",
  "attn_logit_softcapping",
  "final_logit_softcapping",
)


def read_config(folder: epath.PathLike) -> ModelConfig:
  """The architecture that `folder`/config.json describes.

  Raises:
    UserError: config.json is missing, broken, or asks for something that this
      package does not compute; the message names the key and its value.
  """
  path = epath.Path(folder) / "config.json"
  return from_values(path, read_json(path))


def from_values(path: epath.Path, values: Mapping[str, Any]) -> ModelConfig:
  """The same out of the values of a config.json; errors name `path`."""
  return _config(path, values, _family(path, values))


def read_stored(folder: epath.PathLike) -> Stored:
  """How the weights beside `folder`/config.json hold what the tree holds."""
  path = epath.Path(folder) / "config.json"
  return _family(path, read_json(path)).stored


def config_values(config: ModelConfig) -> dict[str, Any]:
  """The opposite of `read_config`: what config.json says about `config`.

  It is that of the first family whose code computes just this, which is seen
  by reading it back.

  Raises:
    UserError: none does.
  """
  config = dataclasses.replace(config, pattern=_period(config.layer_kinds))
  for name, family in FAMILIES.items():
    values = _values(config, family)
    try:
      again = _config(epath.Path("config.json"), values, family)
    except UserError:
      continue
    if again == config:
      architectures = {"architectures": [family.model_class]}
      return architectures | {"model_type": name} | values
  raise UserError(
    "no class of transformers computes this model, so it cannot be written;"
    f" those of {', '.join(FAMILIES)} were tried"
  )


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


def _family(path: epath.Path, values: Mapping[str, Any]) -> Family:
  name = values.get("model_type")
  if isinstance(name, str) and name in FAMILIES:
    return FAMILIES[name]
  refused = isinstance(name, str) and name in REFUSED
  what = f"{REFUSED[name]}, which is not supported" if refused else "unknown"
  raise UserError(
    f"{path}: model_type {json.dumps(name)} is {what}; models of type"
    f" {', '.join(FAMILIES)} are supported"
  )


class _Keys:
  """The keys of an object in config.json, each of the type it should be."""

  def __init__(self, path: epath.Path, values: Mapping, within: str = ""):
    self.path, self.within = path, within
    self.values = {k: v for k, v in values.items() if v is not None}

  def __contains__(self, key: str) -> bool:
    return key in self.values

  def get(self, key: str, default: Any = None) -> Any:
    return self.values.get(key, default)

  def with_defaults(self, defaults: Mapping[str, Any]) -> _Keys:
    return _Keys(self.path, {**defaults, **self.values}, self.within)

  def with_values(self, values: Mapping[str, Any]) -> _Keys:
    return _Keys(self.path, {**self.values, **values}, self.within)

  def inside(self, key: str) -> _Keys:
    values = self.get(key, {})
    if not isinstance(values, dict):
      raise self.wrong(key, "null or an object with a rope_type")
    return _Keys(self.path, values, f"{self.within}{key}.")

  def size(self, key: str, default: int | None = None, least: int = 1) -> int:
    value = self.get(key, default)
    if type(value) is not int or value < least:
      kind = "positive " if least == 1 else ""
      raise self.wrong(key, f"a {kind}whole number")
    return value

  def number(self, key: str, default: float | None = None) -> float:
    value = self.get(key, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
      raise self.wrong(key, "a positive number")
    return float(value)

  def flag(self, key: str, default: bool = False) -> bool:
    value = self.get(key, default)
    if not isinstance(value, bool):
      raise self.wrong(key, "true or false")
    return value

  def by_layer(self, key: str, layers: int, what: str, allowed) -> list[Any]:
    values = self.get(key)
    if not isinstance(values, list) or len(values) < layers:
      raise self.wrong(key, f"a list of {what}, one for each layer")
    for value in values:
      self.require(key, allowed, value)
    return values[:layers]

  def require(self, key: str, allowed: Sequence[Any], value: Any) -> None:
    if value not in allowed:
      raise UserError(
        f"{self.path}: {self.within}{key} = {json.dumps(value)} is not"
        f" supported, only {' and '.join(map(json.dumps, allowed))}"
      )

  def wrong(self, key: str, should: str) -> UserError:
    value = json.dumps(self.get(key))
    return UserError(
      f"{self.path}: {self.within}{key} is {value} and should be {should}"
    )


def _config(path: epath.Path, values: Mapping, family: Family) -> ModelConfig:
  silent = {
    key: value
    for key, value in family.silent.items()
    if not (key in values and key in _NULLABLE)
  }
  keys = _Keys(path, values).with_defaults(silent)
  for key, neutral in NEUTRAL.items():
    if key not in family.reads:
      keys.require(key, [neutral], keys.get(key, neutral))
  activation = keys.get(family.activation_key, "silu")
  keys.require(family.activation_key, [*family.activations], activation)
  heads, embed_dim = keys.size("num_attention_heads"), keys.size("hidden_size")
  head_dim = keys.size("head_dim", embed_dim // heads)
  with_o = "attention_bias" in family.reads and keys.flag("attention_bias")
  optional = lambda key: keys.number(key) if key in keys else None
  try:
    return ModelConfig(
      vocab_size=keys.size("vocab_size"),
      embed_dim=embed_dim,
      num_layers=keys.size("num_hidden_layers"),
      num_heads=heads,
      num_kv_heads=keys.size("num_key_value_heads", heads),
      head_dim=head_dim,
      mlp_dim=keys.size("intermediate_size"),
      max_context=keys.size("max_position_embeddings"),
      pattern=_period(_layer_kinds(keys, family, head_dim)),
      rms_eps=keys.number("rms_norm_eps", 1e-6),
      tie_embeddings=keys.flag("tie_word_embeddings"),
      qkv_bias=family.qkv_bias or with_o,
      o_bias=with_o,
      mlp_bias="mlp_bias" in family.reads and keys.flag("mlp_bias"),
      qk_norm=family.qk_norm,
      norms=family.norms,
      activation=family.activations[activation],
      embed_scale=embed_dim**0.5
      if family.scales_embeddings
      else keys.number("embedding_multiplier", 1.0),
      query_scale=_query_scale(keys, head_dim),
      residual_scale=keys.number("residual_multiplier", 1.0),
      logit_scale=1 / keys.number("logits_scaling", 1.0),
      attention_cap=optional("attn_logit_softcapping"),
      logit_cap=optional("final_logit_softcapping"),
    )
  except ValueError as error:
    raise UserError(f"{path}: {error}") from None


def _query_scale(keys: _Keys, head_dim: int) -> float | None:
  """None where it is what heads of this size have."""
  usual = head_dim**-0.5
  if "query_pre_attn_scalar" in keys:
    scale = keys.number("query_pre_attn_scalar") ** -0.5
  else:
    scale = keys.number("attention_multiplier", usual)
  return None if scale == usual else scale


def _period(kinds: Sequence[LayerKind]) -> tuple[LayerKind, ...]:
  """The shortest run of layers of which all are repetitions."""
  for length in range(1, len(kinds)):
    if all(kind == kinds[i % length] for i, kind in enumerate(kinds)):
      return tuple(kinds[:length])
  return tuple(kinds)


def _layer_kinds(keys: _Keys, family: Family, head_dim: int) -> list[LayerKind]:
  layers = keys.size("num_hidden_layers")
  turned = _turned(keys, family, layers)
  windowed = _windowed(keys, family, turned)
  window = keys.size("sliding_window") if any(windowed) else None
  full, sliding = _ropes(keys, family, head_dim)
  return [
    LayerKind(
      (sliding if slides else full) if turns else None,
      window if slides else None,
    )
    for turns, slides in zip(turned, windowed, strict=True)
  ]


def _turned(keys: _Keys, family: Family, layers: int) -> list[bool]:
  """Which layers have rotary positions."""
  if "no_rope_layers" not in family.reads:
    return [True] * layers
  if "no_rope_layers" in keys:
    told = keys.by_layer("no_rope_layers", layers, "1 and 0", [1, 0])
    return [bool(turns) for turns in told]
  interval = keys.size("no_rope_layer_interval")
  return [(layer + 1) % interval != 0 for layer in range(layers)]


def _windowed(
  keys: _Keys, family: Family, turned: Sequence[bool]
) -> list[bool]:
  """Which layers have the window."""
  layers, there = len(turned), "sliding_window" in keys
  if family.windows == "all":
    return [there] * layers
  switched = family.windows in ("last", "without rope")
  on = not switched or keys.flag("use_sliding_window")
  if "layer_types" in keys:
    kinds = [_FULL] if family.windows == "none" else [_FULL, _SLIDING]
    told = keys.by_layer("layer_types", layers, "words", kinds)
    if _SLIDING in told and not on:
      raise keys.wrong("use_sliding_window", f"true for {_SLIDING} layers")
    return [kind == _SLIDING for kind in told]
  match family.windows:
    case "every":
      every = family.every
      every = keys.size(every) if isinstance(every, str) else every
      return [(layer + 1) % every != 0 for layer in range(layers)]
    case "last":
      first = keys.size("max_window_layers", least=0)
      return [on and there and layer >= first for layer in range(layers)]
    case "without rope":
      return [on and there and not turns for turns in turned]
  return [False] * layers


def _ropes(keys: _Keys, family: Family, head_dim: int) -> tuple[Rope, Rope]:
  """Of layers without a window, and of those with one.

  Base and scaling stand as transformers 5 writes them or as older ones did.
  Which counts where there are several: `convert_rope_params_to_dict` in
  modeling_rope_utils.py of transformers and in the family's configuration.
  """
  older, newer = keys.inside("rope_scaling"), keys.inside("rope_parameters")
  theta = keys.number("rope_theta", family.theta)
  original = "original_max_position_embeddings"
  context = {original: keys.size("max_position_embeddings")}
  if family.local_theta is None:
    told = older if older.values else newer
    if original in keys:
      told = told.with_values({original: keys.get(original)})
    share = keys.get("partial_rotary_factor", 1.0)
    told = told.with_defaults(
      context | {"rope_theta": theta, "partial_rotary_factor": share}
    )
    rope = _rope(told, family, head_dim)
    return rope, rope
  for kind in newer.values:
    if kind not in (_FULL, _SLIDING):
      kinds = f"an object with {_FULL} and {_SLIDING}"
      raise keys.wrong("rope_parameters", kinds)
  local_key, local_theta = family.local_theta
  if local_key:
    local_theta = keys.number(local_key, local_theta)
  ropes = []
  for told, base in (
    (newer.inside(_FULL).with_values(older.values), theta),
    (newer.inside(_SLIDING), local_theta),
  ):
    # It has no effect there.
    told.require("truncate", [True], told.get("truncate", True))
    told = told.with_defaults(context | {"rope_theta": base})
    ropes.append(_rope(told, family, head_dim))
  return tuple(ropes)


def _rope(told: _Keys, family: Family, head_dim: int) -> Rope:
  kind = told.get("rope_type", told.get("type", "default"))
  if kind not in family.rope_types:
    raise UserError(
      f"{told.path}: rope_type {json.dumps(kind)} is not supported;"
      f" {', '.join(family.rope_types)} may stand there"
    )
  for name, value in told.values.items():
    if isinstance(value, (dict, list)):
      raise told.wrong(name, "the same for all layers")
  share = told.number("partial_rotary_factor", 1.0)
  if "partial_rotary_factor" not in family.reads:
    told.require("partial_rotary_factor", [1.0], share)
  channels = int(head_dim * share)
  return Rope(
    told.number("rope_theta"),
    _scaling(told, kind),
    None if channels == head_dim else channels,
  )


def _scaling(told: _Keys, kind: str) -> Scaling | None:
  needed = {"default": (), "llama3": _LLAMA3}.get(kind, ("factor",))
  if missing := [name for name in needed if name not in told]:
    raise UserError(
      f"{told.path}: {told.within.rstrip('.')} is incomplete: rope_type"
      f" {kind} needs {', '.join(map(repr, missing))} too"
    )
  factors = [told.number(name) for name in needed]
  original = int(told.number("original_max_position_embeddings"))
  match kind:
    case "linear":
      return LinearScaling(*factors)
    case "llama3":
      return Llama3Scaling(*factors, original)
    case "yarn":
      return YarnScaling(
        *factors,
        original,
        _yarn_magnitude(told, *factors),
        told.number("beta_fast", 32.0),
        told.number("beta_slow", 1.0),
        told.flag("truncate", True),
      )
  return None


def _yarn_magnitude(told: _Keys, factor: float) -> float:
  """Equation 22 of Peng et al. 2023, where nothing else is said."""

  def magnitude(scale: float = 1.0) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

  usual = magnitude()
  if "mscale" in told and "mscale_all_dim" in told:
    above, below = told.number("mscale"), told.number("mscale_all_dim")
    usual = magnitude(above) / magnitude(below)
  return told.number("attention_factor", usual)


def _values(config: ModelConfig, family: Family) -> dict[str, Any]:
  """What a config.json of this family says, as near as it can."""
  names = {value: name for name, value in reversed(family.activations.items())}
  values = {
    "vocab_size": config.vocab_size,
    "hidden_size": config.embed_dim,
    "num_hidden_layers": config.num_layers,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    family.activation_key: names[config.activation],
    "max_position_embeddings": config.max_context,
    "rms_norm_eps": config.rms_eps,
    "tie_word_embeddings": config.tie_embeddings,
  }
  usual = config.head_dim**-0.5
  read = {
    "attention_bias": config.o_bias,
    "mlp_bias": config.mlp_bias,
    "no_rope_layers": [
      int(kind.rope is not None) for kind in config.layer_kinds
    ],
    "embedding_multiplier": config.embed_scale,
    "attention_multiplier": config.query_scale or usual,
    "residual_multiplier": config.residual_scale,
    "logits_scaling": _inverse(config.logit_scale),
    "query_pre_attn_scalar": round((config.query_scale or usual) ** -2),
    "attn_logit_softcapping": config.attention_cap,
    "final_logit_softcapping": config.logit_cap,
  }
  values |= {key: read[key] for key in family.reads if key in read}
  values |= _window_values(config, family) | _rope_values(config, family)
  return values


def _inverse(scale: float) -> float:
  """The short decimal of which it is the inverse, if there is one."""
  short = float(f"{1 / scale:.9g}")
  return short if 1 / short == scale else 1 / scale


def _window_values(config: ModelConfig, family: Family) -> dict[str, Any]:
  """Older versions of transformers know other keys than layer_types."""
  windows = [kind.window for kind in config.layer_kinds]
  window = next(filter(None, windows), None)
  if family.windows == "none":
    return {}
  if family.windows == "all":
    return {"sliding_window": window}
  values = {
    "layer_types": [_FULL if own is None else _SLIDING for own in windows],
    "sliding_window": window or family.silent.get("sliding_window"),
  }
  if family.windows == "every":
    return values
  values["use_sliding_window"] = window is not None
  if family.windows == "last":
    values["max_window_layers"] = sum(own is None for own in windows)
  return values


def _rope_values(config: ModelConfig, family: Family) -> dict[str, Any]:
  """RoPE twice, as transformers 5 and as transformers 4 look for it."""

  def of_kind(sliding: bool, theta: float) -> Rope:
    ropes = [
      kind.rope
      for kind in config.layer_kinds
      if kind.rope and (kind.window is not None) == sliding
    ]
    return ropes[0] if ropes else Rope(theta)

  if family.local_theta is None:
    ropes = [rope for rope in config.ropes if rope] or [Rope(family.theta)]
    told = _rope_parameters(ropes[0], config, family)
    values = {"rope_parameters": told}
  else:
    local_key, local_theta = family.local_theta
    told = _rope_parameters(of_kind(False, family.theta), config, family)
    local = _rope_parameters(of_kind(True, local_theta), config, family)
    values = {"rope_parameters": {_FULL: told, _SLIDING: local}}
    if local_key:
      values[local_key] = local["rope_theta"]
  outside = {"rope_theta": told["rope_theta"]}
  if "partial_rotary_factor" in told:
    outside["partial_rotary_factor"] = told["partial_rotary_factor"]
  scaling = {key: told[key] for key in told if key not in outside}
  default = scaling == {"rope_type": "default"}
  return outside | {"rope_scaling": None if default else scaling} | values


def _rope_parameters(
  rope: Rope, config: ModelConfig, family: Family
) -> dict[str, Any]:
  values = {"rope_theta": rope.theta}
  if "partial_rotary_factor" in family.reads:
    channels = rope.channels or config.head_dim
    values["partial_rotary_factor"] = channels / config.head_dim
  match rope.scaling:
    case None:
      scaling = {"rope_type": "default"}
    case LinearScaling(factor):
      scaling = {"rope_type": "linear", "factor": factor}
    case Llama3Scaling(factor, low, high, original):
      scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
      }
    case YarnScaling(factor, original, magnitude, fast, slow, truncate):
      scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "attention_factor": magnitude,
        "beta_fast": fast,
        "beta_slow": slow,
        "truncate": truncate,
      }
  return values | scaling
