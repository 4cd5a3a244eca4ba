"""Says of commands whether their own programs would begin with them.

Run as a program, since programs that are never in one process name their flags
alike. It reads [{"folder": …, "command": [word, …]}, …] from its standard input
and prints a list: for each, {"error": what the program says against it or null,
"needs": what of "hub" it needs}. Nothing is computed: a command is stopped
where its flags are read and its settings are checked.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import runpy
import sys
from typing import Any
from unittest import mock

from absl import app, flags
from absl.testing import flagsaver
from ml_collections import ConfigDict

from s2d_jax import cli
from s2d_jax.checkpoints import names
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.presets import PRESETS
from s2d_jax.stages import program

_IN_THE_INDEX = "smollm2-135m-instruct"
_ON_THE_HUB = (
  {*names._HUB_IDS, *names._HUB_IDS.values()}
  | {preset.name for preset in PRESETS.values()}
) - {_IN_THE_INDEX}


class _Parsed(BaseException):
  """Thrown where a program would begin; no program catches it."""


def _run(main, argv=None, flags_parser=None) -> None:
  """In place of `absl.app.run`."""
  del argv
  rest = (flags_parser or flags.FLAGS)(sys.argv)
  if len(rest) > 1:
    raise UserError(f"{rest[1]!r} is not a flag")
  if program.main.called:  # a stage of a run checks its settings first
    main(rest)
  raise _Parsed


def _begin(*unused) -> None:
  """In place of `hosts.initialize`: the settings have been checked."""
  raise _Parsed


def _parse_args(self, args=None, namespace=None) -> None:
  """In place of `argparse.ArgumentParser.parse_args`."""
  _, unknown = self.parse_known_args(args, namespace)
  if unknown:
    self.error(f"unknown arguments: {' '.join(unknown)}")
  raise _Parsed


def check(command: list[str]) -> dict[str, Any]:
  said, modules = io.StringIO(), dict(sys.modules)
  defined = _modules_with_flags()
  found: dict[str, Any] = {"error": None, "needs": []}
  try:
    with (
      flagsaver.flagsaver(),
      mock.patch.object(app, "run", _run),
      mock.patch.object(program, "main", mock.Mock(wraps=program.main)),
      mock.patch.object(hosts, "initialize", _begin),
      mock.patch.object(argparse.ArgumentParser, "parse_args", _parse_args),
      mock.patch.object(sys, "argv", command),
      contextlib.redirect_stdout(said),
      contextlib.redirect_stderr(said),
    ):
      try:
        _start(command)
      except _Parsed:
        found["needs"] = _checked(command)
      except SystemExit as end:  # 0: --help has been printed
        if end.code not in (0, None):
          found["error"] = said.getvalue().strip() or str(end.code)
      else:
        if "--help" not in command:  # s2d --help has been answered
          found["error"] = "it reads its flags in a way of its own"
      finally:
        for module in _modules_with_flags() - defined:
          _forget(module, modules)
  except (UserError, flags.Error) as error:
    found["error"] = str(error)
  return found


def _start(command: list[str]) -> None:
  if command[0] == "s2d":
    cli.main()
  else:  # python -m module …
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name="__main__")


def _checked(command: list[str]) -> list[str]:
  """Checks what is to be planned; what the command needs."""
  known = flags.FLAGS
  config = known.config if "config" in known else None
  plans = command[:2] == ["s2d", "plan"]
  if plans and known.topology:
    plan = importlib.import_module("s2d_jax.stages.plan")
    topology = plan.topologies.parse(known.topology, known.slices)
    plan.models.model_config(plan._config(topology).model.name)
    if known.sampler:
      plan.topologies.parse(known.sampler)
  model = known.model if "model" in known else None
  if isinstance(config, ConfigDict) and not model:
    model = config.model.name
  task = program._flatten(config.task) if config else {}
  data = [str(value) for value in task.values()]
  uses_hub = not plans and (
    str(model).lower() in {one.lower() for one in _ON_THE_HUB}
    or any(value.startswith(("hf:", "tfds:")) for value in data)
  )
  return ["hub"] if uses_hub else []


def _modules_with_flags() -> set[str]:
  found = flags.FLAGS.flags_by_module_dict()
  return {module for module, defined in found.items() if defined}


def _forget(module: str, before: dict[str, Any]) -> None:
  """Unloads a module that has defined flags, so that it can do so again."""
  if module in before:
    return
  sys.modules.pop(module, None)
  parent, _, child = module.rpartition(".")
  if parent in sys.modules:
    vars(sys.modules[parent]).pop(child, None)


def main() -> None:
  results = []
  for given in json.load(sys.stdin):
    os.chdir(given["folder"])
    results.append(check(given["command"]))
  json.dump(results, sys.stdout)


if __name__ == "__main__":
  main()
