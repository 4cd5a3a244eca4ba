"""Programs that are compiled for TPUs, by the TPU's own compiler.

The sizes are small but for the last tests; what is asked for is what a run on
such chips depends on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
from unittest import mock

import pytest

pytest.importorskip(
  "libtpu",
  reason="compiling for a TPU needs libtpu: pip install -e '.[tpu]' on Linux",
)

from s2d_jax.checkpoints import hf_config  # noqa: E402
from s2d_jax.errors import UserError  # noqa: E402
from s2d_jax.generation import decode as device  # noqa: E402
from s2d_jax.models.config import ModelConfig, alike  # noqa: E402
from s2d_jax.parallel import hlo, topology as topologies  # noqa: E402
from s2d_jax.planning import estimate, models, programs, sweep  # noqa: E402

_ROOT = pathlib.Path(__file__).parents[2]
_LENGTH = 256  # tokens of a row

_SMALL = ModelConfig(
  vocab_size=4096,
  embed_dim=512,
  num_layers=4,
  num_heads=8,
  num_kv_heads=4,
  head_dim=128,
  mlp_dim=1536,
  max_context=4096,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=False,
)


def _config(topology, **finetune):
  config = models.large_config(topology)
  config.finetune.update(finetune)
  return config


@pytest.fixture(scope="module")
def step() -> programs.Program:
  """Of 4 rows on four chips, two to a row."""
  topology = topologies.parse("v5e:2x2")
  config = _config(topology, batch_rows=4, row_length=_LENGTH)
  config.mesh.update({"dcn": 1, "data": 1, "fsdp": 2, "tensor": 2})
  return programs.train_step(config, _SMALL, topology)


def test_products_of_a_step_are_those_of_its_three_passes_and_a_recompute(step):
  """Closed form, to one in a hundred; the compiler may save or pad a little.

  Full remat computes each layer again, but for its last product; the kernels
  compute the whole square of a single block, and run forward twice.
  """
  c, tokens = _SMALL, 4 * _LENGTH
  head = c.vocab_size * c.embed_dim
  down = c.num_layers * c.embed_dim * c.mlp_dim
  layers = c.num_params - 2 * head
  square = c.num_layers * c.num_heads * c.head_dim * _LENGTH
  products = 3 * (layers + head) + (layers - down) + (2 + 2 + 5) * square
  found = estimate.estimate(step).flops * step.topology.num_chips
  assert found == pytest.approx(2 * tokens * products, rel=0.01)


def test_memory_of_a_step_is_what_lies_there_and_what_it_computes(step):
  """Weights are float32, a quarter on each chip; norms are copied."""
  parts = step.memory.parts
  weights = 4 * _SMALL.num_params / 4
  assert parts["parameters"] == pytest.approx(weights, rel=0.01)
  assert parts["optimiser state"] == pytest.approx(2 * weights, rel=0.01)
  assert sum(parts.values()) == step.memory.peak <= step.memory.usable
  assert step.problem is None


def test_a_step_sums_gradients_over_rows_and_activations_within_them(step):
  groups = {c.groups for c in hlo.collectives(step.module)}
  assert ((0, 2), (1, 3)) in groups  # along fsdp
  assert ((0, 1), (2, 3)) in groups  # along tensor


def test_an_update_has_as_few_micro_batches_as_fit():
  """All rows at once need a byte more than there is."""
  topology = topologies.parse("v5e:2x2")
  config = _config(topology, batch_rows=256, row_length=_LENGTH)
  config.mesh.update({"dcn": 1, "data": 1, "fsdp": 2, "tensor": 2})
  whole = programs.train_step(config, _SMALL, topology)
  assert whole.micro_batches == 1
  limit = (whole.memory.peak - 1) / topology.chip.usable_bytes
  config.finetune.accumulate = 0
  with mock.patch.object(programs.memory, "MARGIN", 1 - limit):
    found = programs.train_step(config, _SMALL, topology)
  assert found.micro_batches == 2
  assert found.memory.peak < whole.memory.peak
  assert found.mesh.shape == whole.mesh.shape and found.tokens == whole.tokens


@pytest.fixture(scope="module")
def sampler() -> list[programs.Program]:
  """On one host of eight chips, with caches too large to be kept near."""
  topology = topologies.parse("v5e:2x4")
  config = _config(topology)
  config.sampling.mesh.update({"data": 2, "tensor": 4})
  batch = programs.Batch(slots=64, rows=8, prompt=512, reply=1024)
  return programs.sampler(config, _SMALL, topology, batch)


def test_a_decode_step_copies_no_cache(sampler):
  decode = sampler[-1]
  own, prompt = decode.caches
  pages = 256 * 1024 // 256
  assert own == (4, pages, 1, 256, 128) and prompt == (4, 32, 1, 512, 128)
  assert not decode.cache_copies()


def test_a_decode_step_reads_the_weights_and_the_cache_once(sampler):
  """But of the embedding a few rows; and it writes little."""
  parts = sampler[-1].memory.parts
  embedding = 2 * _SMALL.vocab_size * _SMALL.embed_dim / 4
  once = parts["parameters"] + parts["keys and values"] - embedding
  assert sampler[-1].least_traffic == once
  # What is small stays near the units from step to step.
  traffic = estimate.estimate(sampler[-1]).traffic
  assert 0.99 * once < traffic < 1.05 * once


def test_a_step_reads_the_pages_that_replies_use_and_no_others():
  """And moves no page, and holds no scores in the main memory."""
  topology = topologies.parse("v5e:2x4")
  config = _config(topology)
  config.sampling.mesh.update({"data": 2, "tensor": 4})
  batch = programs.Batch(slots=512, rows=1, prompt=64, reply=8192, room=1024)
  abstract = device.abstract_batch

  def more_than_is_read(model, slots, rows, capacity, mesh):
    capacity = capacity._replace(pages=2 * capacity.pages)
    return abstract(model, slots, rows, capacity, mesh)

  with mock.patch.object(device, "abstract_batch", more_than_is_read):
    decode = programs.sampler(config, _SMALL, topology, batch)[-1]
  assert not decode.cache_copies()
  own, prompt = (2 * 2 * math.prod(cache) for cache in decode.caches)
  assert own == 2 * 2 * 4 * 2 * (256 * 4) * 256 * 128
  rest = decode.least_traffic - own - prompt
  # Half of the pages are used.
  once = rest + own / 2 + prompt
  assert 0.99 * once < estimate.estimate(decode).traffic < 1.05 * once


def test_keys_and_values_are_parted_over_prompts_and_heads(sampler):
  tokens = 64 * 512 + 64 * 8 * 1024
  size = 2 * 2 * tokens * _SMALL.num_layers * _SMALL.num_kv_heads * 128 / 8
  masks = 64 * 512
  found = sampler[-1].memory.parts["keys and values"]
  assert size <= found <= size + masks


def test_a_host_samples_without_the_other_hosts():
  """Its chips are those of one host of the pod, and nothing leaves them."""
  host = topologies.parse("v5p:4x4x4").host()
  assert (host.name, host.num_hosts) == ("v5p:2x2x1", 1)
  for program in programs.sampler(
    _config(host), _SMALL, host, programs.Batch(8, 2, 128, 64)
  ):
    found = estimate.estimate(program)
    assert not any(exchange.across_hosts for exchange in found.exchanges)


@pytest.mark.parametrize(
  "name, chips, hosts",
  [
    ("v5p:4x4x4", 64, 16),
    ("v5e:16x16", 256, 64),
    ("v5e:2x4", 8, 1),
    ("v6e:8x8", 64, 16),
    ("v4:4x4x4", 64, 16),  # both cores of a chip are one device
  ],
)
def test_a_topology_has_a_device_a_chip(name, chips, hosts):
  topology = topologies.parse(name)
  devices = topology.devices()
  assert len(devices) == topology.num_chips == chips
  assert len({d.process_index for d in devices}) == topology.num_hosts == hosts
  assert topologies.chip_of(devices[0]) is topology.chip


@pytest.mark.parametrize("name, memory", [("v2:2x2", 8), ("v3:2x2", 16)])
def test_the_boards_of_notebooks_have_a_device_a_core(name, memory):
  """Colab's v2-8 and Kaggle's v3-8: four chips of two cores, one host."""
  topology = topologies.parse(name)
  assert (topology.num_chips, topology.num_devices) == (4, 8)
  assert topology.num_hosts == 1 and topology.host() == topology
  devices = topology.devices()
  assert {device.device_kind for device in devices} == {f"TPU {name[:2]}"}
  assert len(devices) == 8
  assert topology.chip.hbm_gib == memory
  assert topologies.chip_of(devices[0]) is topology.chip


def test_a_step_compiles_for_chips_without_the_attention_kernel():
  """v3: what chooses it sees the kind of device, not just that it is a TPU."""
  topology = topologies.parse("v3:2x2")
  config = _config(topology, batch_rows=8, row_length=_LENGTH)
  layer = dataclasses.replace(_SMALL, num_layers=1, vocab_size=512)
  step = programs.train_step(config, layer, topology)
  assert step.problem is None and not list(hlo.kernels(step.step))


_ONE_HOST = ("v5e:1x1", "v5e:2x2", "v5e:2x4", "v6e:1x1", "v2:2x2", "v3:2x2")


@pytest.mark.slow
@pytest.mark.parametrize("topology", _ONE_HOST)
def test_the_quickstart_fits_whatever_a_notebook_has(topology):
  ended = _plan(
    "--config=configs/quickstart.py", "--model=smollm2-135m-instruct",
    f"--topology={topology}",
  )  # fmt: skip
  assert ended.returncode == 0, ended.stdout + ended.stderr
  assert ended.stdout.count(": fits: needs") == 3


def test_slices_are_told_apart():
  devices = topologies.parse("v5p:2x2x2", slices=2).devices()
  assert [d.slice_index for d in devices] == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
  "name, said",
  [
    ("v9:4x4", "known kinds are v2, v3, v4, v5e, v5p, v6e"),
    ("v5p", "known kinds are"),
    ("v5p:4x4", "v5p:4x4x4"),
    ("v5e:3x5", "hosts of 2x2 chips"),
  ],
)
def test_a_topology_that_there_is_not_is_a_mistake(name, said):
  with pytest.raises(UserError, match=said):
    topologies.parse(name)


def test_without_libtpu_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr(topologies.util, "find_spec", lambda _: None)
  with pytest.raises(UserError, match=r"pip install -e '.\[tpu\]'"):
    topologies.parse("v6e:16x16").devices()


def test_a_sweep_ranks_what_fits_and_names_what_does_not():
  """No row of 16 parts over more than 4 kv heads."""
  topology = topologies.parse("v5e:2x4")
  batch = programs.Batch(slots=8, rows=2, prompt=128, reply=64)
  trials = sweep.ranked(
    list(sweep.sample_trials(_config(topology), _SMALL, topology, batch))
  )
  rates = [t.tokens_per_second for t in trials if t.problem is None]
  assert len(rates) >= 2 and rates == sorted(rates, reverse=True)
  assert "num_kv_heads=4" in trials[-1].problem
  assert trials[-1].settings["mesh"] == "tensor 8"


def _plan(*flags: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "s2d_jax.cli", "plan", *flags],
    env=os.environ | {"PYTHONPATH": str(_ROOT), "COLUMNS": "100"},
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("small")
  values = hf_config.config_values(_SMALL)
  (path / "config.json").write_text(json.dumps(values))
  return path


def test_a_plan_that_fits_ends_with_0_and_tells_its_figures(folder, tmp_path):
  figures = tmp_path / "plan.json"
  ended = _plan(
    f"--model={folder}", "--topology=v5e:2x2", "--part=sample",
    f"--json={figures}",
  )  # fmt: skip
  assert ended.returncode == 0, ended.stderr
  assert "decode step: fits" in ended.stdout
  assert not ended.stderr  # the compiler's talk
  prefill, decode = json.loads(figures.read_text())
  assert decode["memory"]["peak"] == sum(decode["memory"]["parts"].values())
  assert prefill["fits"] and decode["estimate"]["bound"] == "memory"


def test_a_plan_chooses_rows_that_fit_and_prints_the_knee(folder, tmp_path):
  figures = tmp_path / "plan.json"
  ended = _plan(
    f"--model={folder}", "--topology=v5e:2x2", "--part=sample", "--rows=0",
    "--prompt=1024", "--reply=1024", f"--json={figures}",
  )  # fmt: skip
  assert ended.returncode == 0, ended.stdout + ended.stderr
  prefill, decode = json.loads(figures.read_text())
  found, memory = decode["batch_rows"], decode["memory"]
  told = " ".join(ended.stdout.split())
  assert f"sampling.batch_rows: {found['chosen']} of at most" in told
  assert decode["tokens"] == found["chosen"] <= found["largest"]
  assert max(prefill["memory"]["peak"], memory["peak"]) < 0.9 * memory["usable"]
  rates = {
    size["rows"]: size["tokens_per_second"]
    for size in found["sizes"]
    if size["needs"] <= 0.9 * memory["usable"]
  }
  assert max(rates) == found["largest"]
  enough = [rows for rows in rates if rates[rows] >= 0.9 * max(rates.values())]
  assert min(enough) == found["chosen"]
  # Reading is bound by memory as the compiled program's is, within a tenth.
  own = next(s for s in found["sizes"] if s["rows"] == found["chosen"])
  assert own["memory"] == pytest.approx(decode["estimate"]["memory"], rel=0.1)
  assert own["compute"] == pytest.approx(decode["estimate"]["compute"], rel=0.2)


def test_a_plan_that_does_not_fit_ends_with_1_and_says_what_is_missing(folder):
  ended = _plan(
    f"--model={folder}", "--topology=v5e:2x2", "--part=sample",
    "--rows=20000", "--reply=2048",
  )  # fmt: skip
  assert ended.returncode == 1
  assert "does not fit: needs" in ended.stdout
  assert "of 15.75 GiB" in " ".join(ended.stdout.split())
  assert "what helps: --weights=int8" in ended.stdout


@pytest.mark.parametrize(
  "flags, said",
  [
    ((), "--topology"),
    (("--topology=v5e:2x2",), "--model"),
    (("--topology=v5e:2x2", "--model=gpt-5"), "llama-2-70b"),
    (("--topology=v5e:2x2", "--model=llama-2-7b", "--mesh=x=2"), "fsdp=16"),
    (
      ("--topology=v5e:2x2", "--model=llama-2-7b", "--part=sample")
      + ("--reply=64", "--room=65"),
      "--room=65 is more",
    ),
    (("--topology=v0:2x2", "--model=llama-2-7b"), "known kinds"),
  ],
)
def test_mistakes_are_told_in_a_line(flags, said):
  ended = _plan(*flags)
  assert ended.returncode == 1
  assert ended.stderr.startswith("error: ") and said in ended.stderr
  assert ended.stderr.count("\n") == 1


# Llama-2-70B: what a run of it depends on.


def test_llama_2_70b_fits_64_chips_of_v5p_and_samples_on_a_host_of_4(tmp_path):
  figures = tmp_path / "plan.json"
  ended = _plan(
    "--model=llama-2-70b", "--topology=v5p:4x4x4", f"--json={figures}"
  )
  assert ended.returncode == 0, ended.stdout + ended.stderr
  step, prefill, decode = json.loads(figures.read_text())
  assert step["tokens"] == 64 * 1024
  # Of each layer its input is kept, in bfloat16, a part on each chip.
  kept = 80 * 64 * 1024 * 8192 * 2 / 64
  assert step["memory"]["parts"]["kept activations"] == kept
  # Ten percent below the leanest of the public trainers (docs/tpu.md).
  assert step["memory"]["peak"] < 0.9 * 20.3 * 2**30
  assert decode["topology"] == "v5p:2x2x1" and decode["cache_copies"] == 0
  for program in (prefill, decode):
    exchanges = program["estimate"]["exchanges"]
    assert not any(exchange["across_hosts"] for exchange in exchanges)


@pytest.mark.slow
def test_llama_2_70b_fits_256_chips_of_v5e():
  topology = topologies.parse("v5e:16x16")
  config = _config(topology, row_length=512)
  step = programs.train_step(config, models.MODELS["llama-2-70b"], topology)
  assert step.problem is None
  assert step.memory.peak < 0.9 * 7.7 * 2**30


@pytest.mark.slow
def test_llama_2_70b_in_int8_samples_on_a_host_of_8_chips_of_v5e():
  topology = topologies.parse("v5e:2x4")
  config = _config(topology)
  config.sampling.weights = "int8"
  batch = programs.Batch(slots=26, rows=5, prompt=512, reply=256)
  for program in programs.sampler(
    config, models.MODELS["llama-2-70b"], topology, batch
  ):
    assert program.problem is None
    assert not program.cache_copies()
