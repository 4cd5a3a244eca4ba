"""The settings of runs: those not at their default, and where runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from typing import Any, NamedTuple

from s2d_jax.config import default

# Shown whatever the defaults are.
_ALWAYS = ("task.name", "method", "model.name", "seed")


class Setting(NamedTuple):
  """A setting as JSON; the default is None where there is none."""

  name: str
  value: str
  default: str | None


def overview(config: Mapping[str, Any]) -> list[Setting]:
  """Task, method, model and seed, and all that is not at its default.

  Args:
    config: config.json of a run.
  """
  found, defaults = _flat(config), _defaults()
  names = [name for name in _ALWAYS if name in found]
  names += [
    name
    for name, value in found.items()
    if name not in names and value != defaults.get(name)
  ]
  return [Setting(name, found[name], defaults.get(name)) for name in names]


def differences(
  configs: Sequence[Mapping[str, Any]],
) -> dict[str, list[str | None]]:
  """The settings that are not the same in all runs, by name.

  A setting that did not exist when a run began is at its default; None where
  it has none.
  """
  defaults = _defaults()
  flat = [defaults | _flat(config) for config in configs]
  names = dict.fromkeys(name for settings in flat for name in settings)
  values = {name: [f.get(name) for f in flat] for name in names}
  return {name: found for name, found in values.items() if len(set(found)) > 1}


def _defaults() -> dict[str, str]:
  return _flat(json.loads(default().to_json()))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
  found: dict[str, str] = {}
  for name, value in config.items():
    if isinstance(value, Mapping) and value:
      found |= _flat(value, f"{prefix}{name}.")
    else:
      found[prefix + name] = json.dumps(value, ensure_ascii=False)
  return found
