"""How a stage was run: the command, versions, devices and number type."""

from __future__ import annotations

from collections.abc import Sequence
import pathlib
import shlex
import sys
from typing import Any

import jax
from ml_collections import ConfigDict

from s2d_jax.models import precision
from s2d_jax.parallel import hosts
from s2d_jax.reporting import versions
from s2d_jax.stages import batch_rows


def of_stage(
  name: str, config: ConfigDict, uses_devices: bool
) -> dict[str, Any]:
  """What is kept beside the summary of a stage, for the report.

  Args:
    name: of the stage.
    config: of the run.
    uses_devices: whether it has a model on them; else none is touched here,
      since a TPU may be another process's.

  Returns:
    "versions" by package; "command", if it is one of ours; "devices" and
    "dtype" (of products) of a stage that has a model, and "batch_rows" where it
    chose them: a number for each batch.
  """
  found: dict[str, Any] = {"versions": versions.installed()}
  line = command(sys.argv)
  if line:
    found["command"] = line
  if uses_devices:
    platform = jax.default_backend()
    part = config.finetune if name == "finetune" else config.model
    found["devices"] = {
      "platform": platform,
      "kind": jax.devices()[0].device_kind,
      "count": jax.device_count(),
      "processes": hosts.count(),
    }
    found["dtype"] = precision.choose(part.dtype, platform)
  if rows := batch_rows.taken():
    found["batch_rows"] = rows
  return found


def command(argv: Sequence[str]) -> str | None:
  """The command that runs it again; None in a notebook or a test."""
  program, *arguments = argv
  path = pathlib.Path(program)
  if program.startswith("s2d "):
    start = program
  elif path.parts[-3:-1] == ("s2d_jax", "stages"):
    start = f"s2d {path.stem}"
  else:
    return None
  return " ".join([start, *map(shlex.quote, arguments)])
