from __future__ import annotations

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from s2d_jax import profiling


@pytest.fixture
def run(bucket):
  """In a bucket, which JAX itself may not be able to write to."""
  profiling.enable(bucket.path / "run")
  yield bucket
  profiling.enable(None)


def _annotated(run) -> set[str]:
  """The names of all that a trace has seen."""
  files = run.files(run.path / "run" / "profile" / "finetune")
  (path,) = [name for name in files if name.endswith(".trace.json.gz")]
  (space,) = [name for name in files if name.endswith(".xplane.pb")]  # xprof's
  assert files[space] and path.rpartition("/")[0] == space.rpartition("/")[0]
  events = json.loads(gzip.decompress(files[path]))["traceEvents"]
  return {event.get("name", "") for event in events}


def _work(steps):
  for step in profiling.traced("finetune", steps):
    jax.block_until_ready(jnp.ones(4) + step)
    yield step


def test_some_steps_are_traced_and_all_are_made(run, tmp_path, monkeypatch):
  monkeypatch.setattr(profiling, "_LEAST_SECONDS", 0.0)
  assert list(_work(range(9))) == list(range(9))
  names = _annotated(run)
  assert any(name.startswith("finetune") for name in names)
  # The trace has ended: another may begin.
  jax.profiler.start_trace(str(tmp_path))
  jax.profiler.stop_trace()


def test_a_trace_of_a_stage_that_fails_is_kept(run):
  steps = _work(range(9))
  for _ in range(3):
    next(steps)
  steps.close()
  assert _annotated(run)


def test_without_the_flag_nothing_is_traced(tmp_path):
  assert list(_work(range(3))) == [0, 1, 2]
  assert not list(tmp_path.iterdir())
