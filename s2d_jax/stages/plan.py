"""Plans a run on a TPU without having one: does it fit, and how fast is it?

s2d plan --model=llama-2-70b --topology=v5p:4x4x4

Compiles the fine-tune and the sampler with the TPU's own compiler; no TPU, no
weights and no Hub are needed. Exits with 0 if all programs fit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys

from absl import flags
from etils import epath
import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.text import Text

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.generation.shapes import rows_per_slot
from s2d_jax.models.config import ModelConfig
from s2d_jax.parallel import memory, topology as topologies
from s2d_jax.parallel.topology import Topology
from s2d_jax.planning import (
  estimate,
  models,
  programs,
  report,
  rows,
  sweep,
  table as tables,
)
from s2d_jax.stages import program, setup

_MODEL = flags.DEFINE_string(
  "model",
  None,
  f"One of {', '.join(models.MODELS)}, or a folder with a config.json;"
  " default: the model of --config.",
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "Chips of the fine-tune: v5p:4x4x4, v5e:16x16, v6e:8x8 …"
)
_SLICES = flags.DEFINE_integer(
  "slices", 1, "Slices of --topology, over the data-centre network.", 1
)
_SAMPLER = flags.DEFINE_string(
  "sampler",
  None,
  "Chips of the sampler; default: those of one host of --topology, or all of a"
  ' slice with --config.sampling.scope="global".',
)
_PART = flags.DEFINE_enum(
  "part", "both", ["train", "sample", "both"], "Which programs to plan."
)
_BATCH = flags.DEFINE_integer(
  "batch",
  None,
  "Rows of an update, over all chips; default: 64, or the chips if more.",
  1,
)
_LENGTH = flags.DEFINE_integer(
  "length", None, "Tokens of a row; default: 1024.", 1
)
_MESH = flags.DEFINE_string(
  "mesh", None, "Of the fine-tune, as fsdp=16,tensor=4; default: automatic."
)
_REMAT = flags.DEFINE_enum(
  "remat",
  None,
  ["none", "dots", "full"],
  "What the backward pass recomputes; default: full.",
)
_WEIGHTS = flags.DEFINE_enum(
  "weights", None, ["float", "int8"], "Of the sampler; default: float."
)
_ROWS = flags.DEFINE_integer(
  "rows",
  None,
  "Samples decoded at once; 0: as many as fit and are worth it; default: 128.",
  0,
)
_PROMPT = flags.DEFINE_integer("prompt", 512, "Tokens of a prompt.", 1)
_REPLY = flags.DEFINE_integer("reply", 256, "Tokens of a reply.", 1)
_ROOM = flags.DEFINE_integer(
  "room",
  None,
  "Tokens of its reply that a row has room for, in the mean over the replies"
  " under way, as they grow; default: all of --reply.",
  1,
)
_SWEEP = flags.DEFINE_bool(
  "sweep", False, "Try meshes, batch sizes and remat policies; rank them."
)
_TABLE = flags.DEFINE_bool(
  "table",
  False,
  "Print the tables of docs/tpu.md: for many models and chips, or those named.",
)
_JSON = flags.DEFINE_string("json", None, "File for all figures, as JSON.")

_FIRST_ROWS = 128  # that a sweep begins with where the config has none

FLAGS = (
  "model", "topology", "slices", "sampler", "part", "batch", "length", "mesh",
  "remat", "weights", "rows", "prompt", "reply", "room", "sweep", "table",
  "json", "config",
)  # fmt: skip


def plan(argv) -> None:
  del argv
  # Devices of this machine, if there are any, are not those of the plan.
  jax.config.update("jax_platforms", "cpu")
  if _TABLE.value:
    _print_tables()
    return
  if not _TOPOLOGY.value:
    raise UserError(
      "give --topology, for instance s2d plan --model=llama-2-70b"
      " --topology=v5p:4x4x4"
    )
  topology = topologies.parse(_TOPOLOGY.value, _SLICES.value)
  config = _config(topology)
  model_config = models.model_config(config.model.name)
  console = Console()
  console.print(
    Text(
      f"{config.model.name}: {model_config.num_params / 1e9:.2f} B parameters;"
      f" {topology.name}: {_counted(topology)}, {topology.num_hosts}"
      f" host{'s' * (topology.num_hosts > 1)}"
    )
  )
  fits = (_sweep if _SWEEP.value else _plan)(
    config, model_config, topology, console
  )
  if not fits:
    sys.exit(1)


def _counted(topology: Topology) -> str:
  chips = f"{topology.num_chips} chip{'s' * (topology.num_chips > 1)}"
  cores = topology.num_devices
  return chips if cores == topology.num_chips else f"{chips}, {cores} cores"


def _print_tables() -> None:
  """For all models and chips, or those that are named."""
  names = [_MODEL.value] if _MODEL.value else tables.MODEL_NAMES
  pods = [_TOPOLOGY.value] if _TOPOLOGY.value else tables.PODS
  hosts = [_SAMPLER.value] if _SAMPLER.value else tables.HOSTS
  parts = {"train": (pods, ()), "sample": ((), hosts)}
  for line in tables.markdown(names, *parts.get(_PART.value, (pods, hosts))):
    print(line, flush=True)


def _plan(
  config: ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  console: Console,
) -> bool:
  """Prints what each program needs; returns whether all of them fit."""
  compiled, choice = [], None
  if _PART.value != "sample":
    compiled.append(programs.train_step(config, model_config, topology))
  if _PART.value != "train":
    where, batch = _sampler(config, topology)
    made, choice = _sample(config, model_config, where, batch)
    compiled += made
  plans = [estimate.planned(one) for one in compiled]
  report.print_plan(plans, console)
  if _PART.value != "sample" and not config.finetune.accumulate:
    console.print(Text(f"finetune.accumulate: {compiled[0].micro_batches}"))
  is_open = _PART.value != "train" and not config.sampling.batch_rows
  if is_open and choice is None:
    told = "sampling.batch_rows=0: nine tenths of a chip hold not even these"
    console.print(Text(told, style="bold red"))
  if choice is not None:
    report.print_choice(choice, config.sampling.batch_rows, console)
  found = [report.as_json(planned) for planned in plans]
  if choice is not None:
    found[-1]["batch_rows"] = report.choice_as_json(choice)
  _write_json(found)
  fits = all(planned.fits for planned in plans)
  return fits and not (is_open and choice is None)


def _sample(
  config: ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  batch: programs.Batch,
) -> tuple[list[programs.Program], rows.Choice | None]:
  """The programs of a sampler, and how many rows it had best have.

  None if not even few rows fit; the programs are then those of the fewest.

  Args:
    config: of a run; without rows of its own it has those that are chosen.
    model_config: the architecture.
    topology: chips of the sampler.
    batch: its sizes, where the config has some.
  """
  chip = topology.chip
  limit, peaks = chip.usable_bytes * (1 - memory.MARGIN), rows.Peaks.of(chip)
  sampler = programs.abstract_sampler(config, model_config, topology)
  _, per_slot, *lengths, room = dataclasses.astuple(batch)
  found = list(rows.sizes(sampler, per_slot, *lengths, peaks, limit, room))
  made: list[programs.Program] = []

  def peak(size: rows.Size) -> float:
    made[:] = programs.sampler(config, model_config, topology, size.batch)
    return max(one.memory.peak if one.memory else limit + 1 for one in made)

  if config.sampling.batch_rows:
    size = rows.size_of(sampler, batch, peaks)
    own = size.temporary(peak(size))
    return made, rows.choose(found, limit, temporary=own)
  choice = rows.compiled(found, limit, peak)
  if choice is None:
    peak(found[0])
  return made, choice


def _sweep(
  config: ConfigDict,
  model_config: ModelConfig,
  topology: Topology,
  console: Console,
) -> bool:
  """Tries settings, prints each and a ranking; returns whether any fits."""
  tried = []
  if _PART.value != "sample":
    tried.append(sweep.train_trials(config, model_config, topology))
  if _PART.value != "train":
    where, batch = _sampler(config, topology)
    tried.append(sweep.sample_trials(config, model_config, where, batch))
  rankings = []
  for trials in tried:
    found = []
    for trial in trials:
      console.print(Text(report.trial_line(trial)))
      found.append(trial)
    rankings.append(sweep.ranked(found))
    report.print_ranking(rankings[-1], console)
  _write_json(
    [
      {**trial.settings, "problem": trial.problem}
      | (report.as_json(trial.planned) if trial.planned else {})
      for trials in rankings
      for trial in trials
    ]
  )
  return all(trials[0].problem is None for trials in rankings)


def _write_json(found: list) -> None:
  if _JSON.value:
    text = json.dumps(found, indent=2) + "\n"
    records.write_text(epath.Path(_JSON.value), text)


def _config(topology: Topology) -> ConfigDict:
  """The settings of --config, or the defaults for a large model."""
  config = flags.FLAGS.config
  if config is None:
    config = models.large_config(topology)
    if not _MODEL.value:
      raise UserError(f"give --model, one of {', '.join(models.MODELS)}")
  for section, name, flag in (
    ("model", "name", _MODEL),
    ("finetune", "batch_rows", _BATCH),
    ("finetune", "row_length", _LENGTH),
    ("finetune", "remat", _REMAT),
    ("sampling", "weights", _WEIGHTS),
    ("sampling", "batch_rows", _ROWS),
  ):
    if flag.value is not None:
      config[section][name] = flag.value
  for axis, size in _mesh_sizes().items():
    config.mesh[axis] = size
  setup.check(config)
  return config


def _mesh_sizes() -> dict[str, int]:
  """The axes of --mesh; an axis that it leaves out has one chip."""
  if not _MESH.value:
    return {}
  sizes = {"dcn": _SLICES.value, "data": 1, "fsdp": 1, "tensor": 1}
  for part in _MESH.value.split(","):
    axis, _, size = part.partition("=")
    if axis not in sizes or not size.isdecimal() or int(size) < 1:
      raise UserError(
        f"--mesh={_MESH.value}: {part!r} is not AXIS=SIZE with an axis of"
        f" {', '.join(sizes)}; for instance --mesh=fsdp=16,tensor=4"
      )
    sizes[axis] = int(size)
  return sizes


def _sampler(
  config: ConfigDict, topology: Topology
) -> tuple[Topology, programs.Batch]:
  """Where sampling runs, and what is decoded at once."""
  if _SAMPLER.value:
    where = topologies.parse(_SAMPLER.value)
  elif config.sampling.scope == "global":
    where = Topology(topology.kind, topology.shape)
  else:
    where = topology.host()
  per_slot = rows_per_slot(_PROMPT.value, config.sampling.n, _REPLY.value)
  slots = math.ceil((config.sampling.batch_rows or _FIRST_ROWS) / per_slot)
  if (room := _ROOM.value) is not None and room > _REPLY.value:
    raise UserError(
      f"--room={room} is more than a reply has tokens (--reply={_REPLY.value});"
      " it is a mean over replies that are under way"
    )
  return where, programs.Batch(
    slots, per_slot, _PROMPT.value, _REPLY.value, room
  )


def main() -> None:
  program.run_program(plan, __doc__, FLAGS)


if __name__ == "__main__":
  main()
