"""The Llama decoder in Flax Linen: one stateless function of tokens.

Axis letters: B batch, T length, D embedding, N query heads, K key-value heads,
H head size, F feed-forward, V vocabulary, L layers.

There is no mutable cache. The forward pass reads a past (`KeyValues`) and
returns the keys and values of its own tokens; whoever calls it decides where
those are kept. Training, prefill and decode over shared prompts are the same
code with another past. How a kernel is kept and multiplied is a value
(`models.kernels`), and attention is a function (`models.attention`).
"""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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


class RMSNorm(nn.Module):
  """x / rms(x) * scale, computed in float32 (Zhang & Sennrich 2019)."""

  eps: float

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    shape, axes = (x.shape[-1],), ("features",)
    scale = kernels.parameter(self, "scale", kernels.ones, shape, axes)
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
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
  def __call__(self, x: Float[Array, "B T D"], rope, until, past):
    c = self.config

    def project(name: str, heads: int, axis: str):
      return Linear(
        (c.embed_dim, heads, c.head_dim),
        ("embed", axis, "head_dim"),
        self.kernels,
        self.lora,
        use_bias=c.attention_bias,
        name=name,
      )(x)

    q = apply_rope(project("q", c.num_heads, "heads"), rope)
    k = apply_rope(project("k", c.num_kv_heads, "kv_heads"), rope)
    v = project("v", c.num_kv_heads, "kv_heads")
    q = nn.with_logical_constraint(q, ("batch", "length", "heads", "head_dim"))
    # Heads before length: each head's keys lie together for its product.
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    attended = attention.attend(q, k, v, until, past, self.attention_impl)
    out = Linear(
      (c.num_heads, c.head_dim, c.embed_dim),
      ("heads", "head_dim", "embed"),
      self.kernels,
      self.lora,
      name="o",
    )(attended)
    return out, (self.kernels.cached(k), self.kernels.cached(v))


class SwiGLU(nn.Module):
  """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    sizes = {"embed": self.config.embed_dim, "mlp": self.config.mlp_dim}

    def project(name: str, *axes: str):
      shape = tuple(sizes[axis] for axis in axes)
      return Linear(shape, axes, self.kernels, self.lora, name=name)

    gate = project("gate", "embed", "mlp")(x)
    up = project("up", "embed", "mlp")(x)
    hidden = nn.with_logical_constraint(
      nn.silu(gate) * up, ("batch", "length", "mlp")
    )
    return project("down", "mlp", "embed")(hidden)


class Block(nn.Module):
  """One layer, in the form `nn.scan` wants: carry, scanned, broadcast."""

  config: ModelConfig
  kernels: kernels.Float
  lora: Lora | None
  attention_impl: str

  @nn.compact
  def __call__(self, x, past: list[KeyValues], past_valid, rope, until):
    past = [
      part._replace(valid=valid)
      for part, valid in zip(past, past_valid, strict=True)
    ]
    how = self.config, self.kernels, self.lora
    attention = Attention(*how, self.attention_impl, name="attention")
    mlp = SwiGLU(*how, name="mlp")
    norm = lambda name: RMSNorm(self.config.rms_eps, name=name)
    attended, keys_values = attention(
      norm("attention_norm")(x), rope, until, past
    )
    x = x + attended
    x = x + mlp(norm("mlp_norm")(x))
    return _kept(x), keys_values


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
      in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
      length=self.config.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
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
      _kept(self.embed(tokens)),
      [part._replace(valid=None) for part in past],
      [part.valid for part in past],
      rope,
      until,
    )
    return self.final_norm(x), KeyValues(keys, values, until[:, None] > 0)

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Projects hidden states onto the vocabulary, in float32.

    Apart from `__call__`, so that a caller projects only the positions it
    reads: the last one in prefill, the targets in training.
    """
    head = self.embed.logits if self.config.tie_embeddings else self.head
    logits = head(hidden.reshape(-1, hidden.shape[-1]))
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
