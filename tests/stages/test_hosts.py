"""Runs of several processes: what they make is what one would have made."""

from __future__ import annotations

import json
import shutil
import time

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.ordered import Order
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.stages import curate, evaluate, sample, shards
from tests import events
from tests.processes import Processes

_DISTILL = ("train.jsonl", "valid.jsonl", "rejected.jsonl")
# As the tests do in this process: programs are kept, plots are not drawn.
_PIPELINE = """
import jax
from s2d_jax.reporting import plots
from s2d_jax.stages import pipeline
jax.clear_caches = lambda: None
plots.render = lambda *unused: b"a plot"
pipeline.main()
"""
_SAMPLE = "from s2d_jax.stages import sample; sample.main()"
# Sampling takes milliseconds: without a pause the kill would come too late.
_SLOWLY = """
import time
from s2d_jax.parallel import hosts
from s2d_jax.stages import sample, shards
hosts._HEARTBEAT_SECONDS = 6
append = shards.RecordShards.append
def append_slowly(self, row):
  append(self, row)
  time.sleep(0.3)
shards.RecordShards.append = append_slowly
sample.main()
"""


def _start(count, program, config_file, workdir, more=None) -> Processes:
  flags = [f"--config={config_file}", f"--workdir={workdir}"]
  return Processes(count, program, flags, more)


def _succeeded(processes: Processes) -> str:
  """What the first process said; the others say nothing."""
  ended = processes.wait()
  assert [one.status for one in ended] == [0] * len(ended), ended
  said = [line for one in ended[1:] for line in one.out.splitlines()]
  # Gloo, which carries the fine-tune's sums between CPUs, does.
  assert all(line.startswith("[Gloo]") for line in said)
  return ended[0].out


def _shard(workdir, index: int, count: int) -> epath.Path:
  name = f"part-{index:05d}-of-{count:05d}.jsonl"
  return workdir / "samples" / "s2a" / name


def _lines(path) -> int:
  return path.read_bytes().count(b"\n") if path.exists() else 0


def _samples(workdir) -> list[tuple]:
  return sorted(
    (row["example_id"], row["variant"], row["sample"], row["reply"])
    for path in (workdir / "samples" / "s2a").glob("part-*")
    for row in records.read(path)
  )


def _assert_same_distill(workdir, config, finished) -> None:
  if not (workdir / "distill").exists():
    curate.run(config, workdir)
  for name in _DISTILL:
    same = (finished / "distill" / name).read_bytes()
    assert (workdir / "distill" / name).read_bytes() == same


@pytest.fixture(scope="module")
def by_two(config_file, finished, cache, tmp_path_factory) -> epath.Path:
  """The workdir of a whole run of two processes."""
  workdir = epath.Path(tmp_path_factory.mktemp("runs") / "two")
  said = _succeeded(_start(2, _PIPELINE, config_file, workdir))
  assert "sample: 60 samples of s2a over 5 examples (0 were there" in said
  return workdir


@pytest.fixture(scope="module")
def killed(config_file, finished, tmp_path_factory) -> epath.Path:
  """Sampling of two processes; the second was killed, and the first ended."""
  workdir = epath.Path(tmp_path_factory.mktemp("runs") / "killed")
  shutil.copytree(finished / "examples", workdir / "examples")
  paths = [_shard(workdir, index, 2) for index in range(2)]
  slow = _start(2, _SLOWLY, config_file, workdir)
  until = time.monotonic() + 100
  while not all(_lines(path) >= 4 for path in paths):
    assert slow.are_running and time.monotonic() < until
    time.sleep(0.02)
  slow.kill(1)
  ended = slow.wait(100)
  assert ended[1].status == -9 and ended[0].status != 0
  assert 8 <= sum(map(_lines, paths)) < 60
  assert not (workdir / "done").exists()
  with paths[1].open("ab") as half:
    half.write(b'{"example_id":"capital/BR","vari')
  return workdir


@pytest.fixture
def rest(killed, tmp_path) -> epath.Path:
  return epath.Path(shutil.copytree(killed, tmp_path / "rest"))


def test_the_first_process_alone_draws_curves(by_two):
  lines = list(records.read(by_two / "metrics" / "finetune.jsonl"))
  curves = events.read(by_two / "tensorboard" / "finetune")
  assert curves["loss"] == pytest.approx(
    {line["step"]: line["loss"] for line in lines[1:]}
  )
  *_, last = records.read(by_two / "metrics" / "sample.jsonl")
  # Of both processes, as far as the first one has heard when it ends.
  assert 0 < last["examples"] <= last["of"] == 5
  assert list(events.read(by_two / "tensorboard" / "sample")["kept"])


def test_two_processes_make_what_one_makes(by_two, finished, config):
  assert _samples(by_two) == _samples(finished)
  assert len(_samples(by_two)) == 60
  examples = [
    row["id"]
    for split in ("train", "valid")
    for row in records.read(finished / "examples" / f"{split}.jsonl")
  ]
  dealt = []
  for index in range(2):
    rows = list(records.read(_shard(by_two, index, 2)))
    dealt.append(list(dict.fromkeys(row["example_id"] for row in rows)))
    assert dealt[-1] == sorted(dealt[-1], key=examples.index)
  assert sorted(dealt[0] + dealt[1]) == sorted(examples)
  _assert_same_distill(by_two, config, finished)
  for name in ("valid", "base", "retention-base"):
    same = (finished / "eval" / f"{name}.jsonl").read_bytes()
    assert (by_two / "eval" / f"{name}.jsonl").read_bytes() == same
  assert sorted(path.name for path in (by_two / "eval").iterdir()) == sorted(
    path.name for path in (finished / "eval").iterdir()
  )


def test_two_processes_learn_and_report_what_one_does(by_two, finished):
  """Sums of gradients in another order: single precision."""
  losses, same = (
    list(records.read(run / "metrics" / "finetune.jsonl"))
    for run in (by_two, finished)
  )
  assert len(losses) == len(same) > 1
  figures = ("step", "loss", "valid_loss", "target_tokens")
  for one, other in zip(losses, same, strict=True):
    wanted = {name: other[name] for name in figures if name in other}
    assert {name: one[name] for name in wanted} == pytest.approx(wanted, 1e-5)
  moved, same = (
    {
      (row["of"], row["example_id"]): row["kl"]
      for row in records.read(run / "eval" / "retention-distilled.jsonl")
      if row["task"] == "movement"
    }
    for run in (by_two, finished)
  )
  assert len(same) > 6 and moved == pytest.approx(same, rel=0.02, abs=1e-6)
  results, same = (
    json.loads((run / "report" / "results.json").read_text())
    for run in (by_two, finished)
  )
  assert results == same


def test_a_killed_process_ends_as_if_nothing_had_happened(
  rest, finished, config, config_file
):
  there = sum(map(_lines, (rest / "samples" / "s2a").glob("part-*")))
  said = _succeeded(_start(2, _SAMPLE, config_file, rest))
  assert (
    f"sample: 60 samples of s2a over 5 examples ({there} were there" in said
  )
  assert _samples(rest) == _samples(finished)
  _assert_same_distill(rest, config, finished)


def test_four_processes_finish_what_two_began(
  rest, finished, config, config_file
):
  _succeeded(_start(4, _SAMPLE, config_file, rest))
  assert _samples(rest) == _samples(finished)
  assert len(list((rest / "samples" / "s2a").glob("part-*"))) == 6
  _assert_same_distill(rest, config, finished)


def test_two_processes_finish_it_together_on_the_devices_of_both(
  rest, finished, config, config_file
):
  together = {i: ["--config.sampling.scope=global"] for i in range(2)}
  _succeeded(_start(2, _SAMPLE, config_file, rest, together))
  assert _samples(rest) == _samples(finished)
  written = [path.name for path in (rest / "samples" / "s2a").glob("part-*")]
  assert "part-00000-of-00001.jsonl" in written and len(written) == 3
  _assert_same_distill(rest, config, finished)


def test_one_process_finishes_what_two_began(rest, finished, config):
  sample.run(config, rest)
  assert _samples(rest) == _samples(finished)
  assert len(list((rest / "samples" / "s2a").glob("part-*"))) == 3
  _assert_same_distill(rest, config, finished)


def test_an_evaluation_goes_on_with_what_any_shard_has(
  by_two, finished, config, tmp_path
):
  workdir = epath.Path(shutil.copytree(finished, tmp_path / "run"))
  path = workdir / "eval" / "base.jsonl"
  whole = path.read_bytes()
  rows = list(records.read(path))
  path.unlink()
  (workdir / "done" / "evaluate_base.json").unlink()
  # Shards of three hosts, one of them killed in the middle of a line.
  for index in range(3):
    part = workdir / "eval" / "base" / f"part-0000{index}-of-00003.jsonl"
    records.write(part, rows[index : 2 * index + 2])
  part.write_bytes(part.read_bytes()[:-20])
  evaluate.run_base(config, workdir)
  assert path.read_bytes() == whole
  assert not path.with_suffix("").exists()


def test_a_sample_that_is_there_twice(finished, config, tmp_path):
  workdir = epath.Path(shutil.copytree(finished, tmp_path / "run"))
  copy = _shard(workdir, 1, 2)
  rows = list(records.read(_shard(workdir, 0, 1)))
  records.write(copy, rows[3:5])
  other = rows[3] | {"reply": "another"}
  whole = [*map(PromptFrames.read(copy.parent).restore, rows)]
  assert list(sample.read_samples(config, workdir)) == whole
  records.write(copy, [other])
  with pytest.raises(
    UserError, match="part-00001-of-00002.* different records"
  ):
    list(sample.read_samples(config, workdir))


def test_a_shard_that_cannot_be_seen(monkeypatch, tmp_path):
  """Hosts that do not share a folder after all."""
  monkeypatch.setattr(shards.hosts, "count", lambda: 2)
  monkeypatch.setattr(shards.hosts, "barrier", lambda name: None)
  monkeypatch.setattr(shards, "_APPEAR_SECONDS", 0)
  rows = shards.RecordShards.merged_into(
    tmp_path / "rows.jsonl", Order(("id",), "id"), "host"
  )
  with pytest.raises(UserError, match="must be a folder that all hosts share"):
    with rows:
      rows.append({"id": 0})
  assert list(records.read(tmp_path / "rows" / "part-00000-of-00002.jsonl"))


def test_processes_with_other_settings_end(config_file, cache, tmp_path):
  ended = _start(
    2, _PIPELINE, config_file, tmp_path / "run", {1: ["--config.seed=7"]}
  ).wait()
  assert [one.status for one in ended] == [1, 1]
  for one in ended:
    assert (
      "error: [process 1] process 0 was started with other settings (seed: 0"
      " there, 7 here)" in one.err
    )
  assert not (tmp_path / "run" / "examples").exists()


def test_in_the_global_scope_only_the_first_process_writes(
  monkeypatch, tmp_path
):
  for index in range(2):
    monkeypatch.setattr(shards.hosts, "index", lambda index=index: index)
    monkeypatch.setattr(shards.hosts, "count", lambda: 2)
    monkeypatch.setattr(shards.hosts, "barrier", lambda name: None)
    order = Order(("id",), "id")
    with shards.RecordShards(epath.Path(tmp_path), order, "global") as rows:
      assert rows.share([3, 1, 2]) == [3, 1, 2]
      rows.append({"id": index})
  (path,) = tmp_path.iterdir()
  assert list(records.read(path)) == [{"id": 0}]
