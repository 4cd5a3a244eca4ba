"""The fewest micro-batches with which an update fits the devices.

Of how many an update is made changes nothing that is learnt: gradients are
summed over all of its rows, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import copy

from jax.sharding import Mesh
import ml_collections

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.parallel import hosts, memory, mesh as meshes
from s2d_jax.training import step as steps
from s2d_jax.training.data import TrainingData

SETTING = "finetune.accumulate"


def decided(
  config: ml_collections.ConfigDict,
  model_config: ModelConfig,
  mesh: Mesh,
  data: TrainingData,
) -> ml_collections.ConfigDict:
  """The config with as few as fit, if it leaves them open; says so.

  All processes choose the same, by compiling the step.

  Args:
    config: the `finetune` section.
    model_config: architecture.
    mesh: devices.
    data: for the lengths of its rows.

  Raises:
    UserError: not even the smallest micro-batches fit.
  """
  if config.accumulate:
    return config
  if config.batch_rows % meshes.batch_shards(mesh):
    return with_count(config, 1)  # the learner says that they do not divide
  limit = hosts.least(SETTING, memory.usable(list(mesh.devices.flat)))

  def peak(count: int) -> float:
    step, arguments = steps.abstract_step(
      with_count(config, count),
      model_config,
      mesh,
      data.total_steps,
      data.target_slots,
      data.teacher_length,
    )
    with meshes.use(mesh, training=True):
      return memory.peak(step, arguments, limit)

  count = fewest(config, mesh, peak, limit)
  rows = config.batch_rows // count
  print(f"{SETTING}: {count}, each of {rows} rows, as fits", flush=True)
  return with_count(config, count)


def fewest(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  peak: Callable[[int], float],
  limit: float,
) -> int:
  """The first count of those that are possible that fits.

  Args:
    config: the `finetune` section.
    mesh: devices.
    peak: bytes of a device at its fullest, with so many micro-batches.
    limit: bytes of a device.

  Raises:
    UserError: none fits.
  """
  for count in counts(config.batch_rows, meshes.batch_shards(mesh)):
    if (needed := peak(count)) <= limit:
      return count
  raise UserError(
    f"the fine-tune does not fit: with finetune.accumulate={count}, the most"
    f" that {config.batch_rows} rows divide into, it needs {needed / 2**30:.2f}"
    f" of the {limit / 2**30:.2f} GiB that it may take of a device; see what"
    " helps in docs/troubleshooting.md, out of memory"
  )


def counts(rows: int, shards: int) -> Iterator[int]:
  """Of micro-batches that `rows` divide into, each over `shards`; ascending."""
  most = rows // shards
  return (count for count in range(1, most + 1) if most % count == 0)


def with_count(
  config: ml_collections.ConfigDict, count: int
) -> ml_collections.ConfigDict:
  """The `finetune` section with so many."""
  changed = copy.deepcopy(config)
  changed.accumulate = count
  return changed
