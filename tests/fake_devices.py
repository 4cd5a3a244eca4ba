"""Programs on 8 devices that the CPU pretends to have."""

from __future__ import annotations

import json
from typing import Any

from tests import processes


def run(program: str) -> Any:
  """What a Python program prints last, as JSON.

  The number of devices is fixed when JAX starts: it has its own process.
  """
  environ = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
  ended = processes.run(program, **environ)
  assert ended.status == 0, ended.err
  return json.loads(ended.out.splitlines()[-1])


def run_module(module: str) -> Any:
  """What `python -m module` prints last, as JSON."""
  return run(f"import runpy; runpy.run_module({module!r}, None, '__main__')")
