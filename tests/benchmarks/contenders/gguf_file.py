"""A Hugging Face Llama as an unquantised GGUF file, for llama.cpp."""

from __future__ import annotations

import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file

_NAMES = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
  "input_layernorm": "attn_norm",
  "post_attention_layernorm": "ffn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
}
_NORMAL, _CONTROL = 1, 3  # types of tokens
_TYPES = {
  "float32": gguf.GGMLQuantizationType.F32,
  "bfloat16": gguf.GGMLQuantizationType.BF16,
}


def convert(folder: str, dtype: str) -> pathlib.Path:
  """The file beside the folder, written at its first use."""
  source = pathlib.Path(folder)
  path = source.parent / f"{source.name}-{dtype}.gguf"
  if not path.exists():
    temporary = path.with_suffix(".tmp")
    write(source, temporary, dtype)
    temporary.rename(path)
  return path


def write(source: pathlib.Path, path: pathlib.Path, dtype: str) -> None:
  config = json.loads((source / "config.json").read_text())
  writer = gguf.GGUFWriter(str(path), "llama")
  _write_sizes(writer, config)
  _write_tokens(writer, source, config)
  for file in sorted(source.glob("*.safetensors")):
    for name, tensor in load_file(file).items():
      _write_tensor(writer, config, name, tensor, _TYPES[dtype])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _write_sizes(writer, config) -> None:
  heads = config["num_attention_heads"]
  writer.add_block_count(config["num_hidden_layers"])
  writer.add_context_length(config["max_position_embeddings"])
  writer.add_embedding_length(config["hidden_size"])
  writer.add_feed_forward_length(config["intermediate_size"])
  writer.add_head_count(heads)
  writer.add_head_count_kv(config["num_key_value_heads"])
  writer.add_rope_freq_base(config["rope_theta"])
  writer.add_rope_dimension_count(_head_dim(config))
  writer.add_key_length(_head_dim(config))
  writer.add_value_length(_head_dim(config))
  writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
  writer.add_vocab_size(config["vocab_size"])


def _write_tokens(writer, source: pathlib.Path, config) -> None:
  """The vocabulary, for the end token alone: prompts come as ids."""
  tokenizer = json.loads((source / "tokenizer.json").read_text())
  vocabulary = tokenizer["model"]["vocab"] | {
    token["content"]: token["id"] for token in tokenizer["added_tokens"]
  }
  special = {t["id"] for t in tokenizer["added_tokens"] if t["special"]}
  by_id = {index: token for token, index in vocabulary.items()}
  ids = range(config["vocab_size"])
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre("default")
  writer.add_token_list([by_id.get(i, f"<unused{i}>") for i in ids])
  writer.add_token_types([_CONTROL if i in special else _NORMAL for i in ids])
  merges = tokenizer["model"]["merges"]
  writer.add_token_merges(
    [m if isinstance(m, str) else " ".join(m) for m in merges]
  )
  writer.add_eos_token_id(config["eos_token_id"])
  writer.add_add_bos_token(False)


def _write_tensor(writer, config, name: str, tensor, kind) -> None:
  parts = name.removesuffix(".weight").split(".")
  if parts[:2] == ["model", "layers"]:
    known = ".".join(parts[3:])
    new = f"blk.{parts[2]}.{_NAMES[known]}.weight"
  else:
    known = ".".join(parts)
    new = f"{_NAMES[known]}.weight"
  tensor = tensor.astype(np.float32)
  if known == "self_attn.q_proj":
    tensor = _interleaved(tensor, config["num_attention_heads"])
  elif known == "self_attn.k_proj":
    tensor = _interleaved(tensor, config["num_key_value_heads"])
  if tensor.ndim == 1:  # norms stay float32
    writer.add_tensor(new, tensor)
  else:
    packed = gguf.quants.quantize(tensor, kind)
    writer.add_tensor(new, packed, raw_dtype=kind)


def _interleaved(kernel: np.ndarray, heads: int) -> np.ndarray:
  """Pairs that are rotated together side by side, as llama.cpp has them."""
  rows, columns = kernel.shape
  halves = kernel.reshape(heads, 2, rows // heads // 2, columns)
  return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)


def _head_dim(config) -> int:
  heads = config["num_attention_heads"]
  return config.get("head_dim") or config["hidden_size"] // heads
