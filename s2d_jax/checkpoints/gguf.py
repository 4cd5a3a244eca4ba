"""GGUF files of the families that llama.cpp has too.

A GGUF file holds the tensors of a Hugging Face folder and the values of its
config.json under shorter names, so both are translated, and `layout` and
`hf_config` do the rest. What llama.cpp's converter changes (`conversion/` of
ggml-org/llama.cpp) stands here: it adds the one to Gemma's norms, and where
llama.cpp turns channels 2i and 2i + 1 of a head together it reorders the rows
of q and k, since Hugging Face turns i and i + H/2.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from etils import epath
from jax.sharding import Mesh
import numpy as np

from s2d_jax.checkpoints import hf_config, layout, stream
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.checkpoints.gguf_tokenizer import END_NAMES
from s2d_jax.checkpoints.layout import Leaf, Stored, Tensor
from s2d_jax.errors import UserError
from s2d_jax.models.config import Llama3Scaling, ModelConfig
from s2d_jax.models.params import Params
from s2d_jax.models.rope import rope_frequencies

# general.architecture → model_type.
FAMILIES = {
  "llama": "llama",
  "qwen2": "qwen2",
  "qwen3": "qwen3",
  "smollm3": "smollm3",
  "olmo2": "olmo2",
  "gemma": "gemma",
  "gemma2": "gemma2",
  "gemma3": "gemma3_text",
  "granite": "granite",
  "phi3": "phi3",
}
_REORDERED = ("llama", "smollm3", "granite")
# Without "{architecture}." in front → in config.json.
NUMBERS = {
  "rope.freq_base": "rope_theta",
  "rope.freq_base_swa": "rope_local_base_freq",
  "attention.layer_norm_rms_epsilon": "rms_norm_eps",
  "attention.scale": "attention_multiplier",
  "embedding_scale": "embedding_multiplier",
  "residual_scale": "residual_multiplier",
  "logit_scale": "logits_scaling",
  "attn_logit_softcapping": "attn_logit_softcapping",
  "final_logit_softcapping": "final_logit_softcapping",
}
SCALING = {
  "rope.scaling.factor": "factor",
  "rope.scaling.attn_factor": "attention_factor",
  "rope.scaling.yarn_beta_fast": "beta_fast",
  "rope.scaling.yarn_beta_slow": "beta_slow",
  "rope.scaling.original_context_length": "original_max_position_embeddings",
}
_NAMES = {
  "embed": "token_embd",
  "final_norm": "output_norm",
  "head": "output",
  "attention_norm": "attn_norm",
  "attention_norm_after": "post_attention_norm",
  "attention/q": "attn_q",
  "attention/k": "attn_k",
  "attention/v": "attn_v",
  "attention/o": "attn_output",
  "attention/q_norm": "attn_q_norm",
  "attention/k_norm": "attn_k_norm",
  "mlp_norm": "ffn_norm",
  "mlp_norm_after": "post_ffw_norm",
  "mlp/gate": "ffn_gate",
  "mlp/up": "ffn_up",
  "mlp/down": "ffn_down",
}
_FUSED_NAMES = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
ROPE_FACTORS = "rope_freqs.weight"
_END_KEYS = [f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom")]


def read_config(path: epath.PathLike) -> ModelConfig:
  """The architecture that a GGUF file describes.

  Raises:
    UserError: not a GGUF file, truncated, of another architecture, or with a
      value that this package does not compute; it is named.
  """
  return config_of(GGUFFile(path))


def read_stored(path: epath.PathLike) -> Stored:
  """How the weights of a GGUF file hold what the tree holds."""
  return _stored(GGUFFile(path))


def read_generation_config(path: epath.PathLike) -> dict[str, Any]:
  """The tokens that end a reply, as transformers has them: "eos_token_id"."""
  fields = GGUFFile(path).fields
  ends = {fields[key] for key in _END_KEYS if key in fields}
  tokens = fields.get("tokenizer.ggml.tokens", ())
  ends.update(i for i, token in enumerate(tokens) if token in END_NAMES)
  return {"eos_token_id": sorted(ends)}


def model_files(path: epath.PathLike) -> list[epath.Path]:
  """All that say what the model computes."""
  return [epath.Path(path)]


def read_params(
  path: epath.PathLike,
  config: ModelConfig,
  mesh: Mesh,
  dtype: str,
  transform: stream.Transform | None = None,
) -> Params:
  """Reads the tensors of a GGUF file into arrays laid out over `mesh`.

  Beside them a host holds one leaf, because tensors are decoded whole.

  Raises:
    UserError: a tensor is missing, truncated, of the wrong shape or type, or
      belongs to something that this package does not compute; it is named.
  """
  source = open_params(path, config)
  return stream.load_files(config, mesh, dtype, source, transform)


def open_params(path: epath.PathLike, config: ModelConfig) -> stream.Source:
  """What `read_params` reads, to be read later; raises what it does."""
  file = GGUFFile(path)
  stored = _stored(file)
  _check_tensors(file, config, stored)

  @functools.lru_cache(maxsize=1)  # the shards of a leaf follow one another
  def decoded(leaf: Leaf, first: int, stop: int, dtype: np.dtype) -> np.ndarray:
    """Rows of a leaf that are whole layers, or all of a leaf without layers."""
    whole = np.empty((stop - first, *leaf.shape[1:]), dtype)
    index = [slice(first, stop), *[slice(None)] * (whole.ndim - 1)]
    for tensor_slice in layout.tensor_slices(leaf, index, whole):
      tensor = file.tensor(gguf_name(tensor_slice.tensor))
      rows = tensor[tensor_slice.window]
      if is_reordered(_architecture(file), leaf.path):
        rows = _half_split(rows, config.head_dim)
      tensor_slice.view[...] = rows
    return whole

  def fill(leaf: Leaf, index: Sequence[slice], shard: np.ndarray) -> None:
    rows, *others = index
    stacked = leaf.tensors[0].layer is not None
    first, stop, _ = (rows if stacked else slice(None)).indices(leaf.shape[0])
    whole = decoded(leaf, first, stop, shard.dtype)
    shard[...] = whole[(slice(None) if stacked else rows, *others)]

  return stream.Source(fill, stored)


def gguf_name(tensor: Tensor) -> str:
  """layers/attention/q/kernel of layer 3 → blk.3.attn_q.weight."""
  stem, _, leaf = tensor.path.removeprefix("layers/").rpartition("/")
  name = _NAMES[stem]
  for fused, short in _FUSED_NAMES.items():
    name = short if fused in tensor.name else name
  kind = "bias" if leaf == "bias" else "weight"
  prefix = "" if tensor.layer is None else f"blk.{tensor.layer}."
  return f"{prefix}{name}.{kind}"


def _stored(file: GGUFFile) -> Stored:
  return Stored(fused="blk.0.attn_qkv.weight" in file.tensors)


def is_reordered(architecture: str, path: str) -> bool:
  """Whether pairs that turn together are side by side in this leaf's tensor."""
  return architecture in _REORDERED and path.split("/")[-2] in ("q", "k")


def _architecture(file: GGUFFile) -> str:
  return file.fields.get("general.architecture")


def _half_split(rows: np.ndarray, head_dim: int) -> np.ndarray:
  """Undoes llama.cpp's order of the rows of each head, pairs side by side."""
  pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
  return pairs.swapaxes(1, 2).reshape(rows.shape)


def side_by_side(rows: np.ndarray, head_dim: int) -> np.ndarray:
  """The opposite: channels i and i + H/2 of each head become 2i and 2i + 1."""
  halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
  return halves.swapaxes(1, 2).reshape(rows.shape)


def config_of(file: GGUFFile) -> ModelConfig:
  architecture = _architecture(file)
  if architecture not in FAMILIES:
    raise UserError(
      f"{file.path}: architecture {architecture!r} is not supported;"
      f" {', '.join(FAMILIES)} are"
    )
  config = hf_config.from_values(file.path, _values(file))
  # They are where their tensors are, whatever the family has.
  biased = lambda name: f"blk.0.{name}.bias" in file.tensors
  config = dataclasses.replace(
    config,
    qkv_bias=biased("attn_q"),
    o_bias=biased("attn_output"),
    mlp_bias=biased("ffn_up"),
  )
  if ROPE_FACTORS in file.tensors:
    config = _with_factors(file, config)
  return config


def _values(file: GGUFFile) -> dict[str, Any]:
  """What config.json would say."""
  architecture = _architecture(file)

  def value(key: str, kind: type, default: Any = None) -> Any:
    found = file.fields.get(f"{architecture}.{key}", default)
    if not isinstance(found, kind) or (kind is int and found < 1):
      raise UserError(
        f"{file.path}: {architecture}.{key} is {found!r} and should be"
        f" {'a positive whole number' if kind is int else 'a number'}"
      )
    return found

  def numbers(names: dict[str, str]) -> dict[str, float]:
    there = {key for key in names if f"{architecture}.{key}" in file.fields}
    return {
      names[key]: _float32(value(key, (int, float))) for key in sorted(there)
    }

  heads = value("attention.head_count", int)
  embed_dim = value("embedding_length", int)
  head_dim = value("attention.key_length", int, embed_dim // heads)
  layers = value("block_count", int)
  turned = value("rope.dimension_count", int, head_dim)
  _check_fields(file, head_dim)
  embedding = file.tensors.get("token_embd.weight")
  values = {
    "model_type": FAMILIES[architecture],
    "vocab_size": embedding.shape[0] if embedding else 0,
    "hidden_size": embed_dim,
    "num_hidden_layers": layers,
    "num_attention_heads": heads,
    "num_key_value_heads": value("attention.head_count_kv", int, heads),
    "head_dim": head_dim,
    "intermediate_size": value("feed_forward_length", int),
    "max_position_embeddings": value("context_length", int),
    "tie_word_embeddings": "output.weight" not in file.tensors,
    "rope_theta": 10_000.0,
    **numbers(NUMBERS),
  }
  if turned != head_dim:
    values["partial_rotary_factor"] = turned / head_dim
  if architecture in ("gemma2", "gemma3"):
    # The file is silent; llama.cpp knows the largest by their layers.
    largest = {"gemma2": 46, "gemma3": 62}[architecture] == layers
    squared = embed_dim // heads if largest else head_dim
    values["query_pre_attn_scalar"] = squared
  kind = file.fields.get(f"{architecture}.rope.scaling.type", "none")
  if kind != "none":
    values["rope_scaling"] = {"rope_type": kind} | numbers(SCALING)
  return values | _window_values(file, layers)


def _window_values(file: GGUFFile, layers: int) -> dict[str, Any]:
  """An OLMo with windows is of the third generation."""
  architecture = _architecture(file)
  told = lambda key: file.fields.get(f"{architecture}.attention.{key}")
  window = told("sliding_window") or None
  if architecture == "olmo2" and window is not None:
    return {"model_type": "olmo3"} | _listed(told, window, 4, layers)
  if architecture == "gemma2":
    return _listed(told, window or 4096, 2, layers)
  if architecture == "gemma3" and window is not None:
    return _listed(told, window, 6, layers)
  if architecture == "gemma3":
    return {"layer_types": ["full_attention"] * layers}
  return {"sliding_window": window}


def _listed(told, window: int, usual: int, layers: int) -> dict[str, Any]:
  """The pattern is a flag for each layer, or all but every n-th have it."""
  pattern = told("sliding_window_pattern") or usual
  if isinstance(pattern, int):
    pattern = [(layer + 1) % pattern != 0 for layer in range(layers)]
  kinds = {True: "sliding_attention", False: "full_attention"}
  return {
    "sliding_window": window,
    "layer_types": [kinds[bool(slides)] for slides in pattern],
  }


def _check_fields(file: GGUFFile, head_dim: int) -> None:
  """Refuses values that nothing in config.json would stand for."""
  architecture = _architecture(file)
  allowed = {
    "attention.value_length": (None, head_dim),
    "expert_count": (None, 0),
  }
  if architecture != "phi3":
    allowed["rope.dimension_count"] = (None, head_dim)
  if architecture == "granite":  # its switch for RoPE
    allowed["rope.scaling.finetuned"] = (None, True)
  for key in file.fields:
    key = key.removeprefix(f"{architecture}.")
    known = key in (*SCALING, "rope.scaling.type", "rope.scaling.finetuned")
    if key.startswith("rope.scaling.") and not known:
      allowed[key] = (None,)
  if architecture not in ("olmo2", "gemma2", "gemma3", "phi3"):
    allowed["attention.sliding_window"] = (None, 0)
  for key, only in allowed.items():
    found = file.fields.get(f"{architecture}.{key}")
    if found not in only:
      raise UserError(
        f"{file.path}: {architecture}.{key} = {found!r} is not supported, only"
        f" {only[-1]!r}"
      )


def _float32(value: float) -> float:
  """The short decimal that was stored: 1e-5, not 9.999999747378752e-06."""
  return float(str(np.float32(value)))


def _with_factors(file: GGUFFile, config: ModelConfig) -> ModelConfig:
  """With the scaling whose factors the file holds, one a pair of channels.

  Of Llama 3's four constants only `factor` differs among the published models,
  and it is the largest of the factors; all of them are then compared.
  """
  factors = file.tensor(ROPE_FACTORS)
  scaling = Llama3Scaling(
    factor=float(factors.max()),
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_context=8192,
  )
  (rope,) = filter(None, config.ropes)
  scaled = dataclasses.replace(rope, scaling=scaling)
  speeds = [rope_frequencies(r, config.rotary_channels) for r in (rope, scaled)]
  derived = speeds[0] / speeds[1]
  if factors.shape != derived.shape or not np.allclose(
    factors, derived, rtol=1e-4
  ):
    raise UserError(
      f"{file.path}: tensor {ROPE_FACTORS} is not the frequency scaling of"
      " Llama 3 (factors 1 and 4, original context 8192), the only one that"
      " is computed here"
    )
  pattern = tuple(
    dataclasses.replace(kind, rope=scaled if kind.rope else None)
    for kind in config.pattern
  )
  return dataclasses.replace(config, pattern=pattern)


def _check_tensors(file: GGUFFile, config: ModelConfig, stored: Stored) -> None:
  wanted = {
    gguf_name(parts[0]): parts[0].shape
    for parts in layout.tensors(config, stored).values()
  }
  if missing := sorted(set(wanted) - set(file.tensors)):
    raise UserError(f"{file.path}: tensor {missing[0]} is missing")
  if surplus := sorted(set(file.tensors) - set(wanted) - {ROPE_FACTORS}):
    raise UserError(
      f"{file.path}: tensor {surplus[0]} belongs to something that this"
      " package does not compute, so the model would not be the same"
    )
  for name, shape in wanted.items():
    layout.check_shape(file.path, name, file.tensors[name].shape, shape)
