from __future__ import annotations

import gzip
import json

from etils import epath
import jax
import jax.numpy as jnp
import pytest

from s2d_jax import profiling
from tests import bucket


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  """In a bucket, which JAX itself may not be able to write to."""
  bucket.make(tmp_path, monkeypatch)
  profiling.enable(epath.Path("gs://b/run"))
  yield tmp_path / "b" / "run"
  profiling.enable(None)


def _annotated(folder) -> set[str]:
  """The names of all that a trace has seen."""
  (path,) = folder.rglob("*.trace.json.gz")
  (space,) = folder.rglob("*.xplane.pb")  # what xprof reads
  assert space.stat().st_size and path.parent == space.parent
  events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
  return {event.get("name", "") for event in events}


def _work(steps):
  for step in profiling.traced("finetune", steps):
    jax.block_until_ready(jnp.ones(4) + step)
    yield step


def test_some_steps_are_traced_and_all_are_made(workdir, monkeypatch):
  monkeypatch.setattr(profiling, "_LEAST_SECONDS", 0.0)
  assert list(_work(range(9))) == list(range(9))
  names = _annotated(workdir / "profile" / "finetune")
  assert any(name.startswith("finetune") for name in names)
  # The trace has ended: another may begin.
  jax.profiler.start_trace(str(workdir))
  jax.profiler.stop_trace()


def test_a_trace_of_a_stage_that_fails_is_kept(workdir):
  steps = _work(range(9))
  for _ in range(3):
    next(steps)
  steps.close()
  assert _annotated(workdir / "profile" / "finetune")


def test_without_the_flag_nothing_is_traced(tmp_path):
  assert list(_work(range(3))) == [0, 1, 2]
  assert not list(tmp_path.iterdir())
