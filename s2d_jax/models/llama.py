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
import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int
import numpy as np

from s2d_jax.models import attention, precision
from s2d_jax.models.attention import KeyValues
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.lora import DOWN, UP, Lora
from s2d_jax.models.rope import Angles, apply_rope, rope_angles

Params = dict[str, Any]

# What the backward pass keeps of a layer, by name.
REMAT_POLICIES = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}

# Collection of stand-ins that receive the gradients of rounded kernels.
ROUNDED = "rounded"

zeros, ones = nn.initializers.zeros, nn.initializers.ones
normal = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Form:
  """How the network is computed: see `Llama`."""

  dtype: DTypeLike
  wide: bool
  weights: str
  lora: Lora | None
  attention: str
  apart: bool
  by_column: bool

  @property
  def activations(self) -> DTypeLike:
    return jnp.float32 if self.wide else self.dtype


def _named(module, name, init, shape, axes, dtype=jnp.float32) -> Array:
  """A parameter whose axes have logical names."""
  return module.param(
    name, nn.with_logical_partitioning(init, axes), shape, dtype
  )


class RMSNorm(nn.Module):
  """x / rms(x) * scale, computed in float32 (Zhang & Sennrich 2019)."""

  eps: float
  by_column: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    axis = 0 if self.by_column else -1
    scale = _named(self, "scale", ones, (x.shape[axis],), ("features",))
    if self.by_column:
      scale = scale[:, None, None]
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x32), axis=axis, keepdims=True)
    normed = x32 * jax.lax.rsqrt(mean_square + self.eps)
    return normed.astype(x.dtype) * scale.astype(x.dtype)


class Projection(nn.Module):
  """A matrix product whose kernel keeps its named axes, and maybe a bias.

  With int8 weights the kernel is integers and each output channel has a scale.
  With LoRA the product of two narrow kernels is added to it.

  Attributes:
    shape: of the kernel, the contracted axes first.
    axes: logical names of the kernel's axes.
    form: how it is computed.
    contracted: how many last axes of the input the kernel contracts.
    use_bias: whether there is a bias, over the kernel's other axes.
  """

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  form: Form
  contracted: int = 1
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    dtype, n = self.form.dtype, self.contracted
    lead, inputs = x.shape[:-n], x.shape[-n:]
    # One leading axis: with two, the gradient of the kernel contracts both,
    # and XLA on the CPU copies the activations transposed for that.
    x = x.reshape(-1, *inputs)
    if self.form.weights == "int8":
      kernel = _named(self, "kernel", zeros, self.shape, self.axes, jnp.int8)
      scale = _named(self, "scale", ones, self.shape[n:], self.axes[n:])
      product = _product(x.astype(dtype), kernel.astype(dtype), n)
      out = (product * scale).astype(self.form.activations)
    else:
      kernel = _named(self, "kernel", normal, self.shape, self.axes)
      if self.form.wide:
        flat = kernel.reshape(math.prod(inputs), -1)
        out = _rounded_product(x.reshape(len(x), -1), flat, 0, dtype)
        out = out.reshape(-1, *self.shape[n:])
      else:
        out = jnp.tensordot(x.astype(dtype), self._rounded(kernel), axes=n)
    lora = self.form.lora
    if lora is not None and self.name in lora.targets:
      out = out + self._adapt(x, lora)
    out = out.reshape(*lead, *out.shape[1:])
    if self.use_bias:
      bias = _named(self, "bias", zeros, self.shape[n:], self.axes[n:])
      out = out + bias.astype(out.dtype)
    return out

  def _rounded(self, kernel):
    """The kernel in the dtype of the product, parted as it is kept."""
    if kernel.dtype == self.form.dtype:
      return kernel
    # Rounded by an operation of its own: XLA for TPUs moves a mere cast out of
    # the loop over layers, and keeps a copy of all kernels.
    bits = jnp.finfo(self.form.dtype)
    kernel = jax.lax.reduce_precision(kernel, bits.nexp, bits.nmant)
    if self.has_variable(ROUNDED, "kernel"):
      kernel = _round_to(kernel, self.get_variable(ROUNDED, "kernel"))
    # What devices send each other is rounded already.
    return nn.with_logical_constraint(kernel.astype(self.form.dtype), self.axes)

  def _adapt(self, x, lora: Lora):
    n, dtype = self.contracted, self.form.activations
    down_shape = (*self.shape[:n], lora.rank)
    up_shape = (lora.rank, *self.shape[n:])
    down_axes, up_axes = (*self.axes[:n], "rank"), ("rank", *self.axes[n:])
    # The product begins at zero: the model begins as it was.
    down = _named(self, DOWN, normal, down_shape, down_axes)
    up = _named(self, UP, zeros, up_shape, up_axes)
    x = x.astype(dtype)
    narrow = jnp.tensordot(x, down.astype(dtype), axes=n) * lora.scale
    return jnp.tensordot(narrow.astype(dtype), up.astype(dtype), axes=1)


class ColumnProjection(Projection):
  """The same of columns: the kernel lies as [out, in], biases as ever."""

  @nn.compact
  def __call__(self, x: Float[Array, "*I B T"]) -> Float[Array, "*O B T"]:
    dtype, n = self.form.dtype, self.contracted
    inputs, tokens = x.shape[:n], x.shape[n:]
    x = x.reshape(*inputs, -1).astype(dtype)
    shape = self.shape[n:] + self.shape[:n]
    axes = self.axes[n:] + self.axes[:n]
    if self.form.weights == "int8":
      kernel = _named(self, "kernel", zeros, shape, axes, jnp.int8)
      scale = _named(self, "scale", ones, self.shape[n:], self.axes[n:])
      product = _product(kernel.astype(dtype), x, n)
      out = (product * scale[..., None]).astype(self.form.activations)
    else:
      kernel = _named(self, "kernel", normal, shape, axes)
      out = jnp.tensordot(kernel.astype(dtype), x, axes=n)
    if self.use_bias:
      bias = _named(self, "bias", zeros, self.shape[n:], self.axes[n:])
      out = out + bias[..., None].astype(out.dtype)
    return out.reshape(*out.shape[:-1], *tokens)


def _projection(form: Form) -> type[Projection]:
  return ColumnProjection if form.by_column else Projection


@jax.custom_vjp
def _round_to(kernel, stand_in):
  """`kernel` in the dtype of `stand_in`, which receives its gradient.

  The gradient of a float32 kernel would have to be float32, although it is
  computed in fewer bits: twice the memory for nothing.
  """
  return kernel.astype(stand_in.dtype)


_round_to.defvjp(
  lambda kernel, stand_in: (_round_to(kernel, stand_in), None),
  lambda _, gradient: (None, gradient),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _rounded_product(x: Array, kernel: Array, axis: int, dtype) -> Array:
  """Of x [B, I] and kernel, whose `axis` is I, gives [B, O] in float32.

  The factors are rounded to `dtype` first, and so are those of the gradients.
  The kernel may be packed.
  """
  kernel = precision.unpack(kernel).astype(dtype)
  return _product(x.astype(dtype), kernel, (1, axis))


def _rounded_product_gradient(axis: int, dtype, factors, gradient):
  x, kernel = factors
  of_x = _rounded_product(gradient, kernel, 1 - axis, dtype)
  pair = (x, gradient) if axis == 0 else (gradient, x)
  return of_x, _rounded_product(_turned(pair[0]), pair[1], 0, dtype)


def _turned(x: Float[Array, "B I"]) -> Float[Array, "I B"]:
  """`x.T` in memory.

  XLA would leave out a mere transposition and have the product contract first
  axes, for which its fast one is not made. Two halves it does turn round.
  """
  half = len(x) // 2
  return jnp.concatenate([x[:half].T, x[half:].T], axis=1)


_rounded_product.defvjp(
  lambda x, kernel, *how: (_rounded_product(x, kernel, *how), (x, kernel)),
  _rounded_product_gradient,
)


@jax.custom_vjp
def _scores(x: Float[Array, "B D"], table: Float[Array, "D V"]):
  """x @ table in float32, whose gradient is taken in the dtype of both."""
  return _product(x, table, 1)


def _scores_gradient(residuals, gradient):
  x, table = residuals
  gradient = gradient.astype(x.dtype)
  return gradient @ table.T, x.T @ gradient


_scores.defvjp(lambda *args: (_scores(*args), args), _scores_gradient)


def _column_scores(
  table: Float[Array, "V D"], scale, x: Float[Array, "D B"], dtype
) -> Float[Array, "V B"]:
  """Logits of columns; int8 tables have a scale a row."""
  scores = _product(table.astype(dtype), x.astype(dtype), 1)
  return scores if scale is None else scores * scale[:, None]


def _product(x, kernel, axes):
  """`jnp.tensordot` with a float32 result."""
  return jnp.tensordot(x, kernel, axes, preferred_element_type=jnp.float32)


class Embedding(nn.Module):
  """A row a token, and the products of a vector with all rows."""

  vocab_size: int
  embed_dim: int
  form: Form

  def setup(self):
    shape, axes = (self.vocab_size, self.embed_dim), ("vocab", "embed")
    dtype = jnp.int8 if self.form.weights == "int8" else jnp.float32
    init = zeros if dtype == jnp.int8 else normal
    self.embedding = _named(self, "embedding", init, shape, axes, dtype)
    if self.form.weights == "int8":
      self.scale = _named(self, "scale", ones, shape[:1], axes[:1])

  def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    dtype = self.form.activations
    if self.form.weights == "int8":
      rows = self.embedding[tokens] * self.scale[tokens][..., None]
      return rows.astype(dtype)
    return self.embedding.astype(dtype)[tokens]

  def attend(self, x: Float[Array, "B D"]) -> Float[Array, "B V"]:
    dtype = self.form.dtype
    if self.form.by_column:
      scale = self.scale if self.form.weights == "int8" else None
      return _column_scores(self.embedding, scale, x, dtype)
    if self.form.wide and self.form.weights == "float":
      return _rounded_product(x, self.embedding, 1, dtype)
    table = self.embedding.astype(dtype).T
    if self.form.weights == "int8":
      return _product(x.astype(dtype), table, 1) * self.scale
    return _scores(x, table)


class Head(nn.Module):
  """The products of a vector with every token's column."""

  embed_dim: int
  vocab_size: int
  form: Form

  @nn.compact
  def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B V"]:
    shape, axes = (self.embed_dim, self.vocab_size), ("embed", "vocab")
    dtype, by_column = self.form.dtype, self.form.by_column
    if by_column:
      shape, axes = shape[::-1], axes[::-1]
    is_int8, scale = self.form.weights == "int8", None
    init, kind = (zeros, jnp.int8) if is_int8 else (normal, jnp.float32)
    kernel = _named(self, "kernel", init, shape, axes, kind)
    if is_int8:
      scale = _named(self, "scale", ones, (self.vocab_size,), ("vocab",))
    if by_column:
      return _column_scores(kernel, scale, x, dtype)
    if is_int8:
      return _product(x.astype(dtype), kernel.astype(dtype), 1) * scale
    if self.form.wide:
      return _rounded_product(x, kernel, 0, dtype)
    kernel = nn.with_logical_constraint(kernel.astype(dtype), axes)
    return _scores(x, kernel)


# How many axes of its input a kernel contracts, where it is not one.
_CONTRACTED = {"o": 2}


class Attention(nn.Module):
  config: ModelConfig
  form: Form

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"], rope, until, past):
    c, by_column = self.config, self.form.by_column
    projection = _projection(self.form)

    def project(name: str, heads: int, axis: str):
      return projection(
        (c.embed_dim, heads, c.head_dim),
        ("embed", axis, "head_dim"),
        self.form,
        use_bias=c.attention_bias,
        name=name,
      )(x)

    channels = 1 if by_column else -1
    q = apply_rope(project("q", c.num_heads, "heads"), rope, channels)
    k = apply_rope(project("k", c.num_kv_heads, "kv_heads"), rope, channels)
    v = project("v", c.num_kv_heads, "kv_heads")
    if by_column:  # [N H B T] → [B T N H]
      q, k, v = (jnp.moveaxis(x, (0, 1), (2, 3)) for x in (q, k, v))
    q = nn.with_logical_constraint(q, ("batch", "length", "heads", "head_dim"))
    # Heads before length: each head's keys lie together for its product.
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    attended = attention.attend(
      q, k, v, until, past, self.form.attention, self.form.apart
    )
    if by_column:
      attended = jnp.moveaxis(attended, (2, 3), (0, 1))
    out = projection(
      (c.num_heads, c.head_dim, c.embed_dim),
      ("heads", "head_dim", "embed"),
      self.form,
      contracted=_CONTRACTED["o"],
      name="o",
    )(attended)
    if self.form.wide:
      k, v = precision.pack(k), precision.pack(v)
    if self.form.apart:
      k = k.swapaxes(-1, -2)
    return out, (k, v)


class SwiGLU(nn.Module):
  """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

  config: ModelConfig
  form: Form

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    sizes = {"embed": self.config.embed_dim, "mlp": self.config.mlp_dim}

    def project(name: str, *axes: str):
      shape = tuple(sizes[axis] for axis in axes)
      return _projection(self.form)(shape, axes, self.form, name=name)

    gate = project("gate", "embed", "mlp")(x)
    up = project("up", "embed", "mlp")(x)
    hidden = nn.with_logical_constraint(
      nn.silu(gate) * up, ("batch", "length", "mlp")
    )
    return project("down", "mlp", "embed")(hidden)


class Block(nn.Module):
  """One layer, in the form `nn.scan` wants: carry, scanned, broadcast."""

  config: ModelConfig
  form: Form

  @nn.compact
  def __call__(self, x, past_keys_values, past_valid, rope, until):
    past = [
      KeyValues(k, v, valid)
      for (k, v), valid in zip(past_keys_values, past_valid, strict=True)
    ]
    eps, by_column = self.config.rms_eps, self.form.by_column
    attended, keys_values = Attention(self.config, self.form, name="attention")(
      RMSNorm(eps, by_column, name="attention_norm")(x), rope, until, past
    )
    x = x + attended
    x = x + SwiGLU(self.config, self.form, name="mlp")(
      RMSNorm(eps, by_column, name="mlp_norm")(x)
    )
    return _kept(x), keys_values


def _kept(x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
  """Lays out what the backward pass keeps of a layer."""
  return nn.with_logical_constraint(x, ("batch", "kept_length", "features"))


class Llama(nn.Module):
  """Decoder-only transformer of the Llama family.

  Attributes:
    config: sizes and constants.
    dtype: of products and activations; norms, softmax and logits are float32.
    wide: activations stay float32 for any dtype, see `models.precision`.
    apart: each layer has parameters of its own, as `layers_apart` gives them,
      and so have its keys and values: see `KeyValues`.
    remat: what the backward pass keeps, by name (`REMAT_POLICIES`).
    weights: "float" or "int8" (`models.quantize`).
    lora: adapters beside the weights, if any.
    attention: what computes it where there is no past (`choose_kernel`).
  """

  config: ModelConfig
  dtype: DTypeLike = jnp.float32
  remat: str = "none"
  weights: str = "float"
  lora: Lora | None = None
  attention: str = "xla"
  wide: bool = False
  apart: bool = False

  @property
  def cache_dtype(self) -> DTypeLike:
    """Of the keys and values that it gives and is given."""
    return jnp.uint16 if self.wide else self.dtype

  @property
  def by_column(self) -> bool:
    """Whether a token is a column of activations, logits and all between.

    Then kernels lie as [out, in]. XLA for CPUs multiplies them by few columns a
    third faster than few rows by a kernel [in, out]. What is rounded for matrix
    units (`wide`) it has other products for. Adapters are of rows.
    """
    return self.apart and not self.wide and self.lora is None

  def setup(self):
    c = self.config
    form = Form(
      self.dtype,
      self.wide,
      self.weights,
      self.lora,
      self.attention,
      self.apart,
      self.by_column,
    )
    self.embed = Embedding(c.vocab_size, c.embed_dim, form)
    if self.apart:
      self.layer = [Block(c, form) for _ in range(c.num_layers)]
    block = Block
    if REMAT_POLICIES[self.remat] is not None:
      block = nn.remat(
        Block, policy=REMAT_POLICIES[self.remat], prevent_cse=False
      )
    self.layers = nn.scan(
      block,
      variable_axes={"params": 0, ROUNDED: 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
      length=c.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, form)
    self.final_norm = RMSNorm(c.rms_eps, self.by_column)
    if not c.tie_embeddings:
      self.head = Head(c.embed_dim, c.vocab_size, form)

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
    they are known. The states of columns are [D, B, T].
    """
    if until is None:
      until = jnp.full_like(tokens, tokens.shape[1])
    rope = rope or rope_angles(self.config, positions)
    x = _kept(self.embed(tokens))
    if self.by_column:
      x = jnp.moveaxis(x, -1, 0)
      rope = tuple(jnp.moveaxis(part[:, :, 0], -1, 0) for part in rope)
    layers = self._each_layer if self.apart else self.layers
    x, (keys, values) = layers(
      x,
      [(part.keys, part.values) for part in past],
      [part.valid for part in past],
      rope,
      until,
    )
    return self.final_norm(x), KeyValues(keys, values, until[:, None] > 0)

  def _each_layer(self, x, past, valid, rope, until):
    """The layers one after another, as the scan over them would run."""
    new = []
    for index, layer in enumerate(self.layer):
      own = [(k[index], v[index]) for k, v in past]
      x, keys_values = layer(x, own, valid, rope, until)
      new.append(keys_values)
    return x, tuple(zip(*new, strict=True))

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Projects hidden states onto the vocabulary, in float32.

    Apart from `__call__`, so that a caller projects only the positions it
    reads: the last one in prefill, the targets in training. Columns [D, B] give
    columns [V, B].
    """
    head = self.embed.attend if self.config.tie_embeddings else self.head
    if self.by_column:
      return head(hidden)
    logits = head(hidden.reshape(-1, hidden.shape[-1]))
    # Each device its part of the vocabulary: the head itself stays where it is.
    logits = nn.with_logical_constraint(logits, ("batch", "vocab"))
    return logits.reshape(*hidden.shape[:-1], -1)

  def init_all(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
    """Touches every parameter: what `init` and `eval_shape` run."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = self(tokens, positions)
    return self.logits(hidden)


def packed(params: Params) -> Params:
  """Parameters for many small steps of a wide model: kernels as bits."""
  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict(
    {
      path: precision.pack(leaf)
      if path[0] == "layers" and path[-1] == "kernel" and leaf.dtype != jnp.int8
      else leaf
      for path, leaf in flat.items()
    }
  )


def layers_apart(model: Llama, params: Params) -> Params:
  """Parameters for a model that is `apart`, from stacks on one CPU.

  What a loop over layers cuts out of a stack, XLA for CPUs copies each time
  round: in decoding, all weights every step. What is cut out here are views,
  but for kernels that are turned because tokens are columns.
  """

  def turned(path, leaf: np.ndarray) -> Array:
    *_, module, name = (entry.key for entry in path)
    if model.by_column and name == "kernel":
      contracted = _CONTRACTED.get(module, 1)
      axes = range(contracted), range(-contracted, 0)
      leaf = np.moveaxis(leaf, *axes).copy()
    return jax.device_put(leaf)

  tree = dict(params)
  stacks = jax.tree.map(np.asarray, tree.pop("layers"))
  if "head" in tree:
    tree["head"] = jax.tree.map(np.asarray, tree["head"])
  for index in range(model.config.num_layers):
    tree[f"layer_{index}"] = jax.tree.map(lambda x, i=index: x[i], stacks)
  return jax.tree_util.tree_map_with_path(turned, tree)


def abstract_params(
  config: ModelConfig,
  dtype: DTypeLike = jnp.float32,
  weights: str = "float",
  lora: Lora | None = None,
) -> Params:
  """Shapes and logical axis names of every parameter, nothing allocated.

  Floating-point leaves are of `dtype`, but for the scales of int8 weights.
  """
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  model = Llama(config, weights=weights, lora=lora)
  init = lambda key, tokens: model.init(key, tokens, method=Llama.init_all)
  params = jax.eval_shape(init, jax.random.key(0), tokens)["params"]

  def cast(path, leaf):
    keys = jax.tree_util.keystr(path)
    of_int8 = weights == "int8" and "scale" in keys and "norm" not in keys
    if leaf.dtype == jnp.int8 or of_int8:
      return leaf
    return jax.ShapeDtypeStruct(leaf.shape, dtype)

  return jax.tree_util.tree_map_with_path(cast, params)
