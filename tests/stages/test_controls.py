"""The grid of controls: which there are, and that they change nothing else."""

from __future__ import annotations

import shutil

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import evaluate, lengths, setup
from s2d_jax.tasks.task import read_examples

_SHOTS = {"shots": (("Is it late? yes or no", "yes"),)}


def _config(method="s2a", task="sycophancy", prompts=None, **options):
  config = default()
  config.method = method
  config.task.name = task
  with config.unlocked():
    config.task.update(options)
    config.prompts.update(prompts or {})
  return config


_CUSTOM = {
  "train": "rows.csv",
  "prompt": "{q}",
  "answer": {"kind": "choice", "options": ("yes", "no")},
  "shots": (("Is it dark?", "no"),),
}


@pytest.mark.parametrize(
  "config, why_not",
  [
    (_config(), ""),
    (_config("rar2", "last_letters"), ""),
    (_config("rar1", "last_letters"), "System 2 has no worked examples"),
    (_config("cot"), "System 2 has no worked examples"),
    (_config("system1"), "System 2 has no worked examples"),
    (_config(prompts={"extract": {"shots": ()}}), "has no worked examples"),
    # Those of a custom task are System 1's own.
    (_config("cot", "custom", **_CUSTOM), "System 2 has no worked examples"),
    (
      _config("cot", "custom", {"cot": _SHOTS}, **_CUSTOM),
      "the task custom has no worked examples of direct answers but those of",
    ),
    # Whoever gives some, wants them.
    (_config("cot", "custom", {"system1_shots": _SHOTS}, **_CUSTOM), ""),
    (_config("system1", prompts={"system1_shots": _SHOTS}), ""),
    (_config("system1_shots"), ""),
  ],
)
def test_system_1_gets_worked_examples_where_system_2_has_them(config, why_not):
  setup.check(config)
  why = setup.why_no_shots(config, setup.task_of(config))
  assert why_not in why and bool(why_not) == bool(why)
  config.evaluation.controls = False
  if config.method != "system1_shots":
    why = setup.why_no_shots(config, setup.task_of(config))
    assert why == "evaluation.controls is off"


def test_what_is_changed_of_system_1_is_changed_behind_examples_too():
  changes = {"system1": {"system": "Be brief.", "shots": (("a", "b"),)}}
  config = _config(prompts=changes)
  task = setup.task_of(config)

  def template():
    return setup.prompts_of(config, task, "system1_shots")["system1_shots"]

  own = task.prompts["system1_shots"]
  assert (template().system, template().shots) == ("Be brief.", own.shots)
  with config.unlocked():
    config.prompts.system1_shots = {"system": "Be long."}
  assert (template().system, template().shots) == ("Be long.", own.shots)
  assert setup.prompts_of(config, task, "s2a")["system1"].system == "Be brief."


def test_the_controls_change_no_reply(finished, config, tmp_path):
  """Greedy replies and samples are the same without them, to the byte."""
  config = config.copy_and_resolve_references()
  config.evaluation.controls = False
  workdir = epath.Path(tmp_path / "run")
  shutil.copytree(finished / "examples", workdir / "examples")
  evaluate.run_base(config, workdir)
  whole = {
    (row["example_id"], row["variant"], row["method"]): row
    for row in records.read(finished / "eval" / "base.jsonl")
  }
  rows = list(records.read(workdir / "eval" / "base.jsonl"))
  assert {row["method"] for row in rows} == {"system1", "s2a"}
  for row in rows:
    found = whole[row["example_id"], row["variant"], row["method"]]
    if row["method"] == "system1":
      assert (row["passes"], row["metrics"]) == ([], {})
      assert "vote" not in row and row["greedy"] == found["greedy"]
    else:
      assert "greedy" not in row
      assert (row["passes"], row["vote"]) == (found["passes"], found["vote"])
  mark = records.read_json(workdir / "done" / "evaluate_base.json", "")
  assert "controls took" not in mark["summary"]


def test_worked_examples_that_do_not_fit_the_window(finished, config):
  """They leave out no training input, and the error names them."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.prompts.system1_shots = {"shots": (("Is it?" * 100, "It is."),)}
  task = setup.task_of(config)
  splits = {
    split: read_examples(setup.examples_path(finished, split))
    for split in ("train", "valid", "test")
  }
  test = {"test": splits.pop("test")}
  assert lengths.check_prompts(config, task, splits) == {
    "train": [],
    "valid": [],
  }
  named = "a prompt with prompts.system1_shots.shots of .* window of 512"
  with pytest.raises(UserError, match=named):
    lengths.check_prompts(config, task, test)
  config.evaluation.controls = False
  assert lengths.check_prompts(config, task, test) == {"test": []}
