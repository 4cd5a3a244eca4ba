from __future__ import annotations

import json
import math
import re
import runpy
import shutil

from etils import epath
from ml_collections import ConfigDict
import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.evaluation import movement
from s2d_jax.stages import retention, setup
from s2d_jax.stages.everyday import questions
from s2d_jax.tasks.registry import make_task

_FACTS = {
  "name": "sycophancy",
  "kinds": ("continent",),
  "min_population": 100_000_000,
  "train": 3,
  "valid": 2,
  "test": 3,
}
_TASKS = {"coins": {"name": "coin_flip"}, "held out": _FACTS}


def settings(config_file) -> ConfigDict:
  config = runpy.run_path(str(config_file))["get_config"]()
  config.retention.tasks = ConfigDict(_TASKS)
  return config


@pytest.fixture
def asking(cache, config_file):
  return settings(config_file)


@pytest.fixture(scope="module")
def measured(cache, config_file, tmp_path_factory) -> epath.Path:
  workdir = epath.Path(tmp_path_factory.mktemp("retention"))
  retention.run_base(settings(config_file), workdir)
  return workdir


def test_rows_of_the_other_tasks(measured):
  rows = list(records.read(measured / "eval" / "retention-base.jsonl"))
  # Facts are asked plainly and with a wrong suggestion, coins plainly.
  for label, variants in (
    ("coins", ["plain"]),
    ("held out", ["plain", "suggests_wrong"]),
  ):
    options = {"seed": 0} | _TASKS[label]
    task = make_task(options.pop("name"), options)
    wanted = {example.id: example for example in task.examples()["test"][:2]}
    found = [row for row in rows if row["task"] == label]
    assert [(row["example_id"], row["variant"]) for row in found] == [
      (name, variant) for name in wanted for variant in variants
    ]
    for row in found:
      (one,) = row["passes"]
      example, variant = wanted[row["example_id"]], row["variant"]
      answer = task.answer(example, variant, one["text"])
      assert row["method"] == "system1" and one["tokens"] > 0
      assert one["answer"] == (answer and answer.text)
      score = task.score(example, variant, one["answer"])
      assert row["metrics"] == score
      assert row.get("chance") == (0.5 if label == "coins" else None)


def test_replies_to_everyday_questions(measured, asking):
  rows = list(records.read(measured / "eval" / "retention-base.jsonl"))
  found = [row for row in rows if row["task"] == "everyday"]
  assert {r["example_id"]: r["question"] for r in found} == questions(2)
  model = setup.base_model(asking)
  for row in found:
    assert row["tokens"] == len(row["token_ids"]) <= 64
    is_cut = row["finish"] == "length"
    assert (row["tokens"] == 64) == is_cut
    ids = row["token_ids"] if is_cut else row["token_ids"][:-1]
    assert row["text"] == model.tokenizer.decode(ids)


def test_the_perplexity_of_the_text(measured):
  *_, read = records.read(measured / "eval" / "retention-base.jsonl")
  assert read["task"] == "text"
  # About as good as chance among the 300 tokens, or worse; bytes are tokens.
  assert 5 < math.log(read["perplexity"]) < 50
  assert 3000 < read["tokens"] < 4000


def _distilled(workdir) -> list[records.Record]:
  return list(records.read(workdir / "eval" / "retention-distilled.jsonl"))


def test_how_far_the_model_moved(finished):
  rows = [r for r in _distilled(finished) if r["task"] == "movement"]
  kinds = {row["of"] for row in rows}
  assert kinds == {"everyday", "text", "targets"}
  base = records.read(finished / "eval" / "retention-base.jsonl")
  replies = {r["example_id"]: r for r in base if r["task"] == "everyday"}
  for row in rows:
    # What is fine-tuned for a few steps has moved, and not far.
    assert 0 < row["kl"] <= row["furthest"]["kl"] < 3
    assert 0 <= row["other_token"] <= row["positions"]
    if row["of"] == "everyday":
      assert row["positions"] == replies[row["example_id"]]["tokens"]
  assert sum(row["positions"] for row in rows if row["of"] == "text") <= 1024
  taught = records.read(finished / "distill" / "valid.jsonl")
  names = [f"{row['example_id']}/{row['variant']}" for row in taught]
  read = {row["example_id"] for row in rows if row["of"] == "targets"}
  assert read <= set(names) and len(read) == min(12, len(names))


def test_only_what_is_missing_is_measured(
  finished, config_file, tmp_path, monkeypatch
):
  """Killed in the middle of the movement: rows stay as they are."""
  workdir = epath.Path(shutil.copytree(finished, tmp_path / "run"))
  config = runpy.run_path(str(config_file))["get_config"]()
  path = workdir / "eval" / "retention-distilled.jsonl"
  (workdir / "done" / "retention_distilled.json").unlink()
  whole = path.read_bytes()
  lines = whole.splitlines(keepends=True)
  path.unlink()
  part = path.with_suffix("") / "part-00000-of-00001.jsonl"
  part.parent.mkdir()
  part.write_bytes(b"".join(lines[:-3]) + lines[-3][:40])
  passages = []
  divergences = movement.divergences

  def counted(model, params, given, *rest):
    passages.extend(given)
    return divergences(model, params, given, *rest)

  monkeypatch.setattr(movement, "divergences", counted)
  retention.run_distilled(config, workdir)
  assert len(passages) == 3
  found = path.read_bytes().splitlines(keepends=True)
  assert found[:-3] == lines[:-3]
  for one, other in zip(found[-3:], lines[-3:], strict=True):
    one, other = json.loads(one), json.loads(other)
    assert one["example_id"] == other["example_id"]
    # Batch mates are others: single precision.
    assert one["kl"] == pytest.approx(other["kl"], rel=1e-4)


def test_goes_on_where_it_was_killed(measured, asking, tmp_path):
  whole = (measured / "eval" / "retention-base.jsonl").read_text()
  lines = whole.splitlines(keepends=True)
  path = epath.Path(tmp_path) / "eval" / "retention-base.jsonl"
  records.write_text(path, "".join(lines[:1]) + lines[1][:20])
  retention.run_base(asking, epath.Path(tmp_path))
  found = path.read_text()
  assert found.startswith(lines[0])
  assert sorted(found.splitlines(keepends=True)) == sorted(lines)


def test_a_text_of_ones_own(measured, asking, tmp_path):
  (tmp_path / "text.txt").write_text("Lima Quito Paris Oslo and a few words.")
  asking.retention.text = str(tmp_path / "text.txt")
  asking.retention.tasks = ConfigDict()
  asking.retention.questions = 0
  retention.run_base(asking, epath.Path(tmp_path))
  (read,) = records.read(tmp_path / "eval" / "retention-base.jsonl")
  model = setup.base_model(asking)
  tokens = model.tokenizer((tmp_path / "text.txt").read_text())["input_ids"]
  assert read["tokens"] == len(tokens) - 1
  assert np.isfinite(read["perplexity"])


def test_a_text_that_is_not_there(asking, tmp_path):
  asking.retention.text = "nowhere.txt"
  with pytest.raises(UserError, match="retention.text='nowhere.txt'"):
    retention.run_base(asking, epath.Path(tmp_path))


@pytest.mark.parametrize(
  "options, said",
  [
    ({"name": "sycophant"}, "retention.tasks.facts: task.name='sycophant' is"),
    ({"name": "coin_flip", "coins": 3}, "facts: task.coins is unknown"),
    ({"kinds": ("currency",)}, "retention.tasks.facts: task.name='' is"),
    ("coin_flip", "retention.tasks.facts='coin_flip' must be the name and"),
  ],
)
def test_a_task_that_there_is_not(asking, options, said):
  asking.retention.tasks = ConfigDict({"facts": options})
  with pytest.raises(UserError, match=re.escape(said)):
    setup.check(asking)


def test_off(asking, tmp_path, capsys):
  asking.retention.n = 0
  retention.run_base(asking, epath.Path(tmp_path))
  retention.run_distilled(asking, epath.Path(tmp_path))
  assert not (tmp_path / "eval").exists()
  assert "retention base: off" in capsys.readouterr().out


def test_prompts_of_the_run_are_not_those_of_other_tasks(
  measured, asking, tmp_path
):
  """A method and templates that the other tasks do not have."""
  with asking.unlocked():
    asking.prompts.system1 = {"user": "Say nothing.", "max_new_tokens": 1}
  retention.run_base(asking, epath.Path(tmp_path))
  path = epath.Path("eval") / "retention-base.jsonl"
  found, wanted = (
    sorted((folder / path).read_text().splitlines())
    for folder in (epath.Path(tmp_path), measured)
  )
  assert found == wanted
