"""The programs of a run, compiled from shapes alone, and their memory.

No weight is read and no device is touched: the TPU compiler compiles ahead of
time for chips that are not there. All figures are of one chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
import re
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import ml_collections
import numpy as np

from s2d_jax.generation import decode as device
from s2d_jax.generation.shapes import (
  page_size,
  prompts_per_prefill,
  slots_on_mesh,
)
from s2d_jax.models import kernels, placement, precision
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import hlo, mesh as meshes
from s2d_jax.parallel.topology import Topology
from s2d_jax.training import step as steps
from s2d_jax.training.packing import OnPolicyRows

_TOTAL_STEPS = 1000  # of a run: only the learning rate depends on it
_PREFIX = 16  # tokens of the shared prefix
# A teacher's prompts say more than the student's: its rows are taken to be so
# many times as long.
_TEACHER_ROW = 2


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes of a chip's memory while a program runs.

  Attributes:
    parts: by purpose; their sum is `peak`.
    peak: the most at any time.
    usable: memory of the chip for programs.
  """

  parts: Mapping[str, int]
  peak: int
  usable: int


@dataclasses.dataclass(frozen=True)
class Program:
  """A program that was compiled, or that could not be.

  Attributes:
    name: "train step", "prefill" or "decode step".
    topology: chips it is compiled for.
    mesh: of these chips.
    tokens: that one execution generates or trains on, over all chips.
    model_flops: of one execution, over all chips, without what is recomputed to
      save memory.
    memory: needed on a chip; None if it was not compiled.
    module: the compiled program; None if it was not compiled.
    step: one execution of it: all, or one step of its loop.
    problem: why it does not fit; None if it does.
    caches: sizes of a chip's shard of the key caches that it updates, if any.
    least_traffic: bytes that a decode step cannot do without: weights, and the
      keys and values that there is room for; None for other programs.
    seconds: compile time.
  """

  name: str
  topology: Topology
  mesh: Mesh
  tokens: int
  model_flops: float
  memory: Memory | None
  module: hlo.Module | None
  step: hlo.Module | None
  problem: str | None
  seconds: float
  caches: tuple[tuple[int, ...], ...] = ()
  least_traffic: int | None = None

  def cache_copies(self) -> list[hlo.Executed]:
    """Instructions that copy the key or value cache of a layer, or of all."""
    return [
      run
      for layers, *layer in self.caches
      for dims in ((layers, *layer), layer)
      for run in hlo.copies(self.module, dims)
    ]


@dataclasses.dataclass(frozen=True)
class Batch:
  """Sizes of a decode batch.

  Attributes:
    slots: prompts.
    rows: samples a prompt.
    prompt: tokens a prompt.
    reply: tokens a reply.
    room: tokens of its reply that a row has room for, in the mean; None: all.
  """

  slots: int
  rows: int
  prompt: int
  reply: int
  room: int | None = None


# The fine-tune.


def train_step(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
) -> Program:
  """One update of the fine-tune, with what its teacher computes if it has one.

  Args:
    config: of a run; `config.mesh` and `config.finetune` are read.
    model_config: the architecture.
    topology: chips to compile for.

  Raises:
    UserError: no mesh suits the model and the chips.
  """
  finetune = config.finetune
  mesh = placement.training_mesh(
    model_config,
    config.mesh.to_dict(),
    finetune.batch_rows // finetune.accumulate,
    finetune.row_length,
    topology.devices(),
    topology.chip.usable_bytes,
  )
  targets = finetune.row_length  # any token may be one
  state = steps.abstract_state(finetune, model_config, mesh, _TOTAL_STEPS)
  model = steps.make_model(finetune, model_config, mesh)
  frozen = steps.abstract_frozen(finetune, model_config, mesh)
  rows = steps.abstract_rows(finetune, mesh, targets, finetune.row_length)
  teacher, taught = None, {}
  if finetune.objective == "kl":
    length = _TEACHER_ROW * finetune.row_length
    teacher = steps.make_teacher(finetune, model_config, mesh, length)
    taught = steps.abstract_teacher(finetune, model_config, mesh)
    of_teacher = steps.abstract_rows(finetune, mesh, targets, length)
    rows = OnPolicyRows(rows, of_teacher)

  def temporaries(module: hlo.Module) -> dict[str, int]:
    loops = [
      (name, size)
      for name, size in hlo.stacked_by_loops(module, model_config.num_layers)
      if "Llama" in name
    ]
    back = sum(size for name, size in loops if "transpose" in name)
    kept = sum(size for _, size in loops) - back
    return {"kept activations": kept, "gradients of layers": back}

  tokens = finetune.batch_rows * finetune.row_length
  forward = lambda length: forward_flops(
    model_config,
    finetune.batch_rows * length,
    seen=length / 2,
    projected=finetune.batch_rows * targets,
  )
  return _compile(
    "train step",
    topology,
    mesh,
    steps.make_train_step(finetune, model, state, _TOTAL_STEPS, teacher),
    (state, frozen, rows, taught),
    {
      "parameters": local_bytes((state.params, frozen)),
      "optimiser state": local_bytes(state.opt_state),
      **({"teacher": local_bytes(taught)} if taught else {}),
      "rows": local_bytes(rows),
    },
    temporaries,
    training=True,
    tokens=tokens,
    # Backward, the gradient of the activations, and that of the weights.
    model_flops=(2 if finetune.lora.rank else 3) * forward(finetune.row_length)
    + (forward(_TEACHER_ROW * finetune.row_length) if teacher else 0),
  )


# The sampler.


def sampler(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  batch: Batch,
) -> list[Program]:
  """Prefill and a decode step, as two programs.

  Args:
    config: of a run; `config.model` and `config.sampling` are read.
    model_config: the architecture.
    topology: chips to compile for.
    batch: sizes of the decode batch.

  Raises:
    UserError: no mesh suits the model and the chips.
  """
  weights = config.sampling.weights
  dtype = jnp.dtype(precision.choose(config.model.dtype, "tpu"))
  weight_bytes = 1 if weights == "int8" else dtype.itemsize
  mesh = placement.sampling_mesh(
    model_config,
    config.sampling.mesh.to_dict(),
    weight_bytes,
    topology.devices(),
    topology.chip.usable_bytes,
  )
  shards = meshes.batch_shards(mesh)
  slots = slots_on_mesh(batch.slots, batch.rows, shards, mesh.size)
  batch = dataclasses.replace(batch, slots=slots)
  width = prompts_per_prefill(batch.prompt, batch.slots, shards)
  way = kernels.for_platform(dtype, "tpu", weights)
  model = Llama(model_config, way)
  boxed = abstract_params(model_config, dtype, weights)
  params = _with_shardings(boxed, meshes.param_shardings(boxed, mesh))
  rows = batch.slots * batch.rows
  page = page_size(batch.reply)
  pages = math.ceil(rows // shards * (batch.room or batch.reply) / page)
  capacity = device.Capacity(batch.prompt, batch.reply, page, pages)
  state, replies = device.abstract_batch(
    model, batch.slots, batch.rows, capacity, mesh
  )
  shared = device.abstract_shared(model, _PREFIX, mesh)
  resident = {
    "parameters": local_bytes(params),
    "keys and values": local_bytes((state.prompt, replies.cache)),
    "rest of the batch": local_bytes(
      (state._replace(prompt=()), replies[1:], shared)
    ),
  }

  integers = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  flags = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bool_)
  return [
    _compile(
      "prefill",
      topology,
      mesh,
      jax.jit(functools.partial(device.prefill, model)),
      (
        params,
        integers(width, batch.prompt),
        integers(width),
        integers(width),
        shared,
      ),
      resident,
      other_bytes=resident["keys and values"] + resident["rest of the batch"],
      tokens=width * batch.prompt,
      model_flops=forward_flops(
        model_config,
        width * batch.prompt,
        seen=batch.prompt / 2,
        projected=width,
      ),
    ),
    _compile(
      "decode step",
      topology,
      mesh,
      jax.jit(
        functools.partial(device.decode, model, pages), donate_argnums=(1, 2)
      ),
      (
        params,
        state,
        replies,
        shared,
        flags(rows),
        flags(slots),
        integers(),
        integers(),
      ),
      resident,
      step=hlo.loop_body,
      caches=tuple(map(_local, (replies.cache.keys, state.prompt.keys))),
      least_traffic=resident["parameters"]
      + resident["keys and values"]
      # Of an embedding that is no head, too, a row a token is read.
      - (0 if model_config.tie_embeddings else local_bytes(params["embed"])),
      tokens=rows,
      model_flops=forward_flops(
        model_config, rows, seen=batch.prompt + batch.reply / 2, projected=rows
      ),
    ),
  ]


def _with_shardings(boxed, shardings):
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    jax.tree.map(
      lambda leaf: getattr(leaf, "value", leaf),
      boxed,
      is_leaf=lambda leaf: hasattr(leaf, "value"),
    ),
    shardings,
  )


# Shared.


def forward_flops(
  config: ModelConfig, tokens: int, seen: float, projected: int
) -> float:
  """FLOPs of one forward pass over `tokens`.

  Args:
    config: the architecture.
    tokens: in the input.
    seen: keys that each of them attends to, on average.
    projected: tokens whose logits are computed.
  """
  head = config.vocab_size * config.embed_dim
  tables = head * (1 if config.tie_embeddings else 2)
  layers = config.num_params - tables
  attention = 2 * config.num_layers * config.num_heads * config.head_dim * seen
  return 2 * tokens * (layers + attention) + 2 * head * projected


def local_bytes(tree) -> int:
  """Bytes of one chip's shards of abstract arrays."""

  return sum(
    math.prod(_local(leaf)) * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _local(leaf: jax.ShapeDtypeStruct) -> tuple[int, ...]:
  sharding = leaf.sharding
  return sharding.shard_shape(leaf.shape) if sharding else leaf.shape


def _compile(
  name: str,
  topology: Topology,
  mesh: Mesh,
  function: Callable,
  arguments: tuple,
  resident: Mapping[str, int],
  temporaries: Callable[[hlo.Module], dict[str, int]] = lambda module: {},
  other_bytes: int = 0,
  training: bool = False,
  step: Callable[[hlo.Module], hlo.Module] = lambda module: module,
  **figures,
) -> Program:
  """Compiles a program and computes its memory.

  Args:
    name: of the program.
    topology: chips to compile for.
    mesh: of these chips.
    function: jitted.
    arguments: of it, abstract.
    resident: bytes by purpose of arrays that stay on the chip.
    temporaries: finds purposes of temporary memory in the compiled program.
    other_bytes: bytes of `resident` that are no argument of this program.
    training: whether the sharding rules are those of training.
    step: finds one execution in the compiled program.
    **figures: of the `Program`.
  """
  began = time.monotonic()
  memory = module = problem = None
  usable = topology.chip.usable_bytes
  try:
    with meshes.use(mesh, training=training):
      compiled = function.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    problem = _shortage(error)
  else:
    module = hlo.parse(compiled.as_text())
    peak = compiled.memory_analysis().peak_memory_in_bytes + other_bytes
    parts = {**resident, **temporaries(module)}
    parts["other"] = peak - sum(parts.values())
    memory = Memory(parts, peak, usable)
    if peak > usable:
      problem = f"needs {gib(peak)} of {gib(usable)}"
  return Program(
    name,
    topology,
    mesh,
    memory=memory,
    module=module,
    step=module and step(module),
    problem=problem,
    seconds=time.monotonic() - began,
    **figures,
  )


def _shortage(error: Exception) -> str:
  """The missing memory, from the error of the compiler.

  Raises:
    Exception: `error`, if it is about something else.
  """
  message = str(error)
  if "RESOURCE_EXHAUSTED" not in message:
    raise error
  for pattern in (
    r"Used ([\d.]+[KMG]) of ([\d.]+[KMG]) hbm",
    r"\(([\d.]+[KMG])\) exceeds available HBM \(([\d.]+[KMG])\)",
  ):
    found = re.search(pattern, message)
    if found:
      needed, usable = (size.replace("G", " GiB") for size in found.groups())
      return f"needs {needed} of {usable}"
  return message.splitlines()[0]


def gib(size: float) -> str:
  return f"{size / 2**30:.2f} GiB"


def mesh_text(mesh: Mesh) -> str:
  """The axes along which there is more than one chip."""
  axes = [f"{name} {size}" for name, size in mesh.shape.items() if size > 1]
  return " × ".join(axes) or "1 chip"
