"""Tries meshes, batch sizes and remat policies, and ranks what fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses

from ml_collections import ConfigDict

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import REMAT_POLICIES
from s2d_jax.parallel.topology import Topology
from s2d_jax.planning import estimate, programs
from s2d_jax.planning.estimate import Planned
from s2d_jax.planning.programs import Batch

_FACTORS = (1, 2, 4)  # of the batch size that the config asks for
# The one that keeps least comes first: if it does not fit, no other does.
_REMAT = tuple(reversed(REMAT_POLICIES))


@dataclasses.dataclass(frozen=True)
class Trial:
  """One set of settings; `problem` says why it cannot be used, if so."""

  settings: Mapping[str, str]
  planned: Planned | None
  problem: str | None

  @property
  def tokens_per_second(self) -> float:
    """Half-way between all overlapped and nothing overlapped."""
    estimate = self.planned.estimate
    return estimate.tokens / ((estimate.shortest + estimate.longest) / 2)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
  """What fits, the fastest first; then the others as they came."""
  fitting = [trial for trial in trials if trial.problem is None]
  fitting.sort(key=lambda trial: -trial.tokens_per_second)
  return fitting + [trial for trial in trials if trial.problem is not None]


def train_trials(
  config: ConfigDict, model_config: ModelConfig, topology: Topology
) -> Iterator[Trial]:
  """The fine-tune: fsdp × tensor, batch sizes, and what backward keeps."""
  for tensor in _divisors(topology.num_devices // topology.slices):
    changed = copy.deepcopy(config)
    # The other axes are chosen: fsdp, or data where the state fits one chip.
    changed.mesh.update({"dcn": 0, "data": 0, "fsdp": 0, "tensor": tensor})
    for factor in _FACTORS:
      rows = config.finetune.batch_rows * factor
      changed.finetune.batch_rows = rows
      for remat in _REMAT:
        changed.finetune.remat = remat
        trial = _try(
          {"batch": str(rows), "remat": remat},
          f"tensor {tensor}",
          lambda changed=changed: programs.train_step(
            changed, model_config, topology
          ),
        )
        yield trial
        if trial.problem:
          break
      if trial.planned and trial.problem and remat == _REMAT[0]:
        break  # larger batches will not fit, either


def sample_trials(
  config: ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  batch: Batch,
) -> Iterator[Trial]:
  """The sampler: tensor × data, and samples decoded at once."""
  for tensor in _divisors(topology.num_devices):
    changed = copy.deepcopy(config)
    changed.sampling.mesh.update({"data": 0, "tensor": tensor})
    for factor in _FACTORS:
      larger = dataclasses.replace(batch, slots=batch.slots * factor)
      trial = _try(
        {"batch": str(larger.slots * larger.rows)},
        f"tensor {tensor}",
        lambda changed=changed, larger=larger: programs.sampler(
          changed, model_config, topology, larger
        )[-1],
      )
      yield trial
      if trial.problem:
        break


def _try(settings: Mapping[str, str], mesh: str, compile_program) -> Trial:
  try:
    planned = estimate.planned(compile_program())
  except UserError as error:  # the mesh does not suit the model
    return Trial({"mesh": mesh, **settings}, None, str(error))
  mesh = programs.mesh_text(planned.program.mesh)
  return Trial({"mesh": mesh, **settings}, planned, planned.program.problem)


def _divisors(count: int) -> list[int]:
  return [size for size in range(1, count + 1) if count % size == 0]
