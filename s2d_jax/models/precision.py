"""The dtype of products, by kind of device."""

from __future__ import annotations

import functools
import pathlib

SETTINGS = ("auto", "float32", "bfloat16")


def choose(setting: str, platform: str) -> str:
  """The dtype of products that is fastest on a kind of device.

  Args:
    setting: one of `SETTINGS`; but for "auto", it is the answer.
    platform: "cpu", "gpu" or "tpu".
  """
  if setting != "auto":
    return setting
  narrow = platform != "cpu" or _has_matrix_units()
  return "bfloat16" if narrow else "float32"


@functools.cache
def _has_matrix_units() -> bool:
  """Whether this processor has them for bfloat16 (AMX, as Linux names it)."""
  flags = pathlib.Path("/proc/cpuinfo")
  return flags.exists() and "amx_bf16" in flags.read_text()
