"""A run whose rows and micro-batches are chosen, beside one that sets them."""

from __future__ import annotations

import collections
import json
import shutil

import jax
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.parallel import memory
from s2d_jax.stages import batch_rows, sample, setup
from s2d_jax.stages.batch_rows import Load
from s2d_jax.system2 import methods


@pytest.fixture
def part(finished, tmp_path):
  """A run up to a stage, which is not marked."""

  def part(*folders: str):
    for name in ("examples", *folders):
      shutil.copytree(finished / name, tmp_path / name)
    (tmp_path / "done").mkdir()
    for name in ("prepare", "curate"):
      shutil.copy(finished / "done" / f"{name}.json", tmp_path / "done")
    shutil.copy(finished / "model.json", tmp_path)
    return tmp_path

  return part


def _samples(workdir) -> list[dict]:
  (path,) = workdir.glob("samples/s2a/part-*.jsonl")
  return sorted(records.read(path), key=json.dumps)


def _without_rounding(record: dict) -> dict:
  """Sums over rows of another shape end in another last bit."""
  steps = [step | {"logprob": None} for step in record["steps"]]
  return record | {"steps": steps}


def test_samples_do_not_depend_on_rows_that_are_chosen(
  s2d, finished, part, capfd
):
  workdir = part()
  assert s2d("sample", workdir, "--config.sampling.batch_rows=0") == 0
  # 60 samples on a CPU, where 64 rows are the most: they are enough.
  told = "sampling.batch_rows: 64, enough for 60 replies"
  assert told in capfd.readouterr().out
  name = lambda record: (
    record["example_id"], record["variant"], record["sample"]
  )  # fmt: skip
  fixed, chosen = (
    sorted(map(_without_rounding, _samples(folder)), key=name)
    for folder in (finished, workdir)
  )
  assert chosen == fixed
  for one, other in zip(
    sorted(_samples(finished), key=name),
    sorted(_samples(workdir), key=name),
    strict=True,
  ):
    for mine, its in zip(one["steps"], other["steps"], strict=True):
      assert mine["logprob"] == pytest.approx(its["logprob"], abs=2e-4)
  mark = json.loads((workdir / "done" / "sample.json").read_text())
  assert mark["batch_rows"] == [64]


def test_a_fine_tune_is_the_same_in_micro_batches_that_are_chosen(
  s2d, finished, part, capfd
):
  workdir = part("distill")
  assert s2d("finetune", workdir, "--config.finetune.accumulate=0") == 0
  told = "finetune.accumulate: 1"
  assert f"{told}, each of 1 rows" in capfd.readouterr().out
  mark = json.loads((workdir / "done" / "finetune.json").read_text())
  assert mark["summary"].endswith(told)
  fixed, chosen = (
    [
      (line["step"], line.get("loss"), line.get("valid_loss"))
      for line in records.read(folder / "metrics" / "finetune.jsonl")
    ]
    for folder in (finished, workdir)
  )
  assert len(chosen) > 2 and chosen == fixed


def test_prompts_are_measured_as_they_are_asked(config, finished):
  """The first ones; and none that came later is longer than was expected."""
  model = setup.base_without_weights(config)
  chat, task = setup.chat_template(config, model), setup.task_of(config)
  prompts = setup.prompts_of(config, task)
  examples = sample.training_examples(finished)
  asked = {"s2a": (methods.by_name("s2a"), prompts)}

  def load(share_prefixes: bool) -> Load:
    inputs = {"s2a": sample.inputs_of(task, examples, 3)}
    return batch_rows.load_of(chat, asked, inputs, 3, share_prefixes)

  steps = [record["steps"] for record in _samples(finished)]
  first, later = zip(*steps, strict=True)
  count = lambda lengths: collections.Counter(lengths)
  whole = load(share_prefixes=False)
  # Three samples of each input.
  assert count(one["prompt_tokens"] for one in first) == count(
    3 * list(whole.prompts)
  )
  assert whole.replies == len(steps)
  assert whole.new == 4 and whole.samples == 3
  assert max(one["prompt_tokens"] for one in later) <= whole.longest
  assert whole.longest == max(whole.prompts) + 4 + 4
  (shared,) = {
    a - b for a, b in zip(whole.prompts, load(True).prompts, strict=True)
  }
  assert 0 < shared < min(whole.prompts)


def test_what_is_drawn_does_not_go_by_the_rows(config, finished):
  """Waves are as large as with the default, on whatever devices."""
  examples = sample.training_examples(finished)

  def wave(rows: int) -> int:
    changed = config.copy_and_resolve_references()
    changed.sampling.batch_rows = rows
    task = setup.task_of(config)
    return sample._Votes(changed, finished, task, examples, ())._wave_size

  assert wave(0) == wave(128) != wave(12)


def test_elsewhere_compiled_programs_decide(config, monkeypatch, capfd):
  """On an accelerator of which only the memory is known."""
  model = setup.base_model(config)
  mesh = setup.sampling_mesh(config, model.config)
  network = setup.network(config, model)
  limit, needed = 1_500_000, []
  peak = memory.peak

  def recorded(*call) -> float:
    """Of programs with as much again that only the compiler knows of."""
    needed.append(2 * peak(*call))
    return needed[-1]

  monkeypatch.setattr(batch_rows, "_is_cpu", lambda mesh: False)
  monkeypatch.setattr(memory, "usable", lambda devices: limit)
  monkeypatch.setattr(memory, "peak", recorded)
  load = Load([40] * 9, 60, 8, 2, 100_000)
  rows, slots = batch_rows.choose(network, model.params, mesh, load)
  weights = 4 * model.config.num_params
  # Prefill and decode: the first rows fit by shapes, and not as compiled.
  assert max(needed[:2]) > limit and len(needed) > 2
  assert weights < max(needed[-2:]) <= limit
  # Of each row, and the prompts of 64 tokens that its slot has.
  heads = model.config.num_kv_heads * model.config.head_dim
  cache = 2 * 4 * model.config.num_layers * heads
  assert needed[-1] / 2 > weights + cache * (rows * 16 + slots * 64)
  assert f"sampling.batch_rows: {rows}" in capfd.readouterr().out
  assert 8 <= rows < 24


def test_where_nothing_fits_it_says_so(config, monkeypatch):
  model = setup.base_model(config)
  mesh = setup.sampling_mesh(config, model.config)
  network = setup.network(config, model)
  load = Load([40], 60, 8, 1, 100)
  monkeypatch.setattr(memory, "usable", lambda devices: 10_000)
  with pytest.raises(UserError, match="not even 8 rows of a batch fit"):
    batch_rows.choose(network, model.params, mesh, load)


def test_a_device_says_what_it_has(monkeypatch):
  class Device:
    process_index = jax.process_index()

    def __init__(self, **stats):
      self.memory_stats = lambda: stats or None

  chips = [Device(bytes_limit=n, bytes_in_use=n // 2) for n in (1000, 800)]
  assert memory.usable(chips) == 720  # the least, and a tenth is left
  assert memory.in_use(chips) == 500
  monkeypatch.setattr(memory.os, "sysconf", lambda name: 1000)
  shared = 1000 * 1000 / 2 / jax.local_device_count()
  assert memory.usable([Device()]) == int(0.9 * shared)
  assert memory.in_use([Device()]) == 0
