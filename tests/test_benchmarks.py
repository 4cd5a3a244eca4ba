"""What the benchmarks count, compare and print; never how fast it was."""

import collections
import json
import pathlib
import sys

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.stages import prepare
from tests import tiny_chat
from tests.benchmarks import (
  agreement,
  bounds,
  processes,
  scale,
  summary,
  workloads,
)
from tests.benchmarks.contenders import (
  products,
  race,
  s2d_finetune,
  s2d_sampling,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_chat.write(tmp_path_factory.mktemp("bench") / "tiny", window=256)


@pytest.fixture(scope="module")
def model(folder):
  return pretrained.load(folder, make_mesh())


@pytest.fixture
def job(folder):
  return {
    "weights": str(folder),
    "dtype": "float32",
    "repeats": 2,
    "threads": 2,
    "learning_rate": 1e-3,
  }


def sampling_job(**changes):
  prompts = [[*range(40, 80), last] for last in (33, 34, 35)]
  return {
    "prompts": prompts,
    "samples": 2,
    "max_new_tokens": 8,
    "eos": [],
    "temperature": 1.0,
    "rows": 4,
    "greedy_prompts": prompts[:2],
    "greedy_tokens": 4,
  } | changes


def test_sampling_counts_every_token(job, model):
  found = s2d_sampling.sample(job | sampling_job(), model)
  assert len(found["seconds"]) == 2
  for counts in found["counts"]:
    assert counts["tokens"] == 3 * 2 * 8
    assert counts["completions"] == 3 * 2
    assert 0 < counts["useful"] <= 1
  assert [len(row) for row in found["greedy"]] == [4, 4]
  assert 0 < found["start_s"] < found["first_result_s"]


def test_an_end_token_is_counted_and_what_stands_behind_it_is_not(job, model):
  eos = model.tokenizer.convert_tokens_to_ids(list(tiny_chat.WORDS))
  found = s2d_sampling.sample(job | sampling_job(eos=eos, samples=8), model)
  assert all(c["tokens"] < 3 * 8 * 8 for c in found["counts"])
  assert race.count([[5, 7, 5, 5], [7], [5, 5]], [7]) == {
    "tokens": 2 + 1 + 2,
    "completions": 3,
  }


def test_finetune_counts_targets_and_learns(job, model):
  rows = [[*range(40, 72)], [*range(50, 82)]]
  is_target = [0] * 16 + [1] * 16
  job |= {
    "examples": [{"tokens": row, "is_target": is_target} for row in rows],
    "packed": {"batch_rows": 2, "row_length": 32},
    "batch_examples": 2,
    "distinct_tokens": 60,
  }
  copy = pretrained.load(job["weights"], make_mesh())  # training overwrites it
  found = s2d_finetune.train(job, copy)
  assert found["counts"] == [{"tokens": 64, "target_tokens": 32}] * 2
  assert found["end_loss"] < found["start_loss"]
  # Constant, as that of the others.
  first, last = found["learning_rates"]
  assert first == last == pytest.approx(job["learning_rate"])
  assert bounds.finetune_passes(job) == [
    {"rows": 60, "head_rows": 32, "learns": True}
  ]
  assert bounds.finetune(job, [2.0], "tokens") == 32
  assert bounds.finetune(job, [2.0], "target_tokens") == 16


def test_the_bound_is_measured_and_counts_steps_and_prompts(job):
  workload = sampling_job()
  passes = bounds.sampling_passes(workload)
  measured = products.measure(job | {"passes": passes})
  assert all(took > 0 for took in measured["seconds"])
  assert all(rate > 0 for rate in measured["gflops"])
  assert bounds.prompt_tokens(workload) == 40 + 3
  # 48 tokens in 4 rows are 12 steps; the prompts are read at once.
  bound = bounds.sampling(workload, [0.5, 2.0], 48)
  assert bound == pytest.approx(48 / (12 * 0.5 + 2.0))


def test_products_are_those_of_the_model(folder, model):
  sizes = products.read_sizes(folder)
  config = model.config
  norms = (2 * config.num_layers + 1) * config.embed_dim
  table = config.vocab_size * config.embed_dim
  weights = sizes.layer_weights + sizes.head_weights
  assert weights == config.num_params - norms - table


def test_a_contender_with_other_greedy_texts_is_refused():
  ours = [[1, 2, 3, 4], [5, 6, 7, 8]]
  same = agreement.of_texts(ours, ours)
  assert same == (8, 8)
  agreement.check_texts("peer", same, "float32")
  other = agreement.of_texts(ours, [[1, 2, 9, 4], [5, 6, 7, 8]])
  assert other == (6, 8)
  with pytest.raises(UserError, match="6/8 greedy tokens"):
    agreement.check_texts("peer", other, "float32")
  agreement.check_texts("peer", other, "bfloat16")
  assert agreement.of_texts(ours, ours[:1]).share == 0


def test_a_contender_with_another_loss_is_refused():
  agreement.check_losses("peer", 2.0, 2.001, "float32")
  for theirs in (2.01, float("nan")):
    with pytest.raises(UserError, match="before training"):
      agreement.check_losses("peer", 2.0, theirs, "float32")


_TAKES_TURNS = """
import pathlib, sys
from tests.benchmarks.contenders import race

job = race.read_job()
log = pathlib.Path({log!r})

def call(repeat):
  if repeat == {fails_at}:
    sys.exit("out of luck")
  with log.open("a") as file:
    file.write(f"{name}{{repeat}} ")
  return dict(tokens=1)

race.finish(job, race.run(job, call))
"""


def test_contenders_take_turns(monkeypatch, tmp_path):
  log = tmp_path / "log"
  package = tmp_path / "tests" / "benchmarks" / "contenders"
  package.mkdir(parents=True)
  (package / "race.py").write_text(pathlib.Path(race.__file__).read_text())
  for name, fails_at in (("a", None), ("b", 2), ("c", None)):
    text = _TAKES_TURNS.format(log=str(log), name=name, fails_at=fails_at)
    (package / f"{name}.py").write_text(text)
  monkeypatch.setattr(processes, "ROOT", tmp_path)
  modules = {name: (sys.executable, name) for name in "abc"}
  results = processes.race(modules, {"repeats": 3, "threads": 1})
  assert log.read_text().split() == [
    "a0", "b0", "c0", "a1", "b1", "c1", "a2", "c2", "a3", "c3",
  ]  # fmt: skip
  assert isinstance(results["b"], UserError)
  assert "ended with 1:\nout of luck" in str(results["b"])
  for name in "ac":
    assert len(results[name]["seconds"]) == 3


def test_ratios_are_of_medians():
  def result(seconds):
    return {
      "seconds": seconds,
      "counts": [{"tokens": 100, "completions": 10}] * len(seconds),
      "compile_s": 1.0,
      "first_result_s": 2.0,
      "peak_bytes": 10**9,
    }

  results = {"s2d": result([1, 2, 9]), "peer": result([4, 5, 50])}
  shown = summary.figures(results, "tokens", bound=100.0)
  assert shown["s2d"]["tokens/s"] == 50
  assert shown["peer"]["tokens/s"] == 20
  assert shown["peer"]["completions/s"] == 2
  assert shown["peer"]["s2d is × faster"] == 2.5
  assert shown["s2d"]["of bound"] == 0.5
  lines = summary.table(shown).splitlines()
  assert len(lines) == 4
  assert "2.50" in lines[-1] and "20%" in lines[-1]


def test_windows_begin_at_different_places():
  rows = workloads.windows(list(range(50)), count=8, length=32)
  assert {len(row) for row in rows} == {32}
  assert len({row[0] for row in rows}) == 8


def test_workloads_are_as_long_as_their_names_say():
  tokenizer = tiny_chat.tokenizer()
  for name, count, length, samples in (
    ("A", 16, 128, 1),
    ("B128", 8, 128, 8),
    ("B448", 8, 448, 8),
  ):
    job = workloads.sampling(name, tokenizer)
    assert [len(prompt) for prompt in job["prompts"]] == [length] * count
    assert job["samples"] == samples and job["eos"] == []
  job = workloads.sampling("C", tokenizer)
  assert len(job["prompts"]) == 64 and job["eos"]
  assert workloads.common_prefix(job["prompts"]) > 300
  job = workloads.finetune("2x512", tokenizer)
  assert race.trained(job) == {"tokens": 1024, "target_tokens": 512}
  json.dumps(job)
  with pytest.raises(UserError, match="--workload=D"):
    workloads.sampling("D", tokenizer)


def test_what_the_quickstart_learns_begins_alike(smollm2):
  job = workloads.finetune("quickstart", smollm2.tokenizer)
  assert len(job["examples"]) == 116
  tokens = race.trained(job)["tokens"]
  assert tokens / 2 < job["distinct_tokens"] < tokens * 2 / 3
  # As many examples as stand in two of sixteen rows, in the mean.
  assert job["batch_examples"] == round(116 * 2 / 16)


def test_scale_makes_the_same_run_of_so_many_questions(tmp_path):
  folder, found = epath.Path(tmp_path), []
  scale.make_run(folder, 12, prompt=500)
  run, config = folder / "run-12", scale.config(folder, 12, prompt=500)
  prepare.run(config, run)
  for _ in range(2):
    scale.draw(config, run)
    (part,) = (run / "samples" / "s2a").glob("part-*.jsonl")
    found.append(list(records.read(part)))
  assert found[0] == found[1]
  inputs = collections.Counter(one["example_id"] for one in found[0])
  assert set(inputs.values()) == {8} and len(inputs) == 12 + 10
  assert all(len(one["steps"][0]["prompt"]) < 60 for one in found[0])
  whole = map(PromptFrames.read(part.parent).restore, found[1])
  assert all(len(one["steps"][0]["prompt"]) > 500 for one in whole)
  named = [(one["example_id"], one["sample"]) for one in found[0]]
  assert named != sorted(named)  # as engines end them


def test_growth_is_told_as_an_exponent():
  figures = [
    {"seconds": s, "cpu": s, "peak": 5e6, "bytes": 1e6} for s in (2, 8)
  ]
  table = scale.table({"curate": figures}, [10, 40]).splitlines()
  assert table[-1] == "| curate | 40 | 8.0 | 8.0 | 5 | 1.0 | 1.00 |"
  assert scale.exponent([10, 100], [3, 300]) == pytest.approx(2)
