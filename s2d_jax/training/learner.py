"""A model in training: what is trained, what is not, and its update."""

from __future__ import annotations

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array
import ml_collections
import numpy as np

from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.loss import joined, target_loss
from s2d_jax.training.optimizer import make_optimizer
from s2d_jax.training.packing import OnPolicyRows, PackedRows
from s2d_jax.training.run_checkpoints import RunCheckpoints


class Learner:
  """All weights of a model in training, or adapters beside frozen weights.

  Made from shapes alone; `start` or `resume` gives it its arrays. Both take
  over the parameters that the run begins with, float32 where they are trained:
  there is no second copy of them, and the caller's arrays are not to be used
  any more. Its methods are called inside `mesh.use(mesh, training=True)`.

  Attributes:
    state: what is trained, its optimiser and the updates made; `update`
      overwrites its arrays.
    frozen: the weights under adapters; nothing where all weights are trained.
    taught: the teacher's weights, those that the run began with; nothing where
      there is no teacher, or they are the frozen ones.
  """

  state: TrainState
  frozen: Params
  taught: Params

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model_config: ModelConfig,
    mesh: Mesh,
    total_steps: int,
    teacher_length: int | None = None,
  ):
    """Checks the sizes; nothing is compiled yet.

    Args:
      config: the `finetune` section.
      model_config: architecture.
      mesh: devices; the rows of a micro-batch must divide evenly over them.
      total_steps: of the run, for the learning rate.
      teacher_length: tokens of a row of the teacher, if the model learns from
        one; then `update` takes rows of both.

    Raises:
      UserError: sizes that do not fit together.
    """
    self._config, self._mesh = config, mesh
    self._micro_rows = _micro_batch_rows(config, mesh)
    self._model = steps.make_model(config, model_config, mesh)
    self._trains_all = self._model.lora is None
    self._optimizer = make_optimizer(config, total_steps)
    self._abstract = steps.abstract_state(
      config, model_config, mesh, total_steps
    )
    self._has_teacher = teacher_length is not None
    teacher = (
      steps.make_teacher(config, model_config, mesh, teacher_length)
      if self._has_teacher
      else None
    )
    self._train_step = steps.make_train_step(
      config, self._model, self._abstract, total_steps, teacher
    )
    self._add_loss = _make_add_loss(self._model, mesh)
    self._merge = jax.jit(
      functools.partial(lora.merge, lora=self._model.lora),
      out_shardings=_shardings(self._abstract_frozen()),
    )

  def start(self, params: Params, seed: int) -> None:
    """Begins with `params`, and with adapters drawn from `seed` if any."""
    self._keep(params)
    shardings = _shardings(self._abstract)
    if self._trains_all:
      trained = jax.device_put(params, shardings.params, donate=True)
    else:
      init = jax.jit(self._new_adapters, out_shardings=shardings.params)
      trained = init(jax.random.key(seed))
    init = jax.jit(self._optimizer.init, out_shardings=shardings.opt_state)
    step = jax.device_put(np.int32(0), shardings.step)
    self.state = TrainState(step, trained, init(trained))

  def resume(self, params: Params, checkpoints: RunCheckpoints) -> None:
    """Goes on from the newest checkpoint of a run that began with `params`."""
    self._keep(params)
    if self._trains_all:
      # Freed first: the checkpoint has all of them.
      jax.tree.map(lambda leaf: leaf.delete(), params)
    self.state = checkpoints.restore(self._abstract)

  @property
  def step(self) -> int:
    """Updates made; waits for the last."""
    return int(self.state.step)

  def weights(self) -> Params:
    """The whole model as it is now, laid out as it is trained.

    Where all weights are trained they are those of `state`, which the next
    update overwrites.
    """
    if self._trains_all:
      return self.state.params
    return self._merge(self.frozen, self.state.params)

  def update(self, rows: PackedRows | OnPolicyRows) -> dict[str, Array]:
    """One update. Its metrics are there when the devices are done, not before.

    Args:
      rows: all of the batch, [batch_rows, …].
    """
    batch = steps.put_rows(rows, self._config.accumulate, self._mesh)
    self.state, metrics = self._train_step(
      self.state, self.frozen, batch, self.taught
    )
    return metrics

  def mean_loss(self, rows: PackedRows) -> float:
    """Nats a target token of any number of rows."""
    total = jax.device_put(np.float32(0), meshes.replicated(self._mesh))
    count, size = len(rows.tokens), self._micro_rows
    for first in range(0, count, size):
      indices = np.arange(first, min(first + size, count))
      batch = steps.put_rows(rows.take(indices, size), 1, self._mesh)
      total = self._add_loss(total, self.state.params, self.frozen, batch)
    return float(total) / float(rows.target_weight.sum())

  def _keep(self, params: Params) -> None:
    """Of what the run begins with, what no update changes."""
    self.frozen, self.taught = {}, {}
    if not self._trains_all:
      self.frozen = _cast(params, self._abstract_frozen(), donate=True)
    elif self._has_teacher:
      abstract = steps.abstract_teacher(
        self._config, self._model.config, self._mesh
      )
      self.taught = _cast(params, abstract)

  def _abstract_frozen(self) -> Params:
    return steps.abstract_frozen(self._config, self._model.config, self._mesh)

  def _new_adapters(self, key: Array) -> Params:
    tokens = jnp.zeros((1, 1), jnp.int32)
    variables = self._model.init(key, tokens, method=Llama.init_all)
    return lora.split(nn.unbox(variables)["params"])[0]


def _micro_batch_rows(config: ml_collections.ConfigDict, mesh: Mesh) -> int:
  shards = meshes.batch_shards(mesh)
  if config.batch_rows % (config.accumulate * shards):
    raise UserError(
      f"finetune.batch_rows={config.batch_rows} does not divide evenly over"
      f" finetune.accumulate={config.accumulate} micro-batches on {shards}"
      " shards of the mesh; make it a multiple of their product"
    )
  return config.batch_rows // config.accumulate


def _cast(params: Params, abstract: Params, donate: bool = False) -> Params:
  """In the number formats and the places of `abstract`, in arrays of its own.

  Args:
    params: on the devices.
    abstract: a tree like it.
    donate: whether they are given up.
  """

  def cast(params: Params) -> Params:
    # Copied: what is not narrowed would else be the very arrays.
    narrowed = lambda leaf, like: jnp.copy(leaf.astype(like.dtype))
    return jax.tree.map(narrowed, params, abstract)

  cast = jax.jit(
    cast,
    out_shardings=_shardings(abstract),
    donate_argnums=0 if donate else (),
  )
  return cast(params)


def _shardings(abstract):
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _make_add_loss(model: Llama, mesh: Mesh) -> Callable:
  """The jitted `(total, params, frozen, rows [1, B, …]) → total`."""

  # The running sum makes each batch wait for the one before: their activations
  # are never in memory at once.
  def add_loss(total: Array, params: Params, frozen: Params, rows: PackedRows):
    rows = jax.tree.map(lambda field: field[0], rows)
    variables = {"params": joined(params, frozen)}
    return total + target_loss(model, variables, rows)

  return jax.jit(add_loss, out_shardings=meshes.replicated(mesh))
