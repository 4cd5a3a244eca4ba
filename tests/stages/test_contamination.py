from __future__ import annotations

import json
import runpy
from unittest import mock

from absl import flags
from absl.testing import flagsaver
from etils import epath
import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.stages import contamination, seen, setup


@pytest.fixture(autouse=True)
def flags_are_parsed():
  with flagsaver.flagsaver():
    flags.FLAGS(["s2d"])
    yield


@pytest.fixture
def config(cache, config_file, tmp_path):
  """Rows of a data set."""
  config = runpy.run_path(str(config_file))["get_config"]()
  rows = [{"q": f"Where is Pl{i * i}?", "a": "Lima"} for i in range(12)]
  records.write(epath.Path(tmp_path) / "rows.jsonl", rows)
  with config.unlocked():
    config.task = {
      "name": "custom",
      "seed": 0,
      "train": str(tmp_path / "rows.jsonl"),
      "prompt": "{q}",
      "answer": {"kind": "text"},
      "label": "a",
      "valid_size": 1,
      "test_size": 10,
    }
  return config


def prepared(config, tmp_path) -> epath.Path:
  """A run with its examples alone."""
  workdir = epath.Path(tmp_path) / "run"
  for split, examples in setup.task_of(config).examples().items():
    rows = (example.to_record() for example in examples)
    records.write(setup.examples_path(workdir, split), rows)
  return workdir


def test_both_tests_of_a_run(config, tmp_path, capsys):
  workdir = prepared(config, tmp_path)
  flags.FLAGS.shuffles = 19
  contamination.run(config, workdir)
  found = json.loads((workdir / "eval" / "contamination.json").read_text())
  order, guesses = found["order"], found["guesses"]
  assert (order["rows"], order["left_out"], order["shards"]) == (10, 0, 1)
  assert order["shuffles"] == 19 and found["why_no_order"] == ""
  assert order["p_value"] in (np.arange(1, 21) / 20).tolist()
  assert guesses["questions"] == 10
  assert "test of the order of rows p = " in capsys.readouterr().out


def test_rows_are_read_in_the_order_of_their_source(config, tmp_path):
  workdir = prepared(config, tmp_path)
  task = setup.task_of(config)
  examples = task.examples()["test"]
  ordered = contamination._in_order(task, examples)
  numbers = [int(one.inputs["question"][11:-1]) for one in ordered]
  assert numbers == sorted(numbers) and ordered != examples
  assert workdir.exists()


def test_generated_examples_have_no_order(cache, config_file, tmp_path, capsys):
  config = runpy.run_path(str(config_file))["get_config"]()
  workdir = prepared(config, tmp_path)
  contamination.run(config, workdir)
  found = json.loads((workdir / "eval" / "contamination.json").read_text())
  assert found["order"] is None
  assert found["why_no_order"] == contamination.NO_ORDER
  assert "does not apply: the examples" in capsys.readouterr().out
  assert found["guesses"]["questions"] == 2


def test_what_was_taught_is_looked_up(cache, config_file, tmp_path):
  """A test question taught in another form, another of the same country."""
  config = runpy.run_path(str(config_file))["get_config"]()
  config.task.kinds = ("capital", "continent")
  task, workdir = setup.task_of(config), prepared(config, tmp_path)
  taught = task.examples()["test"][0]
  records.write(setup.examples_path(workdir, "train"), [taught.to_record()])
  assert seen.of_run(config, workdir, task) is None  # nothing is taught yet
  prompt = setup.prompts_of(config, task, "system1")["system1"]
  fields = task.fields(taught, "suggests_wrong")
  row = {
    "example_id": taught.id,
    "variant": "suggests_wrong",
    "prompt": prompt.messages(**fields),
    "winner": taught.label,
  }
  records.write(workdir / "distill" / "train.jsonl", [row])
  found = seen.of_run(config, workdir, task)
  assert (found.prompts.tests, found.prompts.duplicates) == (16, 1)
  assert (found.questions.tests, found.questions.duplicates) == (4, 1)
  assert (found.answers.tests, found.answers.labelled) == (4, 4)
  assert found.answers.taught == found.answers.both_taught == 1
  assert (found.answers.with_subject, found.answers.subject_taught) == (4, 2)
  # It is looked up once, until something else is taught.
  with mock.patch.object(seen, "_look_up") as again:
    assert seen.of_run(config, workdir, task) == found
    again.assert_not_called()
  records.write(
    workdir / "distill" / "train.jsonl", [row, {**row, "example_id": "?"}]
  )
  with pytest.raises(UserError, match="has '\\?' where .* has no such example"):
    seen.of_run(config, workdir, task)


def test_needs_the_examples(config, tmp_path):
  with pytest.raises(UserError, match="run the prepare stage first"):
    contamination.run(config, epath.Path(tmp_path))
