"""Versions of the packages that a run is computed with."""

from __future__ import annotations

from collections.abc import Mapping
import importlib.metadata
import platform

import s2d_jax
from s2d_jax.records import Record

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "transformers",
  "tokenizers",
  "numpy",
)


def installed() -> dict[str, str]:
  """Versions by name, of what is installed of the packages that matter."""
  found = {
    "s2d_jax": s2d_jax.__version__,
    "Python": platform.python_version(),
  }
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def of_stages(done: Mapping[str, Record]) -> dict[str, str]:
  """Versions that the stages of a run were computed with; empty if unrecorded.

  Args:
    done: marks of done/, by stage. A run may go on with other packages, so
      where versions differ each is followed by its stages.
  """
  found: dict[str, dict[str, list[str]]] = {}
  for stage, mark in done.items():
    for package, version in mark.get("versions", {}).items():
      found.setdefault(package, {}).setdefault(version, []).append(stage)
  return {
    package: ", ".join(
      version if len(stages) == 1 else f"{version} ({', '.join(where)})"
      for version, where in stages.items()
    )
    for package, stages in found.items()
  }
