"""model.json of a workdir: which model its prompts and samples are of."""

from __future__ import annotations

import functools
import json

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts


def claim(config: ConfigDict, workdir: epath.Path, may_change: bool) -> None:
  """Writes model.json, or checks that the run goes on with the same model.

  Every process calls it. The first compares with the run, the others with the
  first.

  Args:
    config: of the run.
    workdir: its folder.
    may_change: whether nothing has been made with the model so far.

  Raises:
    UserError: this host has another model under that name.
  """
  path, name = workdir / "model.json", config.model.name
  found = _identity(name)
  if hosts.is_lead():
    _announce(name, found["path"], found["weights"])
    if may_change or not path.exists():
      records.write_text(path, json.dumps(found, indent=2) + "\n")
    check(config, workdir)
  hosts.barrier("model.json")
  if not hosts.is_lead() and (changed := pretrained.difference(path, found)):
    raise UserError(
      f"process 0 has another model under the name {name} ({changed}); give"
      " all hosts the same files"
    )
  hosts.barrier("same model")


def check(config: ConfigDict, workdir: epath.Path) -> None:
  """Raises UserError if the run was begun with another model than is here."""
  path, name = workdir / "model.json", config.model.name
  if not path.exists():  # of an earlier version
    return
  if changed := pretrained.difference(path, _identity(name)):
    raise UserError(
      f"the run in {workdir} was begun with another model under the name"
      f" {name} ({changed}); bring that back, or use another --workdir"
    )


# As the models themselves, which a process loads once.
_identity = functools.cache(pretrained.identity)


@functools.cache
def _announce(name: str, path: str, weights: str) -> None:
  """Says, once, which files a name means."""
  where = "" if path == name else f" is {path},"
  print(f"model: {name}{where} weights {weights}", flush=True)
