"""Hosts that come and go leave what one host would have made."""

from __future__ import annotations

import pytest

from s2d_jax import records
from s2d_jax.stages import sample
from tests import pods


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> pods.Run:
  """A run of one host."""
  folder = tmp_path_factory.mktemp("pods")
  # With this seed the first of two hosts is 2.8 times slower.
  run = pods.Run(str(folder), 200, samples=2, rows=8, seed=14, name="alone")
  pods.make_examples(run)
  pods.sample_with(run, [1])
  return run


def _most_waited(said: list[dict], run: pods.Run) -> float:
  """In batches of the slowest host."""
  slowest = max(run.pace(host) for host in range(len(said)))
  return max(one["waited"] for one in said) / slowest


def test_what_killed_hosts_leave_is_finished_by_others(alone):
  run = pods.with_same_examples(alone, "killed")
  said = pods.sample_with(run, [3, 2])
  assert run.count() == alone.count() == 2 * 210
  assert pods.digest(run) == pods.digest(alone)
  assert len(run.parts) == 5  # of three hosts, and of two
  # In simulated time. With fixed shares it would be about 15 batches.
  assert _most_waited(said, run) <= 3


def test_hosts_deal_what_others_had_begun(alone):
  """All that is left, when they were killed behind the last example."""
  run = pods.with_same_examples(alone, "begun")
  first = (
    row for row in records.read(alone.parts[0].path) if not row["sample"]
  )
  folder = sample.samples_folder(run.config, run.workdir)
  records.write(folder / "part-00000-of-00001.jsonl", first)
  said = pods.sample_with(run, [2])
  assert run.count() == alone.count()
  assert pods.digest(run) == pods.digest(alone)
  # With fixed shares it would be about eight batches.
  assert _most_waited(said, run) <= 2
