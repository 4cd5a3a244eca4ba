from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import sys
import time

from absl.testing import flagsaver
from etils import epath
import numpy as np
import pytest

from s2d_jax import LanguageModel, cli, records
from s2d_jax.answers.answer import Answer
from s2d_jax.errors import UserError
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.stages import (
  curate,
  evaluate,
  pipeline,
  prepare,
  program,
  sample,
  select,
  setup,
)
from s2d_jax.system2.consistency import ORDERS, orders
from s2d_jax.tasks.task import read_examples
from tests import events
from tests.processes import Process

_FORMS = ("plain", "suggests_wrong", "suggests_right", "denies_right")
_DISTILL = ("train.jsonl", "valid.jsonl", "rejected.jsonl")


def _rows(path) -> list[dict]:
  return list(records.read(path))


def _pairs(rows) -> set[tuple[str, str]]:
  return {(row["example_id"], row["variant"]) for row in rows}


def _files(folder) -> dict[str, tuple[int, int]]:
  found = pathlib.Path(folder).rglob("*")
  stats = {path: path.stat() for path in found if path.is_file()}
  return {
    str(path.relative_to(folder)): (stat.st_mtime_ns, stat.st_size)
    for path, stat in stats.items()
  }


@pytest.fixture
def workdir(finished, tmp_path) -> epath.Path:
  """A copy with its samples, to change at will; nothing later is done."""
  copied = tmp_path / "run"
  for name in ("config.json", "examples", "samples", "done"):
    source = finished / name
    if source.is_dir():
      shutil.copytree(source, copied / name)
    else:
      copied.mkdir(exist_ok=True)
      shutil.copy(source, copied / name)
  for mark in (copied / "done").iterdir():
    if mark.stem not in ("prepare", "sample"):
      mark.unlink()
  return epath.Path(copied)


def _samples(workdir) -> epath.Path:
  return workdir / "samples" / "s2a" / "part-00000-of-00001.jsonl"


# The whole pipeline.


def test_every_input_is_sampled_n_times(finished, config):
  rows = _rows(_samples(finished))
  frames = PromptFrames.read(_samples(finished).parent)
  learned = [
    row["id"]
    for split in ("train", "valid")
    for row in _rows(finished / "examples" / f"{split}.jsonl")
  ]
  assert len(learned) == 5
  samples = collections.Counter(
    (row["example_id"], row["variant"], row["sample"]) for row in rows
  )
  assert samples == {
    (name, form, index): 1
    for name in learned
    for form in _FORMS
    for index in range(config.sampling.n)
  }
  for row in rows:
    assert [step["tokens"] <= 4 for step in row["steps"]] == [True, True]
    whole = frames.restore(row)["steps"]
    assert all(step["prompt"].endswith("assistant:") for step in whole)


def test_distill_holds_each_input_once_and_no_label(finished, config):
  kept = {split: _rows(finished / "distill" / split) for split in _DISTILL}
  assert kept["train.jsonl"] and kept["valid.jsonl"]
  pairs = [pair for rows in kept.values() for pair in sorted(_pairs(rows))]
  assert len(pairs) == len(set(pairs)) == 5 * len(_FORMS)
  assert set(pairs) == _pairs(_rows(_samples(finished)))
  for rows in kept.values():
    for row in rows:
      assert row["samples"] == config.sampling.n
      assert sum(row["votes"].values()) <= config.sampling.n
      assert "label" not in row
  for split in ("train", "valid"):
    ids = {r["id"] for r in _rows(finished / "examples" / f"{split}.jsonl")}
    for row in kept[f"{split}.jsonl"]:
      assert row["example_id"] in ids
      assert row["votes"][row["winner"]] == max(row["votes"].values())
      assert row["target"] and "<|im_end|>" not in row["target"]
      assert row["prompt"][-1]["role"] == "user"


def test_curation_does_not_depend_on_labels(workdir, finished, config):
  for split in ("train", "valid"):
    path = workdir / "examples" / f"{split}.jsonl"
    records.write(path, [r | {"label": "nonsense"} for r in _rows(path)])
  curate.run(config, workdir)
  for name in _DISTILL:
    same = (finished / "distill" / name).read_bytes()
    assert (workdir / "distill" / name).read_bytes() == same


def test_training_leaves_its_files(finished):
  assert (finished / "checkpoints").is_dir()
  losses = _rows(finished / "metrics" / "finetune.jsonl")
  assert [row["step"] for row in losses] == list(range(len(losses)))
  assert len(losses) > 1 and losses[0]["target_tokens"] == 0
  assert all(row["loss"] > 0 for row in losses[1:])
  assert all(row["valid_loss"] > 0 for row in losses)


def test_what_is_drawn_is_what_was_measured(finished, config):
  folder = pathlib.Path(finished) / "tensorboard"
  lines = _rows(finished / "metrics" / "finetune.jsonl")
  assert lines[0]["total_steps"] == len(lines) - 1
  curves = events.read(folder / "finetune")
  for name in ("loss", "valid_loss", "learning_rate", "grad_norm"):
    assert curves[name] == pytest.approx(
      {line["step"]: line[name] for line in lines if name in line}
    )
  for name in ("tokens", "target_tokens"):
    assert curves[f"{name}_per_second"] == pytest.approx(
      {r["step"]: r[name] / r["seconds"] for r in lines[1:]}, rel=1e-5
    )

  samples = _rows(_samples(finished))
  curves = events.read(folder / "sample")
  lines = _rows(finished / "metrics" / "sample.jsonl")
  assert lines[-1]["step"] == len(samples)
  assert (lines[-1]["examples"], lines[-1]["of"]) == (5, 5)
  assert sum(line["passes"] for line in lines) == len(samples)
  tokens = sum(step["tokens"] for row in samples for step in row["steps"])
  assert sum(line["tokens"] for line in lines) == tokens
  # What sampling said it would come to is what curation has kept.
  rejected = _rows(finished / "distill" / "rejected.jsonl")
  kept = [r for r in rejected if r["reason"] == "duplicate"]
  for split in ("train", "valid"):
    kept += _rows(finished / "distill" / f"{split}.jsonl")
  share = len(kept) / (5 * len(_FORMS))
  assert 0 < share <= 1
  assert lines[-1]["kept"] == share
  assert curves["kept"][len(samples)] == pytest.approx(share)
  assert "tokens_per_second" in curves and "passes_per_second" in curves


def test_a_second_run_changes_no_file(finished, config, capsys):
  before = _files(finished)
  pipeline.run(config, finished)
  assert _files(finished) == before
  said = capsys.readouterr().out
  assert said.count("done already") == 12


def test_a_temporary_name_is_left_nowhere(finished):
  names = [path.name for path in pathlib.Path(finished).rglob("*")]
  assert not [name for name in names if name.endswith(".tmp")]


def test_the_folder_of_a_run_loads_as_the_distilled_model(finished, config):
  distilled = LanguageModel.load(finished)
  base = LanguageModel.load(config.model.name)
  ids = np.arange(32)[None]
  learned = np.asarray(distilled.logits(ids))
  assert np.abs(learned - base.logits(ids)).max() > 1e-4
  # By default the checkpoint of the lowest validation loss.
  losses = _rows(finished / "metrics" / "finetune.jsonl")
  best = min(losses[1:], key=lambda row: row["valid_loss"])["step"]
  named = LanguageModel.load(finished / "checkpoints" / str(best))
  np.testing.assert_array_equal(named.logits(ids), learned)


# Which answers are learnt.


def _changed(config, **settings):
  changed = config.copy_and_resolve_references()
  changed.update_from_flattened_dict(settings)
  return changed


def _again(config, workdir, *stages) -> None:
  for stage in stages:
    stage.run(config, workdir)


def test_a_decided_vote_is_sampled_no_further(finished, config, tmp_path):
  sure = _changed(
    config, **{"sampling.confidence": 0.95, "sampling.audit": 0.3}
  )
  workdir = epath.Path(tmp_path / "sure")
  _again(sure, workdir, prepare, sample, curate)
  full = {
    (r["example_id"], r["variant"], r["sample"]): r
    for r in _rows(_samples(finished))
  }
  drawn = _rows(_samples(workdir))
  assert 0 < len(drawn) < len(full)
  # The very samples of the full run, and the same decisions: two alike of three
  # cannot be outvoted.
  for row in drawn:
    name = row["example_id"], row["variant"], row["sample"]
    assert (row["reply"], row["answer"]) == (
      full[name]["reply"],
      full[name]["answer"],
    )
  for name in ("train.jsonl", "valid.jsonl"):
    assert [
      (r["example_id"], r["variant"], r["winner"])
      for r in _rows(workdir / "distill" / name)
    ] == [
      (r["example_id"], r["variant"], r["winner"])
      for r in _rows(finished / "distill" / name)
    ]
  saving = json.loads((workdir / "metrics" / "voting.json").read_text())
  assert saving["passes"] == len(drawn) and saving["full"] == len(full)
  assert saving["audited"] == saving["agree"] > 0
  audited = [e for e in _counts(drawn) if sample.is_audited(sure, e[0])]
  assert {_counts(drawn)[e] for e in audited} == {3}
  assert len(audited) == saving["audited"]


def test_an_example_that_cannot_be_kept_is_given_up(config, tmp_path):
  kept = {}
  for give_up in (True, False):
    strict = _changed(
      config,
      **{
        "sampling.give_up": give_up,
        "sampling.audit": 0.0,
        "curation.min_agreement": 1.0,
        "sampling.temperature": 0.7,
      },
    )
    workdir = epath.Path(tmp_path / str(give_up))
    _again(strict, workdir, prepare, sample)
    with contextlib.suppress(UserError):  # where nothing at all is kept
      curate.run(strict, workdir)
    path = workdir / "distill" / "train.jsonl"
    kept[give_up] = path.read_bytes() if path.exists() else None
    saving = _rows(_samples(workdir))
    assert (len(saving) < 5 * len(_FORMS) * 3) == give_up
    valid = {r["id"] for r in _rows(workdir / "examples" / "valid.jsonl")}
    assert all(  # what the verdict is about is sampled in full
      count == 3 for name, count in _counts(saving).items() if name[0] in valid
    )
  assert kept[True] and kept[True] == kept[False]


def _counts(rows) -> collections.Counter:
  return collections.Counter((r["example_id"], r["variant"]) for r in rows)


def test_labels_can_be_taught_as_the_upper_bound(config, tmp_path):
  supervised = _changed(config, **{"curation.select": "label"})
  workdir = epath.Path(tmp_path / "labels")
  _again(supervised, workdir, prepare, sample, select, curate)
  examples = {
    e.id: e for e in read_examples(workdir / "examples" / "train.jsonl")
  }
  rows = _rows(workdir / "distill" / "train.jsonl")
  assert _pairs(rows) == {(e, form) for e in examples for form in _FORMS}
  task = setup.task_of(supervised)
  for row in rows:
    example = examples[row["example_id"]]
    assert row["winner"] == example.label != row["target"]
    answer = task.answer(example, row["variant"], row["target"])
    assert answer == Answer(example.label, strict=True)
  assert not (workdir / "samples").exists()


def test_the_model_can_choose_its_own_reply(finished, config, workdir):
  by_model = _changed(config, **{"curation.select": "usc"})
  _again(by_model, workdir, select)
  chosen = _rows(workdir / "selections" / "s2a.jsonl")
  assert _pairs(chosen) == _pairs(_rows(_samples(workdir)))
  # A model that names places names no number, and so believes nothing.
  assert all(r["chosen"] is None for r in chosen)
  for row in chosen:
    assert len(row["replies"]) == len(row["orders"]) == ORDERS
    assert row["choices"] == [None] * ORDERS
    assert row["orders"] == orders(3, 0, row["example_id"], row["variant"])
  with pytest.raises(UserError, match="12 had no reply that the model chose"):
    curate.run(by_model, workdir)


def test_the_model_s_choice_is_what_is_taught(config, workdir):
  by_model = _changed(
    config, **{"curation.select": "usc", "curation.min_margin": 0.0}
  )
  rows = _rows(_samples(workdir))
  said = {(r["example_id"], r["variant"]): r for r in rows if r["sample"] == 2}
  records.write(
    workdir / "selections" / "s2a.jsonl",
    [
      {"example_id": e, "variant": v, "reply": "3", "chosen": 2, "tokens": 1}
      for e, v in said
    ],
  )
  _again(by_model, workdir, select, curate)
  taught = _rows(workdir / "distill" / "train.jsonl")
  assert taught
  for row in taught:
    source = said[row["example_id"], row["variant"]]
    assert row["winner"] == source["answer"]
    assert row["target"] == source["reply"].strip()


def test_a_model_that_chooses_by_position_is_warned_of(config, workdir, capsys):
  by_model = _changed(config, **{"curation.select": "usc"})
  rows = []
  for e, v in _pairs(_rows(_samples(workdir))):
    shown = orders(3, 0, e, v)
    choices = [order[0] for order in shown]
    row = {"example_id": e, "variant": v, "orders": shown, "choices": choices}
    rows.append(row | {"same_as": [0, 1, 2], "chosen": None, "tokens": 1})
  path = workdir / "selections" / "s2a.jsonl"
  records.write(path, rows)
  _again(by_model, workdir, select)
  said = capsys.readouterr().out
  assert said.count("select: warning:") == 1
  assert "no better than chance" in said
  assert "by position 100, 0, 0 % were chosen (this differs" in said
  for row in rows:  # one reply whatever the order
    row["choices"] = [len(row["example_id"]) % 3] * ORDERS
  records.write(path, rows)
  _again(by_model, workdir, select)
  assert "warning" not in capsys.readouterr().out


def test_only_some_variants_may_be_taught(config, workdir):
  plain = _changed(config, **{"curation.variants": ("plain",)})
  _again(plain, workdir, curate)
  rows = _rows(workdir / "distill" / "train.jsonl")
  assert {row["variant"] for row in rows} == {"plain"}


def test_a_question_in_one_form_is_perturbed(config, tmp_path):
  strict = _changed(
    config, **{"task.forms": "one", "curation.min_agreement": 1.0}
  )
  workdir = epath.Path(tmp_path / "one")
  _again(strict, workdir, prepare)
  sent = {
    row["id"]: row["variants"][0]
    for split in ("train", "valid")
    for row in _rows(workdir / "examples" / f"{split}.jsonl")
  }
  sample.run(strict, workdir)
  path = _samples(workdir)
  whole = path.read_bytes()
  drawn = _counts(_rows(path))
  valid = {r["id"] for r in _rows(workdir / "examples" / "valid.jsonl")}
  for name, form in sent.items():
    assert drawn[name, form] == 3
    assert drawn[name, "other_suggestion"] in (0, 3)
    assert name not in valid or drawn[name, "other_suggestion"] == 3
  assert drawn.total() == path.read_bytes().count(b"\n")
  # A kill changes nothing.
  path.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
  program.unmark(workdir, "sample")
  _again(strict, workdir, sample)
  assert path.read_bytes() == whole
  # The perturbation is neither taught nor evaluated, and never rejected.
  loose = _changed(strict, **{"curation.min_agreement": 0.0})
  curate.run(loose, workdir)
  curated = [_rows(workdir / "distill" / name) for name in _DISTILL]
  assert {p for rows in curated for p in _pairs(rows)} == set(sent.items())
  saving = records.read_json(workdir / "metrics" / "voting.json", "")
  assert saving["inputs"] == 2 * len(sent)
  assert saving["given_up"] == 2 * len(sent) - len(drawn)
  evaluate.run_valid(loose, workdir)
  rows = _rows(workdir / "eval" / "valid.jsonl")
  assert _pairs(rows) == {(name, sent[name]) for name in valid}


# A kill.

# Sampling takes milliseconds: without a pause the kill would come too late.
_SLOWLY = """
import time
from s2d_jax import records
append = records.Appender.append
def append_slowly(self, record):
  append(self, record)
  time.sleep(0.2)
records.Appender.append = append_slowly
from s2d_jax.stages import pipeline
pipeline.main()
"""


def test_a_killed_run_ends_as_if_nothing_had_happened(
  finished, config_file, cache, tmp_path, capfd, monkeypatch
):
  workdir = tmp_path / "killed"
  given = [f"--config={config_file}", f"--workdir={workdir}"]
  path = _samples(workdir)
  slow = Process(_SLOWLY, given, JAX_PLATFORMS="cpu")
  try:
    until = time.monotonic() + 100
    while not path.exists() or path.read_bytes().count(b"\n") < 7:
      assert slow.is_running and time.monotonic() < until
      time.sleep(0.02)
  finally:
    slow.kill()
    slow.wait()
  assert not (workdir / "done" / "sample.json").exists()
  killed = path.read_bytes()
  kept = killed[: killed.rindex(b"\n") + 1]
  assert 7 <= kept.count(b"\n") < 60
  path.write_bytes(kept + b'{"example_id":"capital/BR","vari')

  # The same command in this process, which has its programs.
  monkeypatch.setattr(sys, "argv", ["s2d", "pipeline", *given])
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    cli.main()
  said = capfd.readouterr()
  assert not stopped.value.code, said.err
  assert f"({kept.count(bytes([10]))} were there," in said.out
  assert path.read_bytes() == _samples(finished).read_bytes()
  for name in _DISTILL:
    same = (finished / "distill" / name).read_bytes()
    assert (workdir / "distill" / name).read_bytes() == same
  assert (workdir / "report" / "index.html").exists()
  # The curve, too, ends where it would have ended.
  drawn, whole = (
    events.read(pathlib.Path(folder) / "tensorboard" / "sample")["kept"]
    for folder in (workdir, finished)
  )
  last = max(whole)
  assert max(drawn) == last and drawn[last] == whole[last]


# Mistakes.


@pytest.fixture
def s2d(monkeypatch, capfd, cache):
  """Runs the command in this process: (exit status, stderr)."""

  def run(*arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["s2d", *map(str, arguments)])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      cli.main()
    return stopped.value.code or 0, capfd.readouterr().err

  return run


def _sentence(outcome: tuple[int, str], status: int = 1) -> str:
  """The one line that a person reads."""
  code, text = outcome
  assert code == status, text
  assert "Traceback" not in text
  lines = [line for line in text.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1, text
  return lines[0]


def _given(config_file, workdir) -> list[str]:
  return [f"--config={config_file}", f"--workdir={workdir}"]


def test_a_missing_model(s2d, config_file, tmp_path):
  given = _given(config_file, tmp_path / "run")
  missing = f"--config.model.name={tmp_path}/none"
  assert f"{tmp_path}/none" in _sentence(s2d("prepare", *given, missing))
  assert s2d("prepare", *given)[0] == 0
  assert f"{tmp_path}/none" in _sentence(s2d("sample", *given, missing))


@pytest.mark.parametrize(
  "setting, named",
  [
    ("task.name=chess", "sycophancy"),
    ("method=s2b", "s2a, s2a_few_shot, system1"),
    ("curation.select=luck", "vote, usc, first, label"),
    ("sampling.temprature=1", "config.sampling.temperature"),
    ("sampling.n=many", "many"),
    ("sampling.n=0", "sampling.n=0 must be 1 or more"),
    ("sampling.batch_rows=-1", "sampling.batch_rows=-1 must be 0 or more"),
    ("finetune.accumulate=-1", "finetune.accumulate=-1 must be 0 or more"),
    ("finetune.batch_rows=0", "finetune.batch_rows=0 must be 1 or more"),
    ("sampling.temperature=-1", "temperature"),
    ("task.test=500", "500"),
  ],
)
def test_a_setting_that_cannot_be(s2d, config_file, tmp_path, setting, named):
  given = _given(config_file, tmp_path / "run")
  outcome = s2d("pipeline", *given, f"--config.{setting}")
  assert named in _sentence(outcome)
  assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are(s2d, config_file, tmp_path):
  given = _given(config_file, tmp_path / "run")
  told = _sentence(s2d("pipeline", *given, "--config.mesh.fsdp=64"))
  assert "fsdp=64) does not suit the model and 1 devices" in told
  assert not (tmp_path / "run" / "examples").exists()  # said before the work
  assert s2d("prepare", *given, "--config.mesh.fsdp=64")[0] == 0


@pytest.mark.parametrize(
  "line, named",
  [
    ("config.sampling.temprature = 1.0", "temperature"),
    ("config.sampling.n = 'many'", "many"),
    ("config.n = = 3", "SyntaxError"),
  ],
)
def test_a_config_file_that_does_not_load(
  s2d, config_file, tmp_path, line, named
):
  path = tmp_path / "mine.py"
  text = config_file.read_text()
  path.write_text(text.replace("  return config", f"  {line}\n  return config"))
  told = _sentence(s2d("prepare", *_given(path, tmp_path / "run")))
  assert str(path) in told and named in told


def test_an_unknown_option_of_the_task(s2d, config_file, tmp_path):
  path = tmp_path / "mine.py"
  text = config_file.read_text()
  path.write_text(text.replace("task.kinds", "task.kind"))
  told = _sentence(s2d("prepare", *_given(path, tmp_path / "run")))
  assert "task.kind is unknown" in told


def test_a_missing_config_file(s2d, tmp_path):
  path = tmp_path / "none.py"
  told = _sentence(s2d("pipeline", *_given(path, tmp_path / "run")))
  assert f"{path}: there is no such file" in told


def test_no_flags_at_all(s2d):
  assert "--config=FILE" in _sentence(s2d("pipeline"))


def test_an_unknown_stage(s2d):
  assert "did you mean 'sample'" in _sentence(s2d("sampel"), status=2)


def test_a_workdir_of_another_run(s2d, config_file, workdir):
  given = _given(config_file, workdir)
  before = _files(workdir)
  told = _sentence(s2d("curate", *given, "--config.sampling.n=4"))
  assert "sampling.n: 3 there, 4 here" in told and str(workdir) in told
  assert "temperature" not in told
  assert _files(workdir) == before


def test_what_is_not_used_yet_may_change(s2d, config_file, workdir):
  """Nothing kept: a lower threshold goes on with the same samples."""
  given = _given(config_file, workdir)
  strict = "--config.curation.min_margin=1.1"
  assert "kept nothing" in _sentence(s2d("curate", *given, strict))
  before = _samples(workdir).read_bytes()
  row_length = "--config.finetune.row_length=600"
  assert s2d("curate", *given, row_length)[0] == 0
  assert (workdir / "done" / "curate.json").exists()
  assert _samples(workdir).read_bytes() == before
  kept = json.loads((workdir / "config.json").read_text())
  assert kept["curation"]["min_margin"] == 0.0
  assert kept["finetune"]["row_length"] == 600
  # Now it has been used.
  told = _sentence(s2d("curate", *given, row_length, strict))
  assert "curation.min_margin: 0.0 there, 1.1 here" in told
  told = _sentence(s2d("finetune", *given))  # with those that did not fit
  assert "finetune.row_length: 600 there, 512 here" in told


def test_devices_may_change_at_any_time(s2d, config_file, finished, tmp_path):
  workdir = shutil.copytree(finished, tmp_path / "run")
  given = _given(config_file, workdir)
  other = ("--config.mesh.fsdp=1", "--config.sampling.mesh.tensor=1")
  assert s2d("finetune", *given, *other)[0] == 0
  kept = json.loads((workdir / "config.json").read_text())
  assert kept["mesh"]["fsdp"] == kept["sampling"]["mesh"]["tensor"] == 1
  told = _sentence(s2d("sample", *given, "--config.sampling.weights=int8"))
  assert "sampling.weights: float there, int8 here" in told


def test_a_mistake_is_mended_in_the_same_workdir(s2d, config_file, tmp_path):
  given = _given(config_file, tmp_path / "run")
  assert s2d("prepare", *given)[0] == 0
  wrong = f"--config.model.name={tmp_path}/none"
  assert str(tmp_path / "none") in _sentence(s2d("sample", *given, wrong))
  assert s2d("sample", *given)[0] == 0
  # Now there are samples, and they are of this model.
  assert "holds a run with other" in _sentence(s2d("sample", *given, wrong))
  told = _sentence(s2d("sample", *given, "--config.seed=3"))
  assert "seed: 0 there, 3 here" in told


def test_a_run_from_before_a_setting_existed(s2d, config_file, workdir):
  path = workdir / "config.json"
  settings = json.loads(path.read_text())
  del settings["sampling"]["give_up"], settings["sampling"]["n"]
  path.write_text(json.dumps(settings))
  # The one is at its default, the other is not.
  told = _sentence(s2d("curate", *_given(config_file, workdir)))
  assert "sampling.n: 5 there, 3 here" in told and "give_up" not in told


def test_a_workdir_that_is_a_file(s2d, config_file, tmp_path):
  path = tmp_path / "run"
  path.write_text("mine")
  told = _sentence(s2d("prepare", *_given(config_file, path)))
  assert f"{path} cannot be written" in told
  assert path.read_text() == "mine"


def test_a_full_disk(s2d, config_file, tmp_path, monkeypatch):
  given = _given(config_file, tmp_path / "run")

  def refused(*unused):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(records, "write", refused)
    told = _sentence(s2d("prepare", *given))
  assert (
    f"too little room is left on the disk of {tmp_path}/run: it has" in told
  )
  assert "a checkpoint takes" not in told
  assert s2d("prepare", *given)[0] == 0


def test_a_broken_line_of_the_examples(config, workdir):
  path = workdir / "examples" / "train.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(lines[0] + lines[1][:9] + "\n" + lines[2])
  with pytest.raises(UserError, match=r"train\.jsonl, line 2 is not valid"):
    curate.run(config, workdir)


def test_a_broken_line_of_the_samples(config, workdir):
  path = _samples(workdir)
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join([*lines[:4], "{\n", *lines[5:]]))
  for stage in (curate, sample):
    program.unmark(workdir, "sample")
    with pytest.raises(UserError, match=r"1\.jsonl, line 5 is not valid"):
      stage.run(config, workdir)


def test_two_examples_of_one_id(config, workdir):
  path = workdir / "examples" / "train.jsonl"
  rows = _rows(path)
  records.write(path, [*rows, rows[0]])
  with pytest.raises(UserError, match=r"records 1 and 4 have the same id"):
    curate.run(config, workdir)


def test_an_example_without_a_field(config, workdir):
  path = workdir / "examples" / "train.jsonl"
  rows = _rows(path)
  del rows[1]["inputs"]
  records.write(path, rows)
  with pytest.raises(UserError, match=r"record 2 has no 'inputs'"):
    curate.run(config, workdir)


@pytest.mark.parametrize(
  "variants, named",
  [
    (["loud"], "asked in the variant 'loud', but sycophancy has plain"),
    ("plain", "record 2 has 'variants' that are no list of names"),
    ([], "record 2 has 'variants' that are no list of names"),
  ],
)
def test_variants_that_cannot_be(config, workdir, variants, named):
  path = workdir / "examples" / "train.jsonl"
  rows = _rows(path)
  records.write(path, [rows[0], rows[1] | {"variants": variants}, rows[2]])
  with pytest.raises(UserError, match=named):
    curate.run(config, workdir)


def test_a_prompt_longer_than_the_window(config, workdir):
  path = workdir / "examples" / "train.jsonl"
  rows = _rows(path)
  rows[0]["inputs"]["question"] = "Why? " * 200
  records.write(path, rows)
  program.unmark(workdir, "sample")
  with _samples(workdir).open("w"):
    pass
  name = re.escape(rows[0]["id"])
  strict = config.copy_and_resolve_references()
  strict.too_long = "stop"
  with pytest.raises(UserError, match=rf"{name}/\w+: .*window of 512"):
    sample.run(strict, workdir)
  assert not _rows(_samples(workdir))  # known before anything is decoded


def test_thresholds_that_keep_nothing_say_what_others_would_keep(
  config, workdir
):
  strict = config.copy_and_resolve_references()
  strict.curation.min_margin = 1.1
  with pytest.raises(UserError, match="kept nothing of the train") as told:
    curate.run(strict, workdir)
  # The same counts from the samples: inputs whose winner leads by one, two or
  # three of the three samples.
  train = {r["id"] for r in _rows(workdir / "examples" / "train.jsonl")}
  answers = collections.defaultdict(collections.Counter)
  for row in _rows(_samples(workdir)):
    if row["example_id"] in train and row["tier"] in ("strict", "loose"):
      answers[row["example_id"], row["variant"]][row["answer"]] += 1
  leads = []
  for counted in answers.values():
    first, second, *_ = [*sorted(counted.values(), reverse=True), 0]
    leads.append(first - second)
  kept = {n: sum(lead >= n for lead in leads) for n in set(leads) - {0}}
  assert kept
  of = f"of {len(train) * len(_FORMS)} inputs curation.min_margin would have"
  assert of in str(told.value)
  share = {1: "0.333", 2: "0.666", 3: "1"}
  for lead, count in kept.items():
    assert f"{count} at {share[lead]}" in str(told.value)
  assert not (workdir / "done" / "curate.json").exists()


def test_prepare_is_the_same_in_another_folder(config, finished, tmp_path):
  workdir = epath.Path(tmp_path / "again")
  with contextlib.redirect_stdout(None):
    prepare.run(config, workdir)
  for split in ("train", "valid", "test"):
    name = f"{split}.jsonl"
    same = (finished / "examples" / name).read_bytes()
    assert (workdir / "examples" / name).read_bytes() == same
