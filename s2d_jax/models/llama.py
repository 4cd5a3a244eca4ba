"""The Llama decoder in Flax Linen: one stateless function of tokens.

Axis letters: B batch, T length, D embedding, N query heads, K key-value heads,
H head size, F feed-forward, V vocabulary, L layers.

There is no mutable cache. The forward pass reads a past (`KeyValues`) and
returns the keys and values of its own tokens; whoever calls it decides where
those are kept. Training, prefill and decode over shared prompts are the same
code with another past.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from s2d_jax.models.attention import KeyValues, attend
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.rope import apply_rope, rope_angles

Params = dict[str, Any]

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
    ones = nn.with_logical_partitioning(nn.initializers.ones, ("features",))
    scale = self.param("scale", ones, x.shape[-1:], jnp.float32)
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    normed = x32 * jax.lax.rsqrt(mean_square + self.eps)
    return normed.astype(x.dtype) * scale.astype(x.dtype)


class Projection(nn.Module):
  """A matrix product whose kernel keeps its named axes, and maybe a bias.

  Attributes:
    shape: of the kernel, the contracted axes first.
    axes: logical names of the kernel's axes.
    dtype: of the product.
    contracted: how many last axes of the input the kernel contracts.
    use_bias: whether there is a bias, over the kernel's other axes.
  """

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  dtype: DTypeLike
  contracted: int = 1
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    init = nn.with_logical_partitioning(nn.initializers.normal(0.02), self.axes)
    kernel = self.param("kernel", init, self.shape, jnp.float32)
    lead, inputs = x.shape[: -self.contracted], x.shape[-self.contracted :]
    # One leading axis: with two, the gradient of the kernel contracts both,
    # and XLA on the CPU copies the activations transposed for that.
    x = x.reshape(-1, *inputs).astype(self.dtype)
    out = jnp.tensordot(x, kernel.astype(self.dtype), axes=self.contracted)
    out = out.reshape(*lead, *out.shape[1:])
    if self.use_bias:
      init = nn.with_logical_partitioning(
        nn.initializers.zeros, self.axes[self.contracted :]
      )
      shape = self.shape[self.contracted :]
      bias = self.param("bias", init, shape, jnp.float32)
      out = out + bias.astype(self.dtype)
    return out


class Attention(nn.Module):
  config: ModelConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"], rope, segments, past):
    c = self.config

    def project(name: str, heads: int, axis: str):
      return Projection(
        (c.embed_dim, heads, c.head_dim),
        ("embed", axis, "head_dim"),
        self.dtype,
        use_bias=c.attention_bias,
        name=name,
      )(x)

    q = apply_rope(project("q", c.num_heads, "heads"), rope)
    k = apply_rope(project("k", c.num_kv_heads, "kv_heads"), rope)
    v = project("v", c.num_kv_heads, "kv_heads")
    q = nn.with_logical_constraint(q, ("batch", "length", "heads", "head_dim"))
    # Heads before length: each head's keys lie together for its product.
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    out = Projection(
      (c.num_heads, c.head_dim, c.embed_dim),
      ("heads", "head_dim", "embed"),
      self.dtype,
      contracted=2,
      name="o",
    )(attend(q, k, v, segments, past))
    return out, (k, v)


class SwiGLU(nn.Module):
  """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

  config: ModelConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    sizes = {"embed": self.config.embed_dim, "mlp": self.config.mlp_dim}

    def project(name: str, *axes: str):
      shape = tuple(sizes[axis] for axis in axes)
      return Projection(shape, axes, self.dtype, name=name)

    gate = project("gate", "embed", "mlp")(x)
    up = project("up", "embed", "mlp")(x)
    hidden = nn.with_logical_constraint(
      nn.silu(gate) * up, ("batch", "length", "mlp")
    )
    return project("down", "mlp", "embed")(hidden)


class Block(nn.Module):
  """One layer, in the form `nn.scan` wants: carry, scanned, broadcast."""

  config: ModelConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x, past_keys_values, past_valid, rope, segments):
    past = [
      KeyValues(k, v, valid)
      for (k, v), valid in zip(past_keys_values, past_valid, strict=True)
    ]
    eps = self.config.rms_eps
    attended, keys_values = Attention(
      self.config, self.dtype, name="attention"
    )(RMSNorm(eps, name="attention_norm")(x), rope, segments, past)
    x = x + attended
    x = x + SwiGLU(self.config, self.dtype, name="mlp")(
      RMSNorm(eps, name="mlp_norm")(x)
    )
    x = nn.with_logical_constraint(x, ("batch", "length", "features"))
    return x, keys_values


class Llama(nn.Module):
  """Decoder-only transformer of the Llama family.

  Parameters are float32; `dtype` is what products are computed in. `remat`
  names what the backward pass keeps (`REMAT_POLICIES`).
  """

  config: ModelConfig
  dtype: DTypeLike = jnp.float32
  remat: str = "none"

  def setup(self):
    c = self.config
    self.embed = nn.Embed(
      c.vocab_size,
      c.embed_dim,
      dtype=self.dtype,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ("vocab", "embed")
      ),
    )
    block = Block
    if REMAT_POLICIES[self.remat] is not None:
      block = nn.remat(
        Block, policy=REMAT_POLICIES[self.remat], prevent_cse=False
      )
    self.layers = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
      length=c.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, self.dtype)
    self.final_norm = RMSNorm(c.rms_eps)
    if not c.tie_embeddings:
      self.head = Projection(
        (c.embed_dim, c.vocab_size),
        ("embed", "vocab"),
        self.dtype,
      )

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    past: Sequence[KeyValues] = (),
  ) -> tuple[Float[Array, "B T D"], KeyValues]:
    """Hidden states after the last norm, and these tokens' keys and values.

    `positions` count from 0 at the start of each sequence; `segments` number
    the sequences packed into a row, 0 marks padding.
    """
    x = self.embed(tokens)
    x = nn.with_logical_constraint(x, ("batch", "length", "features"))
    x, (keys, values) = self.layers(
      x,
      [(part.keys, part.values) for part in past],
      [part.valid for part in past],
      rope_angles(self.config, positions),
      segments,
    )
    return self.final_norm(x), KeyValues(keys, values, segments[:, None] > 0)

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Projects hidden states onto the vocabulary, in float32.

    Apart from `__call__`, so that a caller projects only the positions it
    reads: the last one in prefill, the targets in training.
    """
    if self.config.tie_embeddings:
      logits = self.embed.attend(hidden)
    else:
      logits = self.head(hidden)
    return logits.astype(jnp.float32)

  def init_all(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
    """Touches every parameter: what `init` and `eval_shape` run."""
    ones = jnp.ones_like(tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = self(tokens, positions, ones)
    return self.logits(hidden)


def abstract_params(config: ModelConfig) -> Params:
  """Shapes and logical axis names of every parameter, nothing allocated."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  init = lambda key, tokens: Llama(config).init(
    key, tokens, method=Llama.init_all
  )
  return jax.eval_shape(init, jax.random.key(0), tokens)["params"]
