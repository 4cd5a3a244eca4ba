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
  env = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
  env["PYTHONPATH"] = str(_ROOT)
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
