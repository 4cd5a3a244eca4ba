"""The tables of docs/tpu.md: many models on many chips."""

from __future__ import annotations

from collections.abc import Iterator

from s2d_jax.errors import UserError
from s2d_jax.parallel import topology as topologies
from s2d_jax.parallel.topology import Topology
from s2d_jax.planning import estimate, models, programs
from s2d_jax.planning.estimate import Planned
from s2d_jax.planning.models import MODELS
from s2d_jax.planning.programs import Batch, mesh_text

_MODELS = (
  "llama-2-7b",
  "llama-2-13b",
  "llama-2-70b",
  "llama-3.1-8b",
  "llama-3.1-70b",
)
_PODS = ("v5p:4x4x4", "v5e:16x16", "v6e:8x8", "v4:4x4x4")
_HOSTS = ("v5p:2x2x1", "v5e:2x4", "v6e:2x4", "v4:2x2x1")
BATCH = Batch(slots=26, rows=5, prompt=512, own=256)


def markdown() -> Iterator[str]:
  """The lines of both tables, each as soon as it is known."""
  yield (
    "| model | compiled for | rows × tokens | mesh | GiB a chip | step |"
    " tokens/s | MFU |"
  )
  yield "|---|---|---|---|---:|---:|---:|---:|"
  for model in _MODELS:
    for name in _PODS:
      yield _train_line(model, topologies.parse(name))
  yield ""
  yield (
    "| model | compiled for | weights | mesh | GiB a chip | step | tokens/s |"
  )
  yield "|---|---|---|---|---:|---:|---:|"
  for model in _MODELS:
    for name in _HOSTS:
      for weights in ("float", "int8"):
        yield _sample_line(model, topologies.parse(name), weights)


def _train_line(model: str, topology: Topology) -> str:
  config = models.large_config(topology)
  rows = f"{config.finetune.batch_rows} × {config.finetune.row_length}"
  try:
    program = programs.train_step(config, MODELS[model], topology)
  except UserError as error:
    return _line(model, topology.name, rows, "", str(error), "", "", "")
  planned = estimate.measured(program)
  found = planned.estimate
  mfu = (
    found
    and f"{found.mfu(found.longest):.0%} – {found.mfu(found.shortest):.0%}"
  )
  return _line(model, topology.name, rows, *_figures(planned), mfu or "")


def _sample_line(model: str, topology: Topology, weights: str) -> str:
  config = models.large_config(topology)
  config.sampling.weights = weights
  prefill, decode = map(
    estimate.measured,
    programs.sampler(config, MODELS[model], topology, BATCH),
  )
  shown = "bfloat16" if weights == "float" else weights
  return _line(
    model,
    topology.name,
    shown,
    *_figures(decode if prefill.fits else prefill),
  )


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
