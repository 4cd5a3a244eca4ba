"""Architecture of a Llama-family decoder, as values: never a model's name."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
  """Llama 3's stretch of the rotary frequencies (`rope_type: llama3`).

  Wavelengths longer than `original_context / low_freq_factor` are divided by
  `factor`, those shorter than `original_context / high_freq_factor` are kept,
  and the band between is interpolated.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_context: int


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and constants of the network.

  Axis letters used throughout the package: B batch, T query length, S key
  length, D embedding, N query heads, K key-value heads, G = N // K query heads
  a key-value head, H head size, F feed-forward, V vocabulary, L layers.
  """

  vocab_size: int
  embed_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  max_context: int
  rope_theta: float
  rms_eps: float
  tie_embeddings: bool
  attention_bias: bool = False
  rope_scaling: Llama3Scaling | None = None

  def __post_init__(self):
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"num_heads={self.num_heads} is not a multiple of"
        f" num_kv_heads={self.num_kv_heads}"
      )
    if self.head_dim % 2:
      raise ValueError(f"head_dim={self.head_dim} must be even for RoPE")

  @property
  def num_params(self) -> int:
    attention = (
      self.embed_dim
      * self.head_dim
      * (2 * self.num_heads + 2 * self.num_kv_heads)
    )
    if self.attention_bias:
      attention += self.head_dim * (self.num_heads + 2 * self.num_kv_heads)
    layer = attention + 3 * self.embed_dim * self.mlp_dim + 2 * self.embed_dim
    tables = 1 if self.tie_embeddings else 2
    return (
      self.num_layers * layer
      + tables * self.vocab_size * self.embed_dim
      + self.embed_dim
    )
