"""Families of models: what the code of each makes of its config.json.

`model_type` names the code in transformers that gives the values of a
config.json their meaning, and here only chooses a row of the table. What the
model computes is then in a `ModelConfig`, as values, and nothing else of the
package asks for a name.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

from s2d_jax.checkpoints.layout import PLAIN, Stored

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
# Keys that change what is computed, with the value at which they do not. A
# family's code reads some of them; the others must stand at this value.
NEUTRAL = {
  "attention_bias": False,
  "mlp_bias": False,
  "partial_rotary_factor": 1.0,
  "no_rope_layers": None,
  "embedding_multiplier": 1.0,
  "attention_multiplier": None,
  "residual_multiplier": 1.0,
  "logits_scaling": 1.0,
  "query_pre_attn_scalar": None,
  "attn_logit_softcapping": None,
  "final_logit_softcapping": None,
  "use_bidirectional_attention": False,
  "quantization_config": None,
}


@dataclasses.dataclass(frozen=True)
class Family:
  """What one model_type stands for.

  Attributes:
    model_class: its class in transformers.
    silent: what it assumes where config.json is silent.
    reads: the keys of `NEUTRAL` that it computes with.
    activation_key: the key of the activation.
    activations: the names of activations, and what is computed for them.
    qkv_bias: whether queries, keys and values always have biases.
    qk_norm: as in `ModelConfig`.
    norms: as in `ModelConfig`.
    scales_embeddings: by the square root of their size.
    windows: which layers have the window: none; all; those that layer_types
      lists. Where that is silent: all but every n-th ("every"), or with
      use_sliding_window those from max_window_layers on ("last") or those
      without RoPE.
    every: that n, or the key that says it.
    theta: base of RoPE where config.json is silent.
    local_theta: the key and the default of another one in layers with a
      window; None: all layers have the same RoPE.
    rope_types: those that it can stretch its frequencies by.
    stored: how its files hold the weights.
  """

  model_class: str
  silent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reads: tuple[str, ...] = ()
  activation_key: str = "hidden_act"
  activations: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: ACTIVATIONS
  )
  qkv_bias: bool = False
  qk_norm: Literal["none", "head", "all"] = "none"
  norms: Literal["before", "after", "both"] = "before"
  scales_embeddings: bool = False
  windows: Literal["none", "all", "every", "last", "without rope"] = "none"
  every: int | str = 1
  theta: float = 10_000.0
  local_theta: tuple[str | None, float] | None = None
  rope_types: tuple[str, ...] = ROPE_TYPES
  stored: Stored = PLAIN


_QWEN = {
  "num_key_value_heads": 32,
  "sliding_window": 4096,
  "max_window_layers": 28,
}
_GEMMA = {
  "hidden_act": "gelu_pytorch_tanh",
  "hidden_activation": "gelu_pytorch_tanh",
  "head_dim": 256,
  "tie_word_embeddings": True,
}
FAMILIES = {
  "llama": Family("LlamaForCausalLM", reads=("attention_bias", "mlp_bias")),
  "mistral": Family(
    "MistralForCausalLM",
    silent={"sliding_window": 4096, "num_key_value_heads": 8},
    windows="all",
  ),
  "qwen2": Family(
    "Qwen2ForCausalLM",
    silent=_QWEN,
    qkv_bias=True,
    windows="last",
  ),
  "qwen3": Family(
    "Qwen3ForCausalLM",
    silent=_QWEN | {"head_dim": 128},
    reads=("attention_bias",),
    qk_norm="head",
    windows="last",
  ),
  "smollm3": Family(
    "SmolLM3ForCausalLM",
    silent={
      "num_key_value_heads": 4,
      "no_rope_layer_interval": 4,
      "tie_word_embeddings": True,
    },
    reads=("attention_bias", "mlp_bias", "no_rope_layers"),
    windows="without rope",
    theta=2_000_000.0,
  ),
  "olmo2": Family(
    "Olmo2ForCausalLM",
    silent={"rms_norm_eps": 1e-5},
    reads=("attention_bias",),
    qk_norm="all",
    norms="after",
  ),
  "olmo3": Family(
    "Olmo3ForCausalLM",
    silent={"rms_norm_eps": 1e-5, "sliding_window": 4096},
    reads=("attention_bias",),
    qk_norm="all",
    norms="after",
    windows="every",
    every=4,
    theta=500_000.0,
    local_theta=(None, 500_000.0),
  ),
  "gemma": Family(
    "GemmaForCausalLM",
    silent=_GEMMA | {"num_key_value_heads": 16},
    reads=("attention_bias",),
    # Its first files say gelu and mean the approximation.
    activations=ACTIVATIONS | {"gelu": "gelu_tanh"},
    scales_embeddings=True,
    stored=Stored(centred=True),
  ),
  "gemma2": Family(
    "Gemma2ForCausalLM",
    silent=_GEMMA
    | {
      "num_key_value_heads": 4,
      "query_pre_attn_scalar": 256,
      "sliding_window": 4096,
      "attn_logit_softcapping": 50.0,
      "final_logit_softcapping": 30.0,
    },
    reads=(
      "attention_bias",
      "query_pre_attn_scalar",
      "attn_logit_softcapping",
      "final_logit_softcapping",
    ),
    activation_key="hidden_activation",
    norms="both",
    scales_embeddings=True,
    windows="every",
    every=2,
    stored=Stored(centred=True),
  ),
  "gemma3_text": Family(
    "Gemma3ForCausalLM",
    silent=_GEMMA
    | {
      "num_key_value_heads": 4,
      "query_pre_attn_scalar": 256,
      "sliding_window": 4096,
      "sliding_window_pattern": 6,
    },
    reads=(
      "attention_bias",
      "query_pre_attn_scalar",
      "final_logit_softcapping",
    ),
    activation_key="hidden_activation",
    qk_norm="head",
    norms="both",
    scales_embeddings=True,
    windows="every",
    every="sliding_window_pattern",
    theta=1_000_000.0,
    local_theta=("rope_local_base_freq", 10_000.0),
    stored=Stored(centred=True),
  ),
  "granite": Family(
    "GraniteForCausalLM",
    silent={"attention_multiplier": 1.0},
    reads=(
      "attention_bias",
      "mlp_bias",
      "embedding_multiplier",
      "attention_multiplier",
      "residual_multiplier",
      "logits_scaling",
    ),
  ),
  "phi3": Family(
    "Phi3ForCausalLM",
    silent={"rms_norm_eps": 1e-5},
    reads=("partial_rotary_factor",),
    windows="all",
    rope_types=("default",),
    stored=Stored(fused=True),
  ),
}

_KINDS_REFUSED = {
  "a mixture of experts": (
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "flex_olmo", "phimoe"),
    *("granitemoe", "granitemoeshared", "gpt_oss", "dbrx", "llama4"),
    *("llama4_text", "deepseek_v2", "deepseek_v3", "deepseek_v32"),
    *("deepseek_v4", "glm4_moe", "minimax_m2", "ernie4_5_moe"),
    *("hunyuan_v1_moe", "smallthinker", "mistral4"),
  ),
  "a hybrid with linear attention or a recurrence": (
    *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe"),
    *("qwen3_5_moe_text", "olmo_hybrid", "granitemoehybrid", "jamba"),
    *("bamba", "zamba", "zamba2", "falcon_h1", "nemotron_h", "lfm2"),
    *("lfm2_moe", "minimax", "kimi_linear", "recurrent_gemma", "mamba"),
    *("mamba2", "falcon_mamba", "rwkv", "xlstm"),
  ),
  "a model whose layers share keys and values": (
    *("gemma3n", "gemma3n_text", "gemma4", "gemma4_text"),
    *("gemma4_unified", "gemma4_unified_text"),
  ),
  "a model that sees pictures": (
    *("gemma3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"),
    *("qwen2_5_omni", "qwen3_omni_moe", "mllama", "llava", "llava_next"),
    *("llava_onevision", "idefics2", "idefics3", "smolvlm", "paligemma"),
    *("mistral3", "pixtral", "phi3_v", "phi4_multimodal", "internvl"),
    *("granite_vision", "llama4_vision", "kimi_vl"),
  ),
}
# model_type → what it is, of those that are refused by name.
REFUSED = {
  model_type: kind
  for kind, model_types in _KINDS_REFUSED.items()
  for model_type in model_types
}
