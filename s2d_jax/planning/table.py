"""The tables of docs/tpu.md: many models on many chips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s2d_jax.errors import UserError
from s2d_jax.parallel import topology as topologies
from s2d_jax.parallel.topology import Topology
from s2d_jax.planning import estimate, models, programs
from s2d_jax.planning.estimate import Planned
from s2d_jax.planning.programs import Batch, mesh_text

MODEL_NAMES = (
  "llama-2-7b",
  "llama-2-13b",
  "llama-2-70b",
  "llama-3.1-8b",
  "llama-3.1-70b",
)
PODS = ("v5p:4x4x4", "v5e:16x16", "v6e:8x8", "v4:4x4x4")
HOSTS = ("v5p:2x2x1", "v5e:2x4", "v6e:2x4", "v4:2x2x1")
_BATCH = Batch(slots=26, rows=5, prompt=512, reply=256)


def markdown(
  names: Sequence[str] = MODEL_NAMES,
  pods: Sequence[str] = PODS,
  hosts: Sequence[str] = HOSTS,
) -> Iterator[str]:
  """The lines of both tables, each as soon as it is known.

  Args:
    names: of models.
    pods: topologies of the fine-tune.
    hosts: topologies of the sampler.
  """
  if pods:
    yield (
      "| model | compiled for | rows × tokens | mesh | GiB a chip | step |"
      " tokens/s | MFU |"
    )
    yield "|---|---|---|---|---:|---:|---:|---:|"
  for name in names:
    for pod in pods:
      yield _train_line(name, topologies.parse(pod))
  if pods and hosts:
    yield ""
  if hosts:
    yield (
      "| model | compiled for | weights | mesh | GiB a chip | step | tokens/s |"
    )
    yield "|---|---|---|---|---:|---:|---:|"
  for name in names:
    for host in hosts:
      for weights in ("float", "int8"):
        yield _sample_line(name, topologies.parse(host), weights)


def _train_line(model: str, topology: Topology) -> str:
  config = models.large_config(topology)
  rows = f"{config.finetune.batch_rows} × {config.finetune.row_length}"
  try:
    program = programs.train_step(config, models.model_config(model), topology)
  except UserError as error:
    return _line(model, topology.name, rows, "", str(error), "", "", "")
  planned = estimate.planned(program)
  found = planned.estimate
  mfu = ""
  if found is not None:
    mfu = f"{found.mfu(found.longest):.0%} – {found.mfu(found.shortest):.0%}"
  return _line(model, topology.name, rows, *_figures(planned), mfu)


def _sample_line(model: str, topology: Topology, weights: str) -> str:
  config = models.large_config(topology)
  config.sampling.weights = weights
  shown = "bfloat16" if weights == "float" else weights
  try:
    made = programs.sampler(
      config, models.model_config(model), topology, _BATCH
    )
  except UserError as error:
    return _line(model, topology.name, shown, "", str(error), "", "")
  prefill, decode = map(estimate.planned, made)
  figures = _figures(decode if prefill.fits else prefill)
  return _line(model, topology.name, shown, *figures)


def _figures(planned: Planned) -> list[str]:
  """Mesh, memory, time and rate."""
  program, found = planned.program, planned.estimate
  mesh = mesh_text(program.mesh)
  if found is None:
    return [mesh, program.problem, "", ""]
  memory = program.memory
  size = f"{memory.peak / 2**30:.1f} of {memory.usable / 2**30:.1f}"
  if not planned.fits:
    size += ": does not fit"
  unit, digits = (1e3, 1) if found.longest < 0.1 else (1, 2)
  name = "ms" if unit == 1e3 else "s"
  between = (
    f"{found.shortest * unit:.{digits}f} –"
    f" {found.longest * unit:.{digits}f} {name}"
  )
  rate = (
    f"{found.tokens / found.longest:,.0f} –"
    f" {found.tokens / found.shortest:,.0f}"
  )
  return [mesh, size, between, rate]


def _line(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"
