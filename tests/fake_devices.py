"""Programs on 8 devices that the CPU pretends to have."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]


def run(module: str) -> Any:
  """What `python -m module` prints last, as JSON.

  The number of devices is fixed when JAX starts: it has its own process.
  """
  flags = "--xla_force_host_platform_device_count=8"
  env = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(_ROOT)}
  env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # they are small, and run once
  ended = subprocess.run(
    [sys.executable, "-m", module],
    cwd=_ROOT,
    env=os.environ | env,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.returncode == 0, ended.stderr
  return json.loads(ended.stdout.splitlines()[-1])
