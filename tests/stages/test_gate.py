"""The stage that learns the gate: from what a run has, and never in its way."""

from __future__ import annotations

import json
import shutil

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.evaluation.results import results
from s2d_jax.gate import gate as gates
from s2d_jax.gate.gate import Gate
from s2d_jax.stages import evaluate, gate, program, setup


def _rows(path) -> list[records.Record]:
  return list(records.read(path))


def _json(workdir) -> records.Record:
  return json.loads((workdir / "gate.json").read_text())


@pytest.fixture
def few(monkeypatch):
  """Two validation questions are many enough."""
  monkeypatch.setattr(gates, "FEWEST", 1)


@pytest.fixture
def with_gate(config):
  changed = config.copy_and_resolve_references()
  changed.evaluation.controls = True
  return changed


@pytest.fixture
def workdir(with_controls, tmp_path) -> epath.Path:
  """A copy that has no gate yet, in which half of the votes agree."""
  copied = epath.Path(shutil.copytree(with_controls, tmp_path / "run"))
  program.unmark(copied, "gate")
  (copied / "gate.json").unlink(missing_ok=True)
  return copied


def _agreeing(workdir, config) -> None:
  """Draws the validation split, and has half of the votes agree with it."""
  gate._draw(config, workdir)
  drawn = _rows(workdir / "eval" / "distilled-valid.jsonl")
  names = {(r["example_id"], r["variant"]): i for i, r in enumerate(drawn)}
  for row in drawn:
    row["greedy"]["answer"] = "Lima"
  records.write(workdir / "eval" / "distilled-valid.jsonl", drawn)
  valid = _rows(workdir / "eval" / "valid.jsonl")
  for row in valid:
    index = names[row["example_id"], row["variant"]]
    row["vote"]["answer"] = "Lima" if index % 2 else "Quito"
  records.write(workdir / "eval" / "valid.jsonl", valid)


def test_the_pipeline_says_why_there_is_none(finished):
  assert _json(finished) == {"why_not": "evaluation.controls is off"}
  mark = records.read_json(finished / "done" / "gate.json", "")
  assert mark["summary"] == "none: evaluation.controls is off"
  assert not (finished / "eval" / "gated.jsonl").exists()
  assert not (finished / "eval" / "distilled-valid.jsonl").exists()


def test_every_validation_input_is_asked(workdir, with_gate, few):
  gate._draw(with_gate, workdir)
  rows = _rows(workdir / "eval" / "distilled-valid.jsonl")
  examples = [r["id"] for r in _rows(workdir / "examples" / "valid.jsonl")]
  asked = [(row["example_id"], row["variant"]) for row in rows]
  assert {name for name, _ in asked} == set(examples)
  assert len(asked) == len(set(asked)) == 4 * len(examples)
  for row in rows:
    assert len(row["passes"]) == with_gate.evaluation.n
    for one in (row["greedy"], *row["passes"]):
      assert one["logprob"] < 0 and one["tokens"] <= 4


def test_a_gate_answers_the_test_split_from_what_is_there(
  workdir, with_gate, few, monkeypatch
):
  _agreeing(workdir, with_gate)
  monkeypatch.setattr(setup, "scheduler", None)  # nothing more is drawn
  with_gate.gate.budget = 8.0
  gate.run(with_gate, workdir)
  found = _json(workdir)
  assert found["target"] == {"budget": 8.0}
  made = Gate.from_record(found["gate"])
  assert len(made.confidences) == 8
  distilled, base = (
    {(r["example_id"], r["variant"]): r for r in rows if r["method"] == method}
    for rows, method in (
      (_rows(workdir / "eval" / "distilled.jsonl"), "system1"),
      (_rows(workdir / "eval" / "base.jsonl"), "s2a"),
    )
  )
  rows = _rows(workdir / "eval" / "gated.jsonl")
  assert [(r["example_id"], r["variant"]) for r in rows] == [*distilled]
  for row in rows:
    name = row["example_id"], row["variant"]
    (own,), greedy = row["passes"], distilled[name]["greedy"]
    vote = base[name]["vote"]
    assert row["thought"] == made.thinks(row["confidence"])
    stands = vote if row["thought"] else greedy
    assert own["answer"] == stands["answer"]
    assert row["metrics"] == stands["metrics"]
    for spent in ("tokens", "prompt_tokens"):
      assert own[spent] == greedy[spent] + row["thought"] * vote[spent]
    assert row["cluster"] == distilled[name]["cluster"]
  (share,) = [
    r
    for r in results(rows, "sycophancy", "gated")
    if (r["metric"], r["split"]) == ("accuracy", "plain")
  ]
  assert share["method"] == "gate" and share["n"] == 2


def test_another_budget_draws_nothing_and_changes_what_was_said(
  workdir, with_gate, few, monkeypatch, capfd
):
  _agreeing(workdir, with_gate)
  gate.run(with_gate, workdir)
  assert _json(workdir)["target"] == {"share": 0.25}
  monkeypatch.setattr(setup, "distilled_model", None)
  mark = workdir / "done" / "report.json"
  records.write_text(mark, "{}")
  capfd.readouterr()
  gate.run(with_gate, workdir)
  assert "gate: done already: by the " in capfd.readouterr().out
  assert mark.exists()
  with_gate.gate.budget = 5.0
  program.claim_workdir(with_gate, workdir)
  assert "settings changed: " in capfd.readouterr().out
  gate.run(with_gate, workdir)
  assert _json(workdir)["target"] == {"budget": 5.0}
  assert not mark.exists()  # the report shows another gate
  with_gate.gate.budget = 1.5
  with pytest.raises(UserError, match=r"budget of 1\.5 tokens an answer is"):
    gate.run(with_gate, workdir)


def _none(config, workdir) -> str:
  gate.run(config, workdir)
  found = _json(workdir)["why_not"]
  assert not (workdir / "eval" / "distilled-valid.jsonl").exists()
  assert not (workdir / "eval" / "gated.jsonl").exists()
  program.unmark(workdir, "gate")
  return found


def _without_greedy(row) -> records.Record:
  return {name: value for name, value in row.items() if name != "greedy"}


def test_where_there_can_be_no_gate_nothing_is_drawn(
  workdir, with_gate, monkeypatch
):
  told = "the validation split has 2 independent inputs, and a gate needs 20"
  assert _none(with_gate, workdir) == told
  changed = with_gate.copy_and_resolve_references()
  changed.method = "system1"
  assert _none(changed, workdir) == "System 2 is System 1"
  for select, why in (("label", "labels are taught"), ("usc", "answers are")):
    changed = with_gate.copy_and_resolve_references()
    changed.curation.select = select
    assert _none(changed, workdir).startswith(why)
  monkeypatch.setattr(gates, "FEWEST", 1)
  rows = _rows(workdir / "eval" / "distilled.jsonl")
  for row in rows:
    row["greedy"]["answer"] = "Lima"
    del row["greedy"]["logprob"]
  for older in (rows, [_without_greedy(row) for row in rows]):
    records.write(workdir / "eval" / "distilled.jsonl", older)
    found = _none(with_gate, workdir)
    assert found.startswith("eval/distilled.jsonl is of an older version")


def test_a_direct_answer_is_asked_as_in_the_evaluation(with_gate):
  assert evaluate.directly(with_gate).n == with_gate.evaluation.n
  with_gate.evaluation.controls = False
  assert evaluate.directly(with_gate) == evaluate.DIRECT


@pytest.mark.parametrize(
  "name, value, told",
  [
    ("budget", -1.0, "gate.budget=-1.0 must be 0 or more"),
    ("budget", float("nan"), "gate.budget=nan must be 0 or more"),
    ("budget", 0.5, "gate.budget=0.5 must be 1 or more"),
    ("agreement", -0.1, "gate.agreement=-0.1 must be 0 or more"),
    ("agreement", 1.1, "gate.agreement=1.1 must be 1 or less"),
  ],
)
def test_mistakes_in_the_settings_are_found_at_once(name, value, told):
  config = default()
  config.gate[name] = value
  with pytest.raises(UserError, match=f"^{told}"):
    setup.check(config)
