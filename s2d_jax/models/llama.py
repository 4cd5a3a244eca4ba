"""The decoder of the Llama family in Flax Linen: one function of tokens.

Axis letters: B batch, T length, D embedding, N query heads, K key-value heads,
H head size, F feed-forward, V vocabulary, L layers.

There is no mutable cache. The forward pass reads a past (`KeyValues`) and
returns the keys and values of its own tokens; whoever calls it decides where
those are kept. Training, prefill and decode over shared prompts are the same
code with another past. How a kernel is kept and multiplied is a value
(`models.kernels`), and attention is a function (`models.attention`).

What differs from layer to layer are numbers: a layer takes the rotation and the
window of its kind out of those of all kinds. So all layers are one program,
whatever their order, and one stack of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.models import attention, kernels
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.key_values import KeyValues
from s2d_jax.models.lora import Lora
from s2d_jax.models.rope import Angles, apply_rope, rope_angles

# What the backward pass keeps of a layer, by name.
REMAT_POLICIES = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


class LayerOfKind(NamedTuple):
  """Which rotation and which window of the model a layer has."""

  rope: int | Int[Array, "*L"] = 0
  window: int | Int[Array, "*L"] = 0


def layers_of_kinds(config: ModelConfig) -> LayerOfKind | None:
  """Those of all L layers, as arrays; None where all are alike."""
  kinds = config.layer_kinds
  if len(set(kinds)) == 1:
    return None
  ropes = [config.ropes.index(kind.rope) for kind in kinds]
  windows = [config.windows.index(kind.window) for kind in kinds]
  return LayerOfKind(np.array(ropes), np.array(windows))


class RMSNorm(nn.Module):
  """x / rms(x) * scale, computed in float32 (Zhang & Sennrich 2019).

  Attributes:
    eps: added to the mean of the squares.
    axes: logical names of the last axes, which are normed together.
  """

  eps: float
  axes: tuple[str, ...] = ("features",)

  @nn.compact
  def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    n = len(self.axes)
    shape = x.shape[-n:]
    scale = kernels.parameter(self, "scale", kernels.ones, shape, self.axes)
    x32 = x.astype(jnp.float32)
    over = tuple(range(-n, 0))
    mean_square = jnp.mean(jnp.square(x32), axis=over, keepdims=True)
    normed = x32 * jax.lax.rsqrt(mean_square + self.eps)
    # In float32 to the end: the gradient of the scale is a sum over all tokens.
    return (normed * scale).astype(x.dtype)


class Linear(nn.Module):
  """x · W + b, and with LoRA a product of two narrow kernels beside it.

  Attributes:
    shape: of the kernel, the contracted axes first.
    axes: logical names of the kernel's axes.
    kernels: how it is kept and multiplied.
    lora: adapters, if this is one of their targets.
    use_bias: whether there is a bias, over the kernel's other axes.
  """

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  kernels: kernels.Float
  lora: Lora | None = None
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    n = kernels.CONTRACTED.get(self.name, 1)
    shape, axes = self.shape, self.axes
    lead, inputs = x.shape[:-n], x.shape[-n:]
    # One leading axis: with two, the gradient of the kernel contracts both,
    # which takes a copy of the activations.
    x = x.reshape(-1, *inputs)
    out = self.kernels.project(self, x, shape, axes, n)
    if self.lora is not None and self.name in self.lora.targets:
      out = out + self.lora.project(
        self, x, shape, axes, n, self.kernels.activations
      )
    out = out.reshape(*lead, *out.shape[1:])
    if self.use_bias:
      bias = kernels.parameter(self, "bias", kernels.zeros, shape[n:], axes[n:])
      # In float32: the gradient of the bias is a sum over all tokens.
      out = (out.astype(jnp.float32) + bias).astype(out.dtype)
    return out


class Embedding(nn.Module):
  """A row a token, and the products of a vector with all rows."""

  vocab_size: int
  embed_dim: int
  kernels: kernels.Float

  def setup(self):
    shape, axes = (self.vocab_size, self.embed_dim), ("vocab", "embed")
    self.table = self.kernels.table(self, "embedding", shape, axes)

  def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return self.kernels.look_up(self.table, tokens)

  def logits(self, x: Float[Array, "B D"]) -> Float[Array, "B V"]:
    return self.kernels.logits(x, self.table, axis=1)


class Head(nn.Module):
  """The products of a vector with a kernel [D, V]."""

  embed_dim: int
  vocab_size: int
  kernels: kernels.Float

  @nn.compact
  def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B V"]:
    shape, axes = (self.embed_dim, self.vocab_size), ("embed", "vocab")
    table = self.kernels.table(self, "kernel", shape, axes)
    return self.kernels.logits(x, table, axis=0)


class Attention(nn.Module):
  """Grouped-query attention (Ainslie et al. 2023) with rotary positions."""

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None
  attention_impl: str

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"], kind, rope, until, past, at):
    c = self.config
    kind = LayerOfKind() if kind is None else kind
    q = self._heads(x, "q", c.num_heads, "heads")
    k = self._heads(x, "k", c.num_kv_heads, "kv_heads")
    v = self._heads(x, "v", c.num_kv_heads, "kv_heads")
    rope = tuple(part[kind.rope] for part in rope)
    q = apply_rope(self._normed(q, "q_norm", "heads"), rope)
    k = apply_rope(self._normed(k, "k_norm", "kv_heads"), rope)
    q = nn.with_logical_constraint(q, ("batch", "length", "heads", "head_dim"))
    # Heads before length: each head's keys lie together for its product.
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    attended = attention.attend(
      q,
      k,
      v,
      until,
      past,
      self.attention_impl,
      positions=at,
      window=attention.Window(c.windows, kind.window),
      scale=c.query_scale,
      cap=c.attention_cap,
    )
    out = Linear(
      (c.num_heads, c.head_dim, c.embed_dim),
      ("heads", "head_dim", "embed"),
      self.kernels,
      self.lora,
      use_bias=c.o_bias,
      name="o",
    )(attended)
    return out, (self.kernels.cached(k), self.kernels.cached(v))

  def _heads(self, x, name: str, heads: int, axis: str):
    c = self.config
    return Linear(
      (c.embed_dim, heads, c.head_dim),
      ("embed", axis, "head_dim"),
      self.kernels,
      self.lora,
      use_bias=c.qkv_bias,
      name=name,
    )(x)

  def _normed(self, x: Float[Array, "B T N H"], name: str, axis: str):
    if self.config.qk_norm == "none":
      return x
    whole = self.config.qk_norm == "all"
    axes = (axis, "head_dim") if whole else ("head_dim",)
    return RMSNorm(self.config.rms_eps, axes, name=name)(x)


ACTIVATIONS = {
  "silu": nn.silu,
  "gelu_tanh": functools.partial(nn.gelu, approximate=True),
}


class GatedMLP(nn.Module):
  """down(activation(gate(x)) * up(x)) (Shazeer 2020)."""

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    c = self.config
    sizes = {"embed": c.embed_dim, "mlp": c.mlp_dim}

    def project(name: str, *axes: str):
      shape = tuple(sizes[axis] for axis in axes)
      return Linear(
        shape, axes, self.kernels, self.lora, use_bias=c.mlp_bias, name=name
      )

    gate = project("gate", "embed", "mlp")(x)
    up = project("up", "embed", "mlp")(x)
    hidden = nn.with_logical_constraint(
      ACTIVATIONS[c.activation](gate) * up, ("batch", "length", "mlp")
    )
    return project("down", "mlp", "embed")(hidden)


class Block(nn.Module):
  """One layer, in the form `nn.scan` wants: carry, scanned, broadcast.

  A branch reads the residual stream through a norm, or adds to it through one,
  or both; which is for the config to say.
  """

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None
  attention_impl: str

  @nn.compact
  def __call__(self, x, kind, past: list[KeyValues], shared, rope, until, at):
    past = [
      part._replace(valid=valid, positions=positions, owners=owners)
      for part, (valid, positions, owners) in zip(past, shared, strict=True)
    ]
    how = self.config, self.kernels, self.lora
    attention = Attention(*how, self.attention_impl, name="attention")
    mlp = GatedMLP(*how, name="mlp")
    attended, keys_values = attention(
      self._before(x, "attention_norm"), kind, rope, until, past, at
    )
    x = self._added(x, attended, "attention_norm_after")
    changed = mlp(self._before(x, "mlp_norm"))
    x = self._added(x, changed, "mlp_norm_after")
    return _kept(x), keys_values

  def _before(self, x, name: str):
    if self.config.norms == "after":
      return x
    return RMSNorm(self.config.rms_eps, name=name)(x)

  def _added(self, x, branch, name: str):
    if self.config.norms != "before":
      branch = RMSNorm(self.config.rms_eps, name=name)(branch)
    return x + _scaled(branch, self.config.residual_scale)


def _scaled(x: Float[Array, "*B"], factor: float) -> Float[Array, "*B"]:
  """By a factor that is rounded as `x` is: so the models were trained."""
  return x if factor == 1.0 else x * jnp.asarray(factor, x.dtype)


def _kept(x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
  """Lays out what the backward pass keeps of a layer."""
  return nn.with_logical_constraint(x, ("batch", "kept_length", "features"))


class Llama(nn.Module):
  """Decoder-only transformer of the Llama family.

  Attributes:
    config: sizes and constants.
    kernels: how they are kept and multiplied, and the dtype of activations;
      norms, softmax and logits are float32.
    remat: what the backward pass keeps, by name (`REMAT_POLICIES`).
    lora: adapters beside the weights, if any.
    attention_impl: what computes attention where there is no past, by name
      (`attention.choose`).
  """

  config: ModelConfig
  kernels: kernels.Float = kernels.Float()
  remat: str = "none"
  lora: Lora | None = None
  attention_impl: str = "xla"

  def setup(self):
    c = self.config
    if self.lora is not None and not self.kernels.takes_adapters:
      raise ValueError("int8 kernels take no adapters: merge them first")
    self.embed = Embedding(c.vocab_size, c.embed_dim, self.kernels)
    self.layers = self.make_layers()
    self.final_norm = RMSNorm(c.rms_eps)
    if not c.tie_embeddings:
      self.head = Head(c.embed_dim, c.vocab_size, self.kernels)

  def make_layers(self):
    """All of them, as one function of what `Block` takes."""
    block = Block
    if REMAT_POLICIES[self.remat] is not None:
      block = nn.remat(
        Block, policy=REMAT_POLICIES[self.remat], prevent_cse=False
      )
    layers = nn.scan(
      block,
      variable_axes={"params": 0, kernels.STAND_INS: 0},
      split_rngs={"params": True},
      in_axes=(0, 0, *[nn.broadcast] * 4),
      length=self.config.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
      # Traces a layer once more, which draws other first values.
      check_constancy_invariants=self.is_initializing(),
    )
    return layers(self.config, self.kernels, self.lora, self.attention_impl)

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    until: Int[Array, "B T"] | None = None,
    past: Sequence[KeyValues] = (),
    rope: Angles | None = None,
  ) -> tuple[Float[Array, "B T D"], KeyValues]:
    """Hidden states after the last norm, and these tokens' keys and values.

    `positions` count from 0 at the start of each sequence; `until` is how far
    in its row each token is seen, 0 marks padding (`attention.attend`); by
    default a row is one sequence. `rope` are the angles of the positions, if
    they are known.
    """
    if until is None:
      until = jnp.full_like(tokens, tokens.shape[1])
    rope = rope or rope_angles(self.config, positions)
    x, (keys, values) = self.layers(
      _kept(_scaled(self.embed(tokens), self.config.embed_scale)),
      layers_of_kinds(self.config),
      [part._replace(valid=None, positions=None, owners=None) for part in past],
      [(part.valid, part.positions, part.owners) for part in past],
      rope,
      until,
      positions,
    )
    valid = until[:, None] > 0
    return self.final_norm(x), KeyValues(keys, values, valid, positions)

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Projects hidden states onto the vocabulary, in float32.

    Apart from `__call__`, so that a caller projects only the positions it
    reads: the last one in prefill, the targets in training.
    """
    head = self.embed.logits if self.config.tie_embeddings else self.head
    logits = head(hidden.reshape(-1, hidden.shape[-1]))
    logits = logits * self.config.logit_scale
    if (cap := self.config.logit_cap) is not None:
      logits = cap * jnp.tanh(logits / cap)
    # Each device its part of the vocabulary: the head itself stays where it is.
    logits = nn.with_logical_constraint(logits, ("batch", "vocab"))
    return logits.reshape(*hidden.shape[:-1], -1)

  def init_all(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
    """Touches every parameter: what `init` and `eval_shape` run."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = self(tokens, positions)
    return self.logits(hidden)

  def empty_cache(self, entries: int, length: int) -> KeyValues:
    """Zeros for `length` tokens in each of so many entries."""
    shape = entries, self.config.num_kv_heads, length, self.config.head_dim
    shape = self.config.num_layers, *shape
    zeros = [jnp.zeros(shape, self.kernels.cache_dtype) for _ in range(2)]
    return KeyValues(*zeros)

  def as_cache(self, stacked: KeyValues) -> KeyValues:
    """Keys and values as the caches of this model lie."""
    return stacked

  def rope_table(self, length: int) -> Angles | None:
    """Angles of the first positions, where many steps shall share them."""
    return None
