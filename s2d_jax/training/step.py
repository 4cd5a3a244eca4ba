"""One update of the fine-tune as a compiled program, and what it works on.

Everything here is made from shapes alone, so that the same program can be run
here or compiled ahead of time for devices that are elsewhere.

Axis letters: A micro-batches a step, B rows a micro-batch, T tokens a row,
M target slots a row.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import ml_collections
import numpy as np
import optax

from s2d_jax.checkpoints import train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.models import attention, kernels, precision
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.models.lora import Lora, split
from s2d_jax.models.params import Params, abstract_params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training.loss import (
  Teacher,
  mean_loss_and_grads,
  target_loss,
  teacher_loss,
)
from s2d_jax.training.optimizer import learning_rate, make_optimizer
from s2d_jax.training.packing import OnPolicyRows, PackedRows


def make_model(
  config: ml_collections.ConfigDict, model_config: ModelConfig, mesh: Mesh
) -> Llama:
  """The network as the fine-tune computes it on these devices."""
  return Llama(
    model_config,
    _kernels(config, mesh),
    remat_of(config, mesh),
    lora_of(config),
    _attention(config, model_config, mesh, config.row_length),
  )


def make_teacher(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  mesh: Mesh,
  row_length: int,
) -> Llama:
  """The network of a teacher that reads rows of this length."""
  return Llama(
    model_config,
    _kernels(config, mesh),
    attention_impl=_attention(config, model_config, mesh, row_length),
  )


def _attention(config, model_config: ModelConfig, mesh: Mesh, length) -> str:
  """What computes it in rows of this length."""
  device = mesh.devices.flat[0]
  return attention.choose(
    device.platform,
    model_config,
    _kernels(config, mesh).dtype,
    length,
    device.device_kind,
  )


def can_share(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  mesh: Mesh,
  row_length: int | None = None,
) -> bool:
  """Whether the examples of a row may share tokens: see `packing.pack`.

  Args:
    config: the `finetune` section.
    model_config: architecture.
    mesh: devices.
    row_length: default: that of the config.
  """
  length = row_length or config.row_length
  impl = _attention(config, model_config, mesh, length)
  return impl not in attention.OF_SEGMENTS


def teacher_multiple(mesh: Mesh) -> int:
  """What the length of a teacher's row is a multiple of.

  The kernel of TPUs wants the one, devices along tensor the other.
  """
  return math.lcm(128, mesh.shape["tensor"])


def _platform(mesh: Mesh) -> str:
  return mesh.devices.flat[0].platform


def _kernels(config, mesh: Mesh) -> kernels.Float:
  """How kernels are kept and multiplied."""
  dtype = precision.choose(config.dtype, _platform(mesh))
  return kernels.for_platform(dtype, _platform(mesh))


def remat_of(config: ml_collections.ConfigDict, mesh: Mesh) -> str:
  """What the backward pass recomputes.

  By default all of a layer, since memory is what devices lack; but nothing
  that takes a product on CPUs, whose products take longest.
  """
  if config.remat != "auto":
    return config.remat
  return "dots" if _platform(mesh) == "cpu" else "full"


def lora_of(config: ml_collections.ConfigDict) -> Lora | None:
  """The adapters that are trained in place of the weights, if any."""
  if not config.lora.rank:
    return None
  return Lora(config.lora.rank, config.lora.alpha, tuple(config.lora.targets))


def abstract_state(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  mesh: Mesh,
  total_steps: int,
) -> TrainState:
  """Shapes and shardings of the state; moments lie like their parameters."""
  optimizer = make_optimizer(config, total_steps)
  params, _ = _trained_and_frozen(config, model_config, mesh)
  step = jax.ShapeDtypeStruct((), np.int32)
  boxed = TrainState(step, params, jax.eval_shape(optimizer.init, params))
  return train_state.with_shardings(boxed, meshes.param_shardings(boxed, mesh))


def abstract_frozen(
  config: ml_collections.ConfigDict, model_config: ModelConfig, mesh: Mesh
) -> Params:
  """Shapes and shardings of the parameters that are not trained, if any."""
  _, frozen = _trained_and_frozen(config, model_config, mesh)
  return train_state.with_shardings(
    frozen, meshes.param_shardings(frozen, mesh)
  )


def abstract_teacher(
  config: ml_collections.ConfigDict, model_config: ModelConfig, mesh: Mesh
) -> Params:
  """Shapes and shardings of a teacher's parameters, as narrow as is read.

  None under adapters: it is what is frozen there.
  """
  if config.lora.rank:
    return {}
  boxed = abstract_params(model_config, _kernels(config, mesh).loaded_as)
  return train_state.with_shardings(boxed, meshes.param_shardings(boxed, mesh))


def given_dtype(config: ml_collections.ConfigDict, mesh: Mesh) -> str:
  """Of the weights that the fine-tune begins with.

  What is frozen under adapters need not be wider than it is read.
  """
  if not config.lora.rank:
    return "float32"
  return _kernels(config, mesh).loaded_as


def _trained_and_frozen(config, model_config, mesh) -> tuple[Params, Params]:
  """With logical names."""
  lora = lora_of(config)
  if lora is None:
    return abstract_params(model_config), {}
  adapters, _ = split(abstract_params(model_config, lora=lora))
  return adapters, abstract_params(model_config, given_dtype(config, mesh))


def abstract_rows(
  config: ml_collections.ConfigDict, mesh: Mesh, targets: int, tokens: int
) -> PackedRows:
  """Shapes and shardings of a step's rows of so many tokens and targets."""
  lead = config.accumulate, config.batch_rows // config.accumulate
  row = (lambda length, dtype: jax.ShapeDtypeStruct(
    (*lead, length), dtype, sharding=rows_sharding(mesh)
  ))  # fmt: skip
  return PackedRows(
    tokens=row(tokens, np.int32),
    positions=row(tokens, np.int32),
    until=row(tokens, np.int32),
    target_index=row(targets, np.int32),
    target_token=row(targets, np.int32),
    target_weight=row(targets, np.float32),
  )


def rows_sharding(mesh: Mesh) -> jax.sharding.NamedSharding:
  """Of the fields of a step's rows: [A, B, …], each device its part of B."""
  return meshes.sharding(mesh, None, "batch", None)


def put_rows(
  rows: PackedRows | OnPolicyRows, micro_batches: int, mesh: Mesh
) -> PackedRows | OnPolicyRows:
  """Rows on the devices as [A, B, …].

  Each process holds all rows and hands over those of its own devices.
  """

  def put(field: np.ndarray) -> jax.Array:
    field = field.reshape(micro_batches, -1, field.shape[-1])
    return jax.make_array_from_callback(
      field.shape, rows_sharding(mesh), lambda index: field[index]
    )

  return jax.tree.map(put, rows)


def abstract_step(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  mesh: Mesh,
  total_steps: int,
  targets: int,
  teacher_length: int | None = None,
) -> tuple[Callable, tuple]:
  """A train step and its arguments, nothing allocated: what is compiled.

  Args:
    config: the `finetune` section.
    model_config: architecture.
    mesh: devices.
    total_steps: of the run.
    targets: target slots of a row.
    teacher_length: tokens of a row of the teacher, if there is one.

  Returns:
    The function of `make_train_step`, and state, frozen, rows and what the
    teacher has of its own.
  """
  state = abstract_state(config, model_config, mesh, total_steps)
  frozen = abstract_frozen(config, model_config, mesh)
  rows = abstract_rows(config, mesh, targets, config.row_length)
  teacher, taught = None, {}
  if teacher_length is not None:
    teacher = make_teacher(config, model_config, mesh, teacher_length)
    taught = abstract_teacher(config, model_config, mesh)
    of_teacher = abstract_rows(config, mesh, targets, teacher_length)
    rows = OnPolicyRows(rows, of_teacher)
  model = make_model(config, model_config, mesh)
  step = make_train_step(config, model, state, total_steps, teacher)
  return step, (state, frozen, rows, taught)


def make_train_step(
  config: ml_collections.ConfigDict,
  model: Llama,
  state: TrainState,
  total_steps: int,
  teacher: Llama | None = None,
) -> Callable:
  """The jitted `(state, frozen, rows [A, B, …]) → (state, metrics)`, in place.

  With a teacher it takes rows of both, and the teacher's parameters as well, if
  they are not those that are frozen.

  Args:
    config: the `finetune` section.
    model: the network.
    state: abstract, for its shardings.
    total_steps: of the run, for the learning rate.
    teacher: the network that is learnt from, if it is not targets.
  """
  schedule = learning_rate(config, total_steps)
  optimizer = make_optimizer(config, total_steps)

  def train_step(state: TrainState, frozen: Params, rows, taught=None):
    summed = target_loss
    if teacher is not None:
      learnt_from = Teacher(teacher, taught or frozen)
      summed = functools.partial(teacher_loss, teacher=learnt_from)
    loss, grads = mean_loss_and_grads(model, state.params, frozen, rows, summed)
    grads = optax.tree.cast(grads, jnp.float32)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {
      "loss": loss,
      "learning_rate": schedule(state.step),
      "grad_norm": optax.tree.norm(grads),
      "target_tokens": rows.target_weight.sum(),
      "tokens": (rows.until > 0).sum(),
    }
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics

  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  return jax.jit(
    train_step, out_shardings=(shardings, shardings.step), donate_argnums=0
  )
