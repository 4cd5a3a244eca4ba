"""The grid of controls: which there are, and that they change nothing else."""

from __future__ import annotations

import json

import pytest

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import lengths, setup
from s2d_jax.tasks.task import read_examples

_FORMS = ("plain", "suggests_wrong", "suggests_right", "denies_right")
_SHOTS = {"shots": (("Is it late? yes or no", "yes"),)}


def _rows(path) -> list[records.Record]:
  return list(records.read(path))


def _pairs(rows) -> set[tuple[str, str]]:
  return {(row["example_id"], row["variant"]) for row in rows}


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


def test_every_test_input_is_asked_in_every_way(with_controls, config):
  test = {r["id"] for r in _rows(with_controls / "examples" / "test.jsonl")}
  wanted = {(name, form) for name in test for form in _FORMS}
  base = _rows(with_controls / "eval" / "base.jsonl")
  distilled = _rows(with_controls / "eval" / "distilled.jsonl")
  for found, methods in (
    (base, {"system1", "system1_shots", "s2a"}),
    (distilled, {"system1"}),
  ):
    assert {row["method"] for row in found} == methods
    for method in methods:
      rows = [row for row in found if row["method"] == method]
      assert len(rows) == len(wanted) and _pairs(rows) == wanted
      for row in rows:
        assert len(row["passes"]) == config.evaluation.n == 2
        assert row["cluster"] == row["example_id"].rpartition("/")[2]
        spent = {name: 0 for name in ("tokens", "prompt_tokens")}
        for one in row["passes"]:
          for name in spent:
            spent[name] += one[name]
        assert {name: row["vote"][name] for name in spent} == spent
        assert row["greedy"]["metrics"].keys() == row["metrics"].keys()


def test_results_have_a_row_for_every_split_method_and_metric(with_controls):
  rows = json.loads((with_controls / "report" / "results.json").read_text())
  keys = ["task", "split", "model", "method", "metric", "value", "ci_low"]
  keys += ["ci_high", "n", "tokens_per_example", "prompt_tokens_per_example"]
  assert all(sorted(row) == sorted(keys) for row in rows)
  found = {(r["split"], r["model"], r["method"], r["metric"]) for r in rows}
  methods = [
    (model, f"{method}{drawn}")
    for model, method in (
      ("base", "system1"),
      ("base", "system1_shots"),
      ("base", "s2a"),
      ("distilled", "system1"),
    )
    for drawn in ("", "_greedy", "_vote")
  ]
  wanted = {
    (form, model, method, metric)
    for form in _FORMS
    for model, method in methods
    for metric in ("accuracy", "answered", "repeats_suggestion", "neither")
    if form != "plain" or metric in ("accuracy", "answered")
  }
  wanted |= {
    (form, *way, "strict")
    for form in _FORMS
    for way in methods
    if not way[1].endswith("_vote")
  }
  wanted |= {("all", *way, "not_compared") for way in methods}
  # Inconsistent is only what has an answer in every variant.
  wanted |= {
    ("all", row["model"], row["method"], "inconsistent")
    for row in rows
    if row["metric"] == "not_compared" and row["value"] < 1
  }
  assert found == wanted and len(rows) == len(wanted)
  for row in rows:
    assert row["task"] == "sycophancy"
    if row["metric"] == "inconsistent":
      assert 1 <= row["n"] <= 2
    else:
      assert row["n"] == 2
    assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
  report = (with_controls / "report" / "index.html").read_text()
  assert "<html" in report
  assert (with_controls / "report" / "results.md").exists()


def test_the_controls_change_no_reply(finished, with_controls):
  """Greedy replies and samples are the same without them, to the byte."""
  whole = {
    (row["example_id"], row["variant"], row["method"]): row
    for row in _rows(with_controls / "eval" / "base.jsonl")
  }
  rows = _rows(finished / "eval" / "base.jsonl")
  assert {row["method"] for row in rows} == {"system1", "s2a"}
  for row in rows:
    found = whole[row["example_id"], row["variant"], row["method"]]
    if row["method"] == "system1":
      assert (row["passes"], row["metrics"]) == ([], {})
      assert "vote" not in row and row["greedy"] == found["greedy"]
    else:
      assert "greedy" not in row
      assert (row["passes"], row["vote"]) == (found["passes"], found["vote"])
  mark = records.read_json(finished / "done" / "evaluate_base.json", "")
  assert "controls took" not in mark["summary"]


def test_worked_examples_that_do_not_fit_the_window(finished, config):
  """They leave out no training input, and the error names them."""
  config = config.copy_and_resolve_references()
  config.evaluation.controls = True
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
