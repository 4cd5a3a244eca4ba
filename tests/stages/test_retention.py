from __future__ import annotations

import math
import runpy

from etils import epath
import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.stages import retention, setup
from s2d_jax.tasks.registry import make_task


@pytest.fixture
def config(cache, config_file):
  config = runpy.run_path(str(config_file))["get_config"]()
  config.retention.tasks = ("sycophancy", "coin_flip", "last_letters")
  return config


@pytest.fixture(scope="module")
def measured(cache, config_file, tmp_path_factory) -> epath.Path:
  workdir = epath.Path(tmp_path_factory.mktemp("retention"))
  config = runpy.run_path(str(config_file))["get_config"]()
  config.retention.tasks = ("sycophancy", "coin_flip", "last_letters")
  retention.run_base(config, workdir)
  return workdir


def test_rows_of_the_other_tasks_and_of_the_text(measured):
  *asked, read = records.read(measured / "eval" / "retention-base.jsonl")
  for name in ("coin_flip", "last_letters"):  # not the run's own task
    task = make_task(name, {"seed": 0})
    wanted = {example.id: example for example in task.examples()["test"][:2]}
    rows = [row for row in asked if row["task"] == name]
    assert {row["example_id"] for row in rows} == set(wanted)
    for row in rows:
      (one,) = row["passes"]
      example = wanted[row["example_id"]]
      found = task.answer(example, "plain", one["text"])
      assert (row["method"], row["variant"]) == ("system1", "plain")
      assert one["answer"] == found and one["tokens"] > 0
      assert row["metrics"] == {"accuracy": float(found == example.label)}
  assert len(asked) == 4
  assert read["task"] == "text"
  # About as good as chance among the 300 tokens, or worse; bytes are tokens.
  assert 5 < math.log(read["perplexity"]) < 50
  assert 3000 < read["tokens"] < 4000


def test_goes_on_where_it_was_killed(measured, config, tmp_path):
  whole = (measured / "eval" / "retention-base.jsonl").read_text()
  lines = whole.splitlines(keepends=True)
  path = epath.Path(tmp_path) / "eval" / "retention-base.jsonl"
  records.write_text(path, "".join(lines[:1]) + lines[1][:20])
  retention.run_base(config, epath.Path(tmp_path))
  found = path.read_text()
  assert found.startswith(lines[0])
  assert sorted(found.splitlines(keepends=True)) == sorted(lines)


def test_a_text_of_ones_own(measured, config, tmp_path):
  (tmp_path / "text.txt").write_text("Lima Quito Paris Oslo and a few words.")
  config.retention.text = str(tmp_path / "text.txt")
  config.retention.tasks = ()
  retention.run_base(config, epath.Path(tmp_path))
  (read,) = records.read(tmp_path / "eval" / "retention-base.jsonl")
  model = setup.base_model(config)
  tokens = model.tokenizer((tmp_path / "text.txt").read_text())["input_ids"]
  assert read["tokens"] == len(tokens) - 1
  assert np.isfinite(read["perplexity"])


def test_a_text_that_is_not_there(config, tmp_path):
  config.retention.text = "nowhere.txt"
  with pytest.raises(UserError, match="retention.text='nowhere.txt'"):
    retention.run_base(config, epath.Path(tmp_path))


def test_off(config, tmp_path, capsys):
  config.retention.n = 0
  retention.run_base(config, epath.Path(tmp_path))
  retention.run_distilled(config, epath.Path(tmp_path))
  assert not (tmp_path / "eval").exists()
  assert "retention base: off" in capsys.readouterr().out


def test_prompts_of_the_run_are_not_those_of_other_tasks(
  measured, config, tmp_path
):
  """A method and templates that the other tasks do not have."""
  with config.unlocked():
    config.prompts.system1 = {"user": "Say nothing.", "max_new_tokens": 1}
  retention.run_base(config, epath.Path(tmp_path))
  path = epath.Path("eval") / "retention-base.jsonl"
  found, wanted = (
    sorted((folder / path).read_text().splitlines())
    for folder in (epath.Path(tmp_path), measured)
  )
  assert found == wanted
