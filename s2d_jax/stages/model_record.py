"""Which models a workdir is of: model.json, and thinker.json in a round.

model.json is of the model that is distilled, thinker.json of the one that
thinks for it, where that is the distilled model of the round before.
"""

from __future__ import annotations

import functools
import json

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.stages import setup


def claim(config: ConfigDict, workdir: epath.Path, may_change: bool) -> None:
  """Writes the files, or checks that the run goes on with the same models.

  Every process calls it. The first compares with the run, the others with the
  first.

  Args:
    config: of the run.
    workdir: its folder.
    may_change: whether nothing has been made with the models so far.

  Raises:
    UserError: this host has another model under one of the names.
  """
  name, thinker = config.model.name, setup.thinker_name(config, workdir)
  # What a round takes over is of the model of the round before.
  is_first = config.rounds.number < 2
  _claim(workdir / "model.json", name, may_change and is_first)
  if thinker != name:
    _claim(workdir / "thinker.json", thinker, may_change)


def _claim(path: epath.Path, name: str, may_change: bool) -> None:
  found = _identity(name)
  if hosts.is_lead():
    _announce(name, found["path"], found["weights"])
    if may_change or not path.exists():
      records.write_text(path, json.dumps(found, indent=2) + "\n")
    _check(path, name)
  hosts.barrier(path.name)
  if not hosts.is_lead() and (changed := pretrained.difference(path, found)):
    raise UserError(
      f"process 0 has another model under the name {name} ({changed}); give"
      " all hosts the same files"
    )
  hosts.barrier("same model")


def check(config: ConfigDict, workdir: epath.Path) -> None:
  """Raises UserError if the run was begun with another model than is here."""
  path = workdir / "model.json"
  if path.exists():  # it does not in a run of an earlier version
    _check(path, config.model.name)


def _check(path: epath.Path, name: str) -> None:
  if changed := pretrained.difference(path, _identity(name)):
    raise UserError(
      f"the run in {path.parent} was begun with another model under the name"
      f" {name} ({changed}); bring that back, or use another --workdir"
    )


# As the models themselves, which a process loads once.
_identity = functools.cache(pretrained.identity)


@functools.cache
def _announce(name: str, path: str, weights: str) -> None:
  """Says, once, which files a name means."""
  where = "" if path == name else f" is {path},"
  print(f"model: {name}{where} weights {weights}", flush=True)
