"""Architecture of a Llama-family decoder, as values: never a model's name."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class LinearScaling:
  """All rotary frequencies divided by `factor` (`rope_type: linear`)."""

  factor: float


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
class YarnScaling:
  """YaRN (Peng et al. 2023, `rope_type: yarn`).

  Pairs of channels that turn more than `beta_fast` times in the original
  context are kept, those that turn less than `beta_slow` times are divided by
  `factor`, with a ramp over the pairs between; rotated queries and keys are
  multiplied by `magnitude`.
  """

  factor: float
  original_context: int
  magnitude: float
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  truncate: bool = True  # the ramp begins and ends at whole pairs


Scaling = LinearScaling | Llama3Scaling | YarnScaling


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions of a kind of layers.

  Attributes:
    theta: base of the frequencies.
    scaling: how they are stretched, if they are.
    channels: how many of a head turn, the first ones; None: all.
  """

  theta: float
  scaling: Scaling | None = None
  channels: int | None = None


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """What may differ from layer to layer.

  Attributes:
    rope: rotary positions; None: the layer knows no positions.
    window: how many tokens one sees, itself and those right before it; None:
      all of them.
  """

  rope: Rope | None
  window: int | None = None


def alike(theta: float, scaling: Scaling | None = None) -> tuple[LayerKind]:
  """The pattern of a model whose layers all turn alike and see everything."""
  return (LayerKind(Rope(theta, scaling)),)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and constants of the network.

  Axis letters used throughout the package: B batch, T query length, S key
  length, D embedding, N query heads, K key-value heads, G = N // K query heads
  a key-value head, H head size, F feed-forward, V vocabulary, L layers.

  Attributes:
    pattern: the kinds of layers, over and over: layer i is of kind
      pattern[i % len(pattern)].
    qkv_bias: whether queries, keys and values have biases.
    o_bias: whether the attention's output has one.
    mlp_bias: whether the three products of the feed-forward have.
    qk_norm: RMS norm of queries and keys before they turn: of each head with
      one scale for all, or of all heads together.
    norms: where the residual branches have RMS norms: before, after, or both.
    activation: of the gate.
    embed_scale: factor of the embeddings, not of the head that is tied to them.
    query_scale: factor of the scores; None: H^-1/2.
    residual_scale: factor of what a branch adds to the residual stream.
    logit_scale: factor of the logits.
    attention_cap: scores s become cap · tanh(s / cap).
    logit_cap: and so do logits.
  """

  vocab_size: int
  embed_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  max_context: int
  pattern: tuple[LayerKind, ...]
  rms_eps: float
  tie_embeddings: bool
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  qk_norm: Literal["none", "head", "all"] = "none"
  norms: Literal["before", "after", "both"] = "before"
  activation: Literal["silu", "gelu_tanh"] = "silu"
  embed_scale: float = 1.0
  query_scale: float | None = None
  residual_scale: float = 1.0
  logit_scale: float = 1.0
  attention_cap: float | None = None
  logit_cap: float | None = None

  def __post_init__(self):
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"num_heads={self.num_heads} is not a multiple of"
        f" num_kv_heads={self.num_kv_heads}"
      )
    turned = {rope.channels or self.head_dim for rope in self.ropes if rope}
    if len(turned) > 1:
      raise ValueError(f"layers turn different numbers of channels: {turned}")
    if self.rotary_channels % 2:
      what = "head_dim" if turned == {self.head_dim} else "rotary channels"
      raise ValueError(f"{what}={self.rotary_channels} must be even for RoPE")

  @property
  def layer_kinds(self) -> tuple[LayerKind, ...]:
    """Of each layer, its kind."""
    return tuple(
      self.pattern[layer % len(self.pattern)]
      for layer in range(self.num_layers)
    )

  @property
  def ropes(self) -> tuple[Rope | None, ...]:
    """The different rotary positions of its layers."""
    return tuple(dict.fromkeys(kind.rope for kind in self.layer_kinds))

  @property
  def windows(self) -> tuple[int | None, ...]:
    """The different windows of its layers."""
    return tuple(dict.fromkeys(kind.window for kind in self.layer_kinds))

  @property
  def rotary_channels(self) -> int:
    """How many channels of a head turn, in the layers with positions."""
    turned = (rope.channels for rope in self.ropes if rope)
    return next(turned, None) or self.head_dim

  @property
  def num_params(self) -> int:
    queries = self.num_heads * self.head_dim
    keys = self.num_kv_heads * self.head_dim
    attention = self.embed_dim * 2 * (queries + keys)
    attention += self.qkv_bias * (queries + 2 * keys)
    attention += self.o_bias * self.embed_dim
    normed = {"none": 0, "head": 2 * self.head_dim, "all": queries + keys}
    attention += normed[self.qk_norm]
    mlp = 3 * self.embed_dim * self.mlp_dim
    mlp += self.mlp_bias * (2 * self.mlp_dim + self.embed_dim)
    norms = (4 if self.norms == "both" else 2) * self.embed_dim
    tables = 1 if self.tie_embeddings else 2
    return (
      self.num_layers * (attention + mlp + norms)
      + tables * self.vocab_size * self.embed_dim
      + self.embed_dim
    )
