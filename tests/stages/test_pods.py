"""Hosts that come and go leave what one host would have made."""

from __future__ import annotations

from tests import pods


def test_what_killed_hosts_leave_is_finished_by_others(tmp_path):
  # With this seed the first of the last two hosts is 2.8 times slower.
  run = pods.Run(str(tmp_path), questions=200, samples=2, rows=8, seed=14)
  pods.make_examples(run)
  alone = pods.with_same_examples(run, "alone")
  pods.sample_with(alone, [1])
  said = pods.sample_with(run, [3, 2])
  assert run.count() == alone.count() == 2 * 210
  assert pods.digest(run) == pods.digest(alone)
  assert len(run.parts) == 5  # of three hosts, and of two
  # In simulated time. With fixed shares it would be about 15 batches.
  slowest = max(run.pace(host) for host in range(2))
  assert max(one["waited"] for one in said) <= 3 * slowest
