"""How much of a device's memory a program may be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os

import jax

# Of what a device has for programs, what is left free: for what no figure of a
# compiled program counts, as prompts that were prefilled and wait, and gaps.
MARGIN = 0.1
# Of a machine's memory, what devices that are its CPU may take: there is the
# rest of the machine, too.
_CPU_SHARE = 0.5


def usable(devices: Sequence[jax.Device]) -> int:
  """Bytes of the device that has least of it, without the margin.

  It goes by what there is, not by what is free at the moment: so each start on
  the same devices finds the same.
  """
  return min(int(_limit(device) * (1 - MARGIN)) for device in _mine(devices))


def in_use(devices: Sequence[jax.Device]) -> int:
  """Bytes that lie on the device where most do; a CPU does not tell: 0."""
  stats = [device.memory_stats() or {} for device in _mine(devices)]
  return max(found.get("bytes_in_use", 0) for found in stats)


def peak(function: Callable, arguments: tuple, limit: float) -> float:
  """Bytes of a device at its fullest while a program runs, once compiled.

  More than `limit` where the compiler finds that it does not fit at all.

  Args:
    function: jitted.
    arguments: of it, abstract.
    limit: bytes of a device.
  """
  try:
    compiled = function.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return limit + 1
  return compiled.memory_analysis().peak_memory_in_bytes


def _mine(devices: Sequence[jax.Device]) -> list[jax.Device]:
  """Those of this process: others do not tell."""
  mine = [one for one in devices if one.process_index == jax.process_index()]
  return mine or jax.local_devices()


def _limit(device: jax.Device) -> float:
  limit = (device.memory_stats() or {}).get("bytes_limit")
  if limit is not None:
    return limit
  machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return machine * _CPU_SHARE / jax.local_device_count()
