"""Writes a model as one GGUF file, for llama.cpp.

What llama.cpp's own converter does (`conversion/` of ggml-org/llama.cpp), from
the tables by which `gguf` reads its files. A header is read back before a
weight is written: only what would be the same model is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath
from gguf import (
  GGML_QUANT_SIZES,
  GGMLQuantizationType,
  GGUFWriter,
  LlamaFileType,
  quants,
  size_label,
)
from jaxtyping import Float
import numpy as np

from s2d_jax.checkpoints import export, gguf, gguf_tokenizer, layout
from s2d_jax.checkpoints.gguf_file import TensorInfo
from s2d_jax.checkpoints.hf_config import config_values
from s2d_jax.checkpoints.layout import Stored, Tensor
from s2d_jax.errors import UserError
from s2d_jax.models.config import Llama3Scaling, ModelConfig
from s2d_jax.models.params import Params
from s2d_jax.models.rope import rope_frequencies
from s2d_jax.progress import Progress

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase

_F32, _F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
_TYPES = {"f16": _F16, "q8_0": GGMLQuantizationType.Q8_0}
KINDS = tuple(_TYPES)
_FILE_TYPES = {
  "f16": LlamaFileType.MOSTLY_F16,
  "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
_QUANTIZATION_VERSION = 2  # of the blocks of ggml
# model_type → general.architecture.
_ARCHITECTURES = {family: name for name, family in gguf.FAMILIES.items()}
_ARCHITECTURES |= {"mistral": "llama", "olmo3": "olmo2"}
# llama.cpp has biases of all kernels in these only.
_BIASED = ("llama", "granite")


class Header(NamedTuple):
  """What the reader of a GGUF file asks it for, before there is a file."""

  path: str
  fields: dict[str, Any]
  tensors: dict[str, TensorInfo]
  factors: Float[np.ndarray, " pairs"] | None  # of the frequencies

  def tensor(self, name: str) -> np.ndarray:
    assert name == gguf.ROPE_FACTORS
    return self.factors


def write(
  path: epath.PathLike,
  config: ModelConfig,
  params: Params,
  tokenizer: PreTrainedTokenizerBase,
  kind: str = "f16",
  end_tokens: Sequence[int] = (),
) -> None:
  """Writes a file that llama.cpp loads, complete or not at all.

  Args:
    path: a local file that does not exist yet.
    config: the architecture.
    params: numpy or jax arrays, or leaves in files (`stream.LazyLeaf`); one
      tensor is held a second time.
    tokenizer: written along with its chat template.
    kind: of the matrices: "f16", or "q8_0" for blocks of 32 bytes that share a
      factor. Vectors are float32.
    end_tokens: those that end a reply.

  Raises:
    UserError: the file exists; llama.cpp would compute another model or cut
      text otherwise; or a weight is beyond what F16 holds.
  """
  path = epath.Path(path)
  plan = header(config, kind)
  told = gguf_tokenizer.write(tokenizer, config.vocab_size, end_tokens)
  general = {
    "general.type": "model",
    "general.name": path.stem,
    "general.size_label": size_label(config.num_params, 0, 0, 0),
    "general.file_type": int(_FILE_TYPES[kind]),
    "general.quantization_version": _QUANTIZATION_VERSION,
  }
  with export.new_file(path) as new:
    writer = GGUFWriter(new, plan.fields["general.architecture"])
    for key, value in (general | plan.fields | told).items():
      if key != "general.architecture":  # the writer has it
        _add(writer, key, value)
    for name, info in plan.tensors.items():
      writer.add_tensor_info(
        name, info.shape, np.dtype(np.float32), info.size, info.type
      )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with Progress("write", config.num_params, "weights") as progress:
      for name, rows in _rows(plan, config, params):
        writer.write_tensor_data(_encoded(name, rows, plan.tensors[name].type))
        progress.advance(rows.size)
    writer.close()


def header(config: ModelConfig, kind: str) -> Header:
  """What stands before the weights; `kind` as in `write`.

  Raises:
    UserError: llama.cpp would compute another model.
  """
  values = config_values(config)
  architecture = _ARCHITECTURES[values["model_type"]]
  fields = {
    f"{architecture}.{key}": value
    for key, value in _fields(architecture, config, values).items()
  }
  fields["general.architecture"] = architecture
  tensors = {
    gguf.gguf_name(parts[0]): _info(parts[0].shape, _TYPES[kind])
    for parts in _tensors(architecture, config)
  }
  factors = _rope_factors(config)
  if factors is not None:
    tensors[gguf.ROPE_FACTORS] = _info(factors.shape, _TYPES[kind])
  found = Header("as one", fields, tensors, factors)
  try:
    again = gguf.config_of(found)
  except UserError as error:
    raise UserError(
      f"this model cannot be a GGUF file ({error}); leave out --gguf"
    ) from None
  different = [
    field.name
    for field in dataclasses.fields(config)
    if getattr(again, field.name) != getattr(config, field.name)
  ]
  if different := different + _not_computed(architecture, config):
    raise UserError(
      f"GGUF's {architecture} cannot say what this model has as"
      f" {', '.join(different)}, so llama.cpp would compute another; leave out"
      " --gguf"
    )
  return found


def _not_computed(architecture: str, config: ModelConfig) -> list[str]:
  """What a file can say, but llama.cpp has no place for."""
  found = []
  if architecture not in _BIASED:
    biases = ("o_bias", "mlp_bias")
    found += [name for name in biases if getattr(config, name)]
  of_heads = config.num_heads * config.head_dim
  if architecture == "phi3" and of_heads != config.embed_dim:
    found.append("head_dim")
  return found


def _fields(
  architecture: str, config: ModelConfig, values: Mapping[str, Any]
) -> dict[str, Any]:
  """The keys of an architecture; `values` are those of its config.json."""
  fields = {
    "vocab_size": config.vocab_size,
    "context_length": config.max_context,
    "embedding_length": config.embed_dim,
    "block_count": config.num_layers,
    "feed_forward_length": config.mlp_dim,
    "attention.head_count": config.num_heads,
    "attention.head_count_kv": config.num_kv_heads,
    "rope.dimension_count": config.rotary_channels,
  }
  if config.head_dim != config.embed_dim // config.num_heads:
    sizes = ("attention.key_length", "attention.value_length")
    fields |= dict.fromkeys(sizes, config.head_dim)
  fields |= {
    key: float(values[name])
    for key, name in gguf.NUMBERS.items()
    if values.get(name) is not None
  }
  return (
    fields
    | _scaling_fields(values["rope_scaling"] or {})
    | _window_fields(architecture, config)
  )


def _scaling_fields(scaling: Mapping[str, Any]) -> dict[str, Any]:
  """Llama 3's is a tensor. The magnitude of YaRN is left to llama.cpp."""
  if scaling.get("rope_type") not in ("linear", "yarn"):
    return {}
  fields = {
    key: scaling[name]
    for key, name in gguf.SCALING.items()
    if name in scaling and name != "attention_factor"
  }
  return fields | {"rope.scaling.type": scaling["rope_type"]}


def _window_fields(architecture: str, config: ModelConfig) -> dict[str, Any]:
  """Which layers of a Gemma have it llama.cpp knows by itself.

  In a Phi-3 it switches the window off; 0 says that there is none.
  """
  window = next(filter(None, config.windows), None)
  if architecture == "phi3":
    return {"attention.sliding_window": 0}
  if architecture not in ("olmo2", "gemma2", "gemma3") or window is None:
    return {}
  fields = {"attention.sliding_window": window}
  if architecture == "olmo2":
    fields["attention.sliding_window_pattern"] = [
      kind.window is not None for kind in config.layer_kinds
    ]
  return fields


def _rope_factors(config: ModelConfig) -> Float[np.ndarray, " pairs"] | None:
  """What Llama 3's scaling divides each frequency by."""
  ropes = [rope for rope in config.ropes if rope]
  if not ropes or not isinstance(ropes[0].scaling, Llama3Scaling):
    return None
  plain = dataclasses.replace(ropes[0], scaling=None)
  channels = config.rotary_channels
  whole = rope_frequencies(plain, channels)
  factors = whole / rope_frequencies(ropes[0], channels)
  return np.asarray(factors, np.float32)


def _tensors(architecture: str, config: ModelConfig) -> list[list[Tensor]]:
  stored = Stored(fused=architecture == "phi3")
  return list(layout.tensors(config, stored).values())


def _info(shape: tuple[int, ...], kind: GGMLQuantizationType) -> TensorInfo:
  """Vectors, and rows that blocks do not fill, are kept in another way."""
  block, _ = GGML_QUANT_SIZES[kind]
  if len(shape) == 1:
    kind = _F32
  elif shape[-1] % block:
    kind = _F16
  block, block_bytes = GGML_QUANT_SIZES[kind]
  return TensorInfo(shape, kind, 0, math.prod(shape) // block * block_bytes)


def _rows(
  plan: Header, config: ModelConfig, params: Params
) -> Iterator[tuple[str, np.ndarray]]:
  """The tensors one by one, in the order of the header."""
  architecture = plan.fields["general.architecture"]
  for parts in _tensors(architecture, config):
    rows = layout.extract(params, parts, np.float32)
    if gguf.is_reordered(architecture, parts[0].path):
      rows = gguf.side_by_side(rows, config.head_dim)
    yield gguf.gguf_name(parts[0]), rows
  if plan.factors is not None:
    yield gguf.ROPE_FACTORS, plan.factors


def _encoded(
  name: str, rows: np.ndarray, kind: GGMLQuantizationType
) -> np.ndarray:
  if kind == _F16 and np.abs(rows).max() > np.finfo(np.float16).max:
    raise UserError(
      f"tensor {name} has weights of up to {np.abs(rows).max():.3g}, and F16"
      " ends at 65504; write --gguf=q8_0, or a folder"
    )
  return quants.quantize(rows, kind)


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
  match value:
    case bool():
      writer.add_bool(key, value)
    case int():
      writer.add_uint32(key, value)
    case float():
      writer.add_float32(key, value)
    case str():
      writer.add_string(key, value)
    case list():
      writer.add_array(key, value)
