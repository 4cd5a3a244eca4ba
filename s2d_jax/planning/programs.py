"""The programs of a run, compiled from shapes alone, and their memory.

No weight is read and no device is touched: the TPU compiler compiles ahead of
time for chips that are not there. All figures are of one chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import re
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import ml_collections

from s2d_jax.checkpoints.train_state import with_shardings
from s2d_jax.models import kernels, placement, precision
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import hlo, memory, mesh as meshes
from s2d_jax.parallel.topology import Topology
from s2d_jax.planning.decoding import (
  Batch,
  Sampler,
  local_bytes,
  local_shape,
)
from s2d_jax.training import micro_batches, step as steps

_TOTAL_STEPS = 1000  # of a run: only the learning rate depends on it
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
    micro_batches: of an update.
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
  micro_batches: int = 1

  def cache_copies(self) -> list[hlo.Executed]:
    """Instructions that copy the key or value cache of a layer, or of all."""
    return [
      run
      for layers, *layer in self.caches
      for dims in ((layers, *layer), layer)
      for run in hlo.copies(self.module, dims)
    ]


# The fine-tune.


def train_step(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
) -> Program:
  """One update of the fine-tune, with what its teacher computes if it has one.

  Where the config leaves its micro-batches open, it has as few as fit: one
  program after another is compiled.

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
    finetune.batch_rows // (finetune.accumulate or 1),
    finetune.row_length,
    topology.devices(),
    topology.chip.usable_bytes,
  )
  if finetune.accumulate:
    return _train_step(finetune, model_config, topology, mesh)
  limit = topology.chip.usable_bytes * (1 - memory.MARGIN)
  shards = meshes.batch_shards(mesh)
  for count in micro_batches.counts(finetune.batch_rows, shards):
    changed = micro_batches.with_count(finetune, count)
    program = _train_step(changed, model_config, topology, mesh)
    if program.memory and program.memory.peak <= limit:
      return program
  if program.problem is None:  # but leaves too little
    needs = f"needs {gib(program.memory.peak)} of {gib(limit)}"
    program = dataclasses.replace(program, problem=f"{needs} to be taken")
  return program


def _train_step(
  finetune: ml_collections.ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  mesh: Mesh,
) -> Program:
  """One update, in so many micro-batches as the config says."""
  targets = finetune.row_length  # any token may be one
  has_teacher = finetune.objective == "kl"
  step, arguments = steps.abstract_step(
    finetune,
    model_config,
    mesh,
    _TOTAL_STEPS,
    targets,
    _TEACHER_ROW * finetune.row_length if has_teacher else None,
  )
  state, frozen, rows, taught = arguments

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
    step,
    arguments,
    {
      "parameters": local_bytes((state.params, frozen)),
      "optimiser state": local_bytes(state.opt_state),
      **({"teacher": local_bytes(taught)} if taught else {}),
      "rows": local_bytes(rows),
    },
    temporaries,
    training=True,
    micro_batches=finetune.accumulate,
    tokens=tokens,
    # Backward, the gradient of the activations, and that of the weights.
    model_flops=(2 if finetune.lora.rank else 3) * forward(finetune.row_length)
    + (forward(_TEACHER_ROW * finetune.row_length) if has_teacher else 0),
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
  sampler = abstract_sampler(config, model_config, topology)
  arrays = sampler.arrays(batch)
  batch, resident, mesh = arrays.batch, arrays.resident, sampler.mesh
  prefill, width = sampler.prefill(arrays)
  caches = arrays.replies.cache, arrays.state.prompt
  return [
    _compile(
      "prefill",
      topology,
      mesh,
      *prefill,
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
      *sampler.decode(arrays),
      resident,
      step=hlo.loop_body,
      caches=tuple(local_shape(cache.keys) for cache in caches),
      least_traffic=sampler.least_traffic(arrays),
      tokens=batch.samples,
      model_flops=decode_flops(model_config, batch),
    ),
  ]


def abstract_sampler(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
) -> Sampler:
  """The sampler of a run, on as many copies of these chips as it would have.

  Args:
    config: of a run; `config.model` and `config.sampling` are read.
    model_config: the architecture.
    topology: chips to compile for.

  Raises:
    UserError: no mesh suits the model and the chips.
  """
  weights = config.sampling.weights
  dtype = jnp.dtype(precision.choose(config.model.dtype, "tpu"))
  mesh = placement.sampling_mesh(
    model_config,
    config.sampling.mesh.to_dict(),
    1 if weights == "int8" else dtype.itemsize,
    topology.devices(),
    topology.chip.usable_bytes,
  )
  way = kernels.for_platform(dtype, "tpu", weights)
  boxed = abstract_params(model_config, dtype, weights)
  params = with_shardings(boxed, meshes.param_shardings(boxed, mesh))
  return Sampler(Llama(model_config, way), params, mesh)


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


def decode_flops(config: ModelConfig, batch: Batch) -> float:
  """FLOPs of a token for each row, half-way through its reply."""
  seen = batch.prompt + batch.reply / 2
  return forward_flops(config, batch.samples, seen, batch.samples)


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
