from __future__ import annotations

import collections
import json
import pathlib
import shutil

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np
import pytest
from rich.console import Console
import scipy.special

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.curation.rounds import Beliefs
from s2d_jax.errors import UserError
from s2d_jax.evaluation import signs as signs_of
from s2d_jax.language_model import LanguageModel
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import (
  curate,
  evaluate,
  finetune,
  nested,
  rounds,
  sample,
  select,
  series,
  setup,
  signs,
  status,
)
from tests import tiny_chat
from tests.reporting.test_report import Page
from tests.stages.killed import files, killed

# Three samples of an input, so that few of them agree and few are decided.
_TWO = (
  "--config.rounds.count=2",
  "--config.curation.min_margin=0.6",
  "--config.finetune.epochs=2",
  "--config.finetune.eval_every=2",
  "--config.retention.n=0",
  "--config.finetune.learning_rate=0.01",  # so that its model is another
)
_REJECTED = "rejected.jsonl"
_KILLED = (
  (finetune, "finetune", 1),  # in the first round
  (nested, "copy", 3),
  (sample, "_record", 20),
  (finetune, "finetune", 1),
)


@pytest.fixture(scope="module")
def made(s2d, sampled, tmp_path_factory) -> pathlib.Path:
  """Two rounds that were killed again and again."""
  workdir = tmp_path_factory.mktemp("rounds") / "tiny"
  first = shutil.copytree(sampled, workdir / "rounds" / "1")
  settings = json.loads((first / "config.json").read_text())
  settings["rounds"]["number"] = 1
  (first / "config.json").write_text(json.dumps(settings))
  for one in _KILLED:
    with killed(*one):
      assert s2d("pipeline", workdir, *_TWO) == 1
  assert s2d("pipeline", workdir, *_TWO) == 0
  return workdir


def _rows(path) -> list[records.Record]:
  return list(records.read(path))


def _second(config, workdir) -> tuple[ConfigDict, epath.Path]:
  """The config of `made` as its second round, in another workdir."""
  config = config.copy_and_resolve_references()
  config.rounds.count, config.rounds.number = 2, 2
  config.curation.min_margin = 0.6
  config.retention.n = 0
  config.finetune.epochs = config.finetune.eval_every = 2
  config.finetune.learning_rate = 0.01
  return config, epath.Path(workdir) / "rounds" / "2"


@pytest.fixture
def second(made, config, tmp_path):
  """A second round that has taken over, and drawn nothing."""
  shutil.copytree(made / "rounds" / "1", tmp_path / "rounds" / "1")
  config, workdir = _second(config, tmp_path)
  rounds._take_over(config, workdir)
  return config, workdir


def test_what_is_the_same_in_every_round_is_copied(made):
  first, second = (files(made / "rounds" / number) for number in "12")
  same = {name for name in first if first[name] == second.get(name)}
  assert same >= {
    "model.json",
    *(f"examples/{split}.jsonl" for split in ("train", "valid", "test")),
    "eval/base.jsonl",
    *(f"done/{n}.json" for n in ("prepare", "evaluate_base", "retention_base")),
  }
  assert "thinker.json" not in first
  for name in ("samples/s2a/part-00000-of-00001.jsonl", "eval/valid.jsonl"):
    assert first[name] != second[name]
  assert not [path for path in made.rglob("*.tmp")]


def test_the_second_round_is_thought_by_the_first_ones_model(made):
  """As likely as this model finds its words, and not as the base model does."""
  folder = made / "rounds" / "2" / "samples" / "s2a"
  tokenizer = tiny_chat.tokenizer()
  tokens = lambda text: tokenizer(text)["input_ids"]
  # One whose text has lost no token, as it would a space or half of a letter.
  step = next(
    step
    for row in map(
      PromptFrames.read(folder).restore,
      _rows(folder / "part-00000-of-00001.jsonl"),
    )
    for step in row["steps"]
    if step["text"].isascii() and len(tokens(step["text"])) == step["tokens"]
  )
  prompt, reply = tokens(step["prompt"]), tokens(step["text"])
  found = {}
  base = json.loads((made / "rounds" / "1" / "model.json").read_text())["path"]
  for name in (base, made / "rounds" / "1"):
    model = LanguageModel.load(name, dtype="float32")
    logits = np.asarray(model.logits([prompt + reply]))[0]
    logits = logits[len(prompt) - 1 : -1]
    of_each = scipy.special.log_softmax(logits, axis=-1)
    found[name] = of_each[range(len(reply)), reply].sum()
  distilled = found.pop(made / "rounds" / "1")
  assert step["logprob"] == pytest.approx(distilled, abs=2e-3)
  assert abs(step["logprob"] - found[base]) > 1e-2
  there = json.loads((made / "rounds" / "2" / "thinker.json").read_text())
  assert there == pretrained.identity(made / "rounds" / "1")
  assert (
    there["weights"]
    != json.loads((made / "rounds" / "2" / "model.json").read_text())["weights"]
  )


def test_inputs_are_sampled_by_what_the_first_round_made_of_them(made):
  first, second = (made / "rounds" / number for number in "12")
  doubted = {row["example_id"] for row in _rows(first / "distill" / _REJECTED)}
  valid = {row["id"] for row in _rows(first / "examples" / "valid.jsonl")}
  samples = _rows(second / "samples" / "s2a" / "part-00000-of-00001.jsonl")
  drawn = collections.Counter((s["example_id"], s["variant"]) for s in samples)
  assert len(drawn) == 5 * 4
  for (name, _), count in drawn.items():
    is_more = name in doubted - valid
    assert count == (6 if is_more else 3)  # 3 is also half of 3, at least 3
  voting = json.loads((second / "metrics" / "voting.json").read_text())
  more = 4 * len(doubted - valid)
  assert (voting["more"], voting["fewer"]) == (more, 0) and more
  assert voting["passes"] == voting["full"] == len(samples) == 60 + 3 * more
  report = (second / "report" / "results.md").read_text()
  assert f"Of 20 inputs {more} might be sampled more often" in report


def test_beliefs_are_joined_and_say_since_when(made):
  first, second = (made / "rounds" / number for number in "12")
  undecided = {
    (row["example_id"], row["variant"])
    for row in _rows(second / "distill" / "undecided.jsonl")
  }
  assert undecided and not _rows(first / "distill" / "undecided.jsonl")
  inputs = collections.Counter()
  for split in ("train", "valid"):
    before, now = (
      {
        (row["example_id"], row["variant"]): row
        for row in _rows(folder / "distill" / f"{split}.jsonl")
      }
      for folder in (first, second)
    )
    assert {row["round"] for row in before.values()} == {1}
    assert before.keys() <= now.keys()  # nothing is forgotten
    ids = [r["id"] for r in _rows(first / "examples" / f"{split}.jsonl")]
    assert list(now) == sorted(now, key=lambda one: (ids.index(one[0]), one[1]))
    for name, row in now.items():
      if name in undecided:
        assert row == before[name]
      else:
        assert row["round"] == 2
    inputs.update(now.keys())
  inputs.update(
    (row["example_id"], row["variant"])
    for row in _rows(second / "distill" / _REJECTED)
  )
  assert set(inputs.values()) == {1} and len(inputs) == 5 * 4


def test_after_kills_a_round_is_what_it_would_have_been(made, second):
  config, workdir = second
  for stage in (sample.run, select.run, curate.run):
    stage(config, workdir)
  for part in ("samples", "distill"):
    there, here = (
      files(pathlib.Path(folder) / part)
      for folder in (made / "rounds" / "2", workdir)
    )
    assert there == here


def test_the_base_model_may_go_on_thinking(second, made):
  """It keeps its samples, and draws more where it was undecided."""
  config, workdir = second
  config.rounds.thinker = "base"
  for _ in range(2):  # killed before it drew anything
    rounds._take_over(config, workdir)
  sample.run(config, workdir)
  assert not (workdir / "thinker.json").exists()
  before, now = (
    {
      (row["example_id"], row["variant"], row["sample"]): row
      for row in _rows(folder / "samples/s2a/part-00000-of-00001.jsonl")
    }
    for folder in (made / "rounds" / "1", workdir)
  )
  assert before.items() <= now.items()
  doubted = {
    row["example_id"]
    for row in _rows(made / "rounds" / "1" / "distill" / _REJECTED)
  }
  new = {name for name in now if name not in before}
  assert {number for _, _, number in new} == {3, 4, 5}
  assert {name for name, _, _ in new} <= doubted


@pytest.mark.parametrize("start", ["base", "last"])
def test_the_fine_tune_starts_from_the_base_or_goes_on(second, start):
  config, workdir = second
  config.rounds.start = start
  names = {"base": config.model.name, "last": workdir.parent / "1"}
  wanted = pretrained.load(names[start], make_mesh())
  found = setup.model_to_train(config, workdir)
  jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
  setup.release()


def test_a_round_does_not_go_on_with_another_thinker(second):
  config, workdir = second
  sample.run(config, workdir)
  record = workdir / "thinker.json"
  told = json.loads(record.read_text())
  record.write_text(json.dumps(told | {"weights": "of another"}))
  with pytest.raises(UserError, match=r"begun with another model .*/rounds/1"):
    evaluate.run_valid(config, workdir)


def test_a_round_does_not_go_on_with_another_base_model(second):
  config, workdir = second
  record = workdir / "model.json"  # taken over from the round before
  told = json.loads(record.read_text())
  record.write_text(json.dumps(told | {"weights": "of another"}))
  with pytest.raises(UserError, match="begun with another model under the nam"):
    sample.run(config, workdir)


def test_the_page_shows_the_rounds_side_by_side(made):
  page = Page((made / "report" / "index.html").read_text())
  assert page.open == [] and page.scripts == []
  found = json.loads((made / "report" / "rounds.json").read_text())
  read = json.loads((made / "rounds" / "signs.json").read_text())
  head, *body = page.tables["rounds"]
  assert head[1:3] == ["suggests wrong", "plain"]
  assert [row[0] for row in body[-2:]] == ["round 1", "round 2"]
  assert body[0][0].startswith("System 1")
  for number, row in enumerate(body[-2:], start=1):
    folder = made / "rounds" / str(number)
    verdict = json.loads((folder / "report" / "verdict.json").read_text())
    share = 100 * verdict["accepted"] / verdict["inputs"]
    assert float(row[-2]) == pytest.approx(share, abs=0.05)
  parts = ("train", "valid", "rejected")
  train, valid, rejected = (
    _rows(made / "rounds" / "1" / "distill" / f"{name}.jsonl") for name in parts
  )
  kept = len(train + valid) / len(train + valid + rejected)
  assert read["rounds"][0]["kept"] == pytest.approx(kept)
  tokens = [
    sum(step["tokens"] for step in row["steps"])
    for row in _rows(
      made / "rounds" / "2" / "samples/s2a/part-00000-of-00001.jsonl"
    )
  ]
  assert read["rounds"][1]["thought"] == pytest.approx(np.mean(tokens))
  assert read["rounds"][1]["fewer_kept"]["n"] == 5 * 4
  assert {row["movement"] for row in read["rounds"]} == {None}
  assert read["answer"] == found["answer"]
  assert found["answer"] in page.text.replace("\N{NO-BREAK SPACE}", " ")
  assert found["answer"] in (made / "report" / "rounds.md").read_text()
  links = [dict(at)["href"] for tag, at in page.tags if tag == "a"]
  assert [(made / "report" / link).exists() for link in links] == [True, True]


def test_movement_is_a_mean_over_the_places_of_the_text(finished, config):
  rows = [
    row
    for row in _rows(finished / "eval" / "retention-distilled.jsonl")
    if row.get("of") == "text"
  ]
  sizes = [row["positions"] for row in rows]
  wanted = np.average([row["kl"] for row in rows], weights=sizes)
  found = signs._Round(config, finished).movement
  assert found == pytest.approx(wanted) and found > 0


def test_what_was_measured_of_the_base_model_is_copied(
  finished, config, tmp_path
):
  config, workdir = _second(config, tmp_path)
  workdir.parent.mkdir()
  pathlib.Path(workdir.parent / "1").symlink_to(finished)
  rounds._take_over(config, workdir)
  for path in ("eval/retention-base.jsonl", "done/retention_base.json"):
    assert (workdir / path).read_bytes() == (finished / path).read_bytes()


def test_once_more_changes_nothing(made, s2d, capfd):
  before = files(made)
  assert s2d("pipeline", made, *_TWO) == 0
  assert s2d("report", made, *_TWO) == 0
  assert files(made) == before
  said = capfd.readouterr().out
  assert said.count("done already\n") == 2
  assert said.count("report/index.html") == 2


def test_the_page_is_of_the_rounds_that_are_finished(made, s2d, tmp_path):
  workdir = shutil.copytree(made, tmp_path / "run")
  mark_of(workdir / "rounds" / "2", "report").unlink()
  assert s2d("report", workdir, *_TWO) == 0
  found = json.loads((workdir / "rounds" / "signs.json").read_text())
  assert [row["number"] for row in found["rounds"]] == [1]
  assert found["answer"] == (
    "Round 2 is not finished, or kept too little to learn from. No sign is bad"
    " in one round. Use round 1."
  )


def test_too_little_in_a_later_round_is_no_failure(
  second, s2d, capfd, monkeypatch
):
  _, workdir = second

  def join(*unused):
    return Beliefs([], [], [])

  monkeypatch.setattr(curate.rounds, "join", join)
  assert s2d("pipeline", workdir.parent.parent, *_TWO) == 0
  said = capfd.readouterr().out
  assert "rounds/2: curation kept nothing of the train split" in said
  assert "kept too little to learn from" in " ".join(said.split())


def test_a_sign_ends_the_rounds(made, s2d, tmp_path, monkeypatch, capfd):
  workdir = shutil.copytree(made, tmp_path / "run")
  monkeypatch.setattr(signs_of, "_LEAST_ENTROPY", 0.0)
  monkeypatch.setattr(signs_of, "_LEAST_THOUGHT", 1.1)
  assert s2d("pipeline", workdir, "--config.rounds.count=3", *_TWO[1:]) == 0
  assert not (workdir / "rounds" / "3").exists()
  found = json.loads((workdir / "rounds" / "signs.json").read_text())
  assert found["stopped"] == {"round": 2, "sign": "thought"}
  assert found["use"] == 1
  said = " ".join(capfd.readouterr().out.split())
  assert "Round 2 stops the rounds: a thought takes 8 tokens, where it" in said
  assert said.count("Use round 1.") == 1


def test_rounds_may_lie_in_a_bucket(made, config, tmp_path, bucket):
  shutil.copytree(made, tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "report")
  bucket.fill(tmp_path)
  run = bucket.path / "run"
  config, workdir = _second(config, str(run))
  assert setup.thinker_name(config, workdir) == f"{run}/rounds/1"
  config.rounds.number = 0
  done = list(series._finished(rounds.SERIES, config, run))
  rounds._report(run, done)
  text = bucket.files(run / "report")["rounds.md"]
  assert text == (made / "report" / "rounds.md").read_bytes()


def test_status_is_of_the_newest_round(made, monkeypatch, capsys, tmp_path):
  workdir = shutil.copytree(made, tmp_path / "run")
  mark_of(workdir / "rounds" / "2", "report").unlink()
  newest = status._newest(str(workdir))
  assert newest == str(workdir / "rounds" / "2")
  status.show(newest, status.inspect_run(newest), Console(width=200))
  _, said = capsys.readouterr().out.split("Next: ")
  command = f"s2d pipeline --config=… --workdir={workdir}"
  assert said.startswith(f"report of round 2. `{command}`")
  assert status._newest(newest) == newest


@pytest.mark.parametrize(
  ("stage", "folder", "given", "named"),
  [
    ("finetune", "", _TWO, "--config.rounds.number=1 --workdir="),
    ("finetune", "", _TWO[1:], "is for a run of several rounds, of which only"),
    ("pipeline", "rounds/1", _TWO, "rounds/1 holds a single run; rounds are"),
    ("report", "other", _TWO, "other is finished; let s2d pipeline make"),
    ("study", "other", _TWO, "rounds.count=2, but a study is of single runs"),
    ("pipeline", "other", ("--config.rounds.count=0",), "must be 1 or more"),
    ("pipeline", "other", ("--config.rounds.start=1",), "one of base, last"),
    (
      *("pipeline", "other"),
      (*_TWO, "--config.curation.select=usc"),
      "curation.select='usc' cannot be in rounds, which go by votes",
    ),
    (
      *("pipeline", "other"),
      (*_TWO, "--config.rounds.start=last", "--config.finetune.lora.rank=2"),
      "rounds.start='last' cannot train adapters",
    ),
    (
      *("pipeline", ""),
      (*_TWO, "--config.sampling.n=4"),
      "sampling.n: 3 there, 4 here",
    ),
  ],
)
def test_a_mistake_is_a_sentence(
  made, s2d, tmp_path, capfd, stage, folder, given, named
):
  other = tmp_path / folder
  workdir = other if folder == "other" else made / folder
  before = files(made)
  assert s2d(stage, workdir, *given) == 1
  said = capfd.readouterr().err
  assert "Traceback" not in said
  (sentence,) = [x for x in said.splitlines() if x.startswith("error: ")]
  assert named in sentence
  assert files(made) == before and not (tmp_path / "other").exists()


def test_rounds_need_a_validation_split(made, config, tmp_path):
  shutil.copytree(made / "rounds" / "1" / "examples", tmp_path / "examples")
  rounds._check_valid(config, epath.Path(tmp_path))
  (tmp_path / "examples" / "valid.jsonl").write_text("")
  with pytest.raises(UserError, match="rounds need a validation split"):
    rounds._check_valid(config, epath.Path(tmp_path))


def test_the_model_of_rounds_is_the_model_of_one_of_them(made):
  with pytest.raises(UserError, match="name one of them, as .*/rounds/1"):
    pretrained.load_without_weights(made)
