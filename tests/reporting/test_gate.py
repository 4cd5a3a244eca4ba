"""The gate on the page: a sentence for each outcome, and the same figures."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from s2d_jax import records
from s2d_jax.gate import gate as gates, rows as gate_rows
from s2d_jax.gate.verdict import worth
from s2d_jax.reporting import (
  gate,
  plots,
  report,
  run_files,
  study,
  terminal,
)
from s2d_jax.reporting.gate import GateReport
from s2d_jax.reporting.table import Kind
from tests.gate import synthetic
from tests.gate.test_verdict import OUTCOMES
from tests.reporting.test_plots import axes_of
from tests.reporting.test_report import Page, text_of


def plainly(text: str) -> str:
  return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
  "outcome, start, parts",
  [
    ("pays", "The gate pays: thinking about ", ("as much as System 2’s vote",)),
    ("direct", "The gate buys nothing: the direct answers are as good as", ()),
    (
      "chance",
      "The gate buys nothing: where it thinks is no better than chance (AUROC",
      (),
    ),
    (
      "never",
      "The gate buys nothing: it lets every direct answer stand (60",
      ("gate.agreement",),
    ),
    (
      "always",
      "The gate buys nothing: it has System 2 think about 100 % of the inputs",
      ("at 42.0 tokens an answer", "on all takes 40.0"),
    ),
    (
      "no labels",
      "What the gate buys is not known, as there are no labels: thinking about",
      ("instead of 40.0, it says what System 2’s vote says in ",),
    ),
    ("unclear", "It is unclear what the gate buys: ", ("of 30 test inputs",)),
  ],
)
def test_a_sentence_for_each_outcome(outcome, start, parts):
  given = OUTCOMES[outcome]
  if outcome == "pays":
    given = {"budget": 30.0}
  made = synthetic.rows(**given)
  found = worth(made.gated, made.distilled, made.base, synthetic.METHOD)
  said = plainly(GateReport(worth=found).sentence)
  assert said.startswith(start), said
  assert all(part in said for part in parts), said


def test_why_there_is_none():
  assert GateReport("evaluation.controls is off").sentence == (
    "There is no gate: evaluation.controls is off."
  )
  assert not GateReport() and GateReport().sentence == ""


@pytest.fixture
def gated(workdir):
  """The fake run with a gate: the right answers are surer."""
  rng = np.random.default_rng(0)
  path = workdir / "eval" / "distilled.jsonl"
  rows = list(records.read(path))
  for row in rows:
    right = row["greedy"]["metrics"]["accuracy"]
    row["greedy"]["logprob"] = round(float(rng.normal() + 2 * right - 6), 4)
  records.write(path, rows)
  base = gate_rows.by_input(
    records.read(workdir / "eval" / "base.jsonl"), "s2a"
  )
  pairs = [(row, base[row["example_id"], row["variant"]]) for row in rows]
  learnt = gates.learn([gate_rows.answered(*pair, 5) for pair in pairs])
  learnt = learnt.within(60.0)
  made = {"gate": learnt.to_record(), "target": {"budget": 60.0}}
  records.write_text(workdir / "gate.json", json.dumps(made))
  records.write(
    workdir / "eval" / "gated.jsonl",
    [gate_rows.gated(learnt, *pair) for pair in pairs],
  )
  return workdir


@pytest.mark.usefixtures("quick")
def test_it_is_a_row_a_part_and_a_sentence(gated):
  report.build(gated)
  page = Page(text_of(gated))
  assert page.open == []
  folder = gated / "report"
  (row,) = [r for r in page.tables["results"] if r[0].startswith("Gated")]
  assert row[0] == "Gated, direct or vote"
  results = json.loads((folder / "results.json").read_text())
  own = [r for r in results if (r["model"], r["method"]) == ("gated", "gate")]
  (shown,) = [
    r for r in own if (r["metric"], r["split"]) == ("accuracy", "plain")
  ]
  assert row[1].startswith(f"{100 * shown['value']:.1f} ")
  assert 50 < shown["tokens_per_example"] < 70
  assert shown["prompt_tokens_per_example"] > 40
  found = json.loads((folder / "verdict.json").read_text())["gate"]
  assert found["signal"] == "log-probability of the reply"
  assert found["n"] == found["over_vote"]["n"] == 48 * 4
  # The forms of a question are one cluster.
  assert found["over_vote"]["units"] == 48
  sentence = " ".join(plainly(found["sentence"]).split())
  out = io.StringIO()
  terminal.print_results(gated, console=Console(file=out, width=200))
  for text in (page.text, out.getvalue(), (folder / "results.md").read_text()):
    assert sentence in " ".join(plainly(text).split())
  told = {line[0]: line for line in page.tables["gated"]}
  assert told["the gate"][2] == f"{found['tokens']:.1f}"
  assert told["the gate"][1] == f"{100 * found['over_direct']['first']:.1f}"
  assert ("a", {"href": "#gate"}) in page.tags
  assert (folder / "gate.png").exists()


@pytest.mark.usefixtures("quick")
def test_a_run_without_a_gate_says_why(workdir):
  made = {"why_not": "the validation split has 6 independent <inputs>"}
  records.write_text(workdir / "gate.json", json.dumps(made))
  report.build(workdir)
  page = Page(text_of(workdir))
  assert "There is no gate: the validation split has 6 indep" in page.text
  assert "gated" not in page.tables
  assert not (workdir / "report" / "gate.png").exists()


def test_the_picture_has_the_curve_its_chord_and_the_ways(gated):
  found = gate.of_run(run_files.load(gated))
  own = found.worth
  kinds = [point.kind for point in found.ways]
  assert kinds == [
    Kind("system1", "greedy"),
    Kind("system2", "greedy"),
    Kind("system2", "vote"),
    Kind("system1_shots", "greedy"),
    Kind("distilled", "greedy"),
  ]
  working = own.tokens, own.over_direct.first
  lines = axes_of(plots.gate(own.curve, working, found.ways)).lines
  chord, curve, *ways, chosen = lines
  assert tuple(curve.get_xdata()) == own.curve.tokens
  assert tuple(curve.get_ydata()) == own.curve.accuracy
  assert list(chord.get_xdata()) == [own.curve.tokens[0], own.curve.tokens[-1]]
  assert [line.get_xdata()[0] for line in ways] == [
    p.tokens for p in found.ways
  ]
  assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == working


def test_a_study_has_a_row_and_the_gate_of_each_seed(gated, tmp_path):
  for seed in (0, 1):
    shutil.copytree(gated, tmp_path / f"seed{seed}" / "run")
  lacking = tmp_path / "seed1" / "run"
  (lacking / "eval" / "gated.jsonl").unlink()
  why_not = {"why_not": "evaluation.controls is off"}
  records.write_text(lacking / "gate.json", json.dumps(why_not))
  for folder in (tmp_path / "seed0" / "run", lacking):
    records.write_text(folder / "done" / "curate.json", "{}")
  found = study.load(tmp_path, [0, 1], [], [], "suggests_wrong")
  run, row = found.rows[-2:]
  assert (run.name, row.name) == ("run", "gated")
  assert row.label == "Gated, direct or vote" and row.seeds == [0]
  assert row.note == "no gate with seed 1" and not row.shows
  rows = [
    r
    for r in records.read(gated / "eval" / "gated.jsonl")
    if r["variant"] == "suggests_wrong"
  ]
  right = np.mean([r["metrics"]["accuracy"] for r in rows])
  assert row.accuracy["suggests_wrong"].mean == pytest.approx(right)
  assert row.over_run.n == 48 and row.over_run.first == pytest.approx(right)
  path = study.write(found, tmp_path)
  page = Page(path.read_text())
  assert page.open == []
  head, shown = page.tables["gates"]
  own = found.gates[0].worth
  assert shown[0] == "0" and shown[-1] == own.outcome
  assert shown[head.index("% thought about")] == f"{100 * own.thought:.0f}"
  assert shown[head.index("AUROC: right")].startswith(f"{own.right.value:.2f}")
  assert "Seed 1: There is no gate: evaluation.controls is off." in page.text
  values = json.loads((tmp_path / "study" / "study.json").read_text())
  assert values["gates"]["0"]["thought"] == own.thought
  assert values["gates"]["1"]["why_not"] == "evaluation.controls is off"
  assert (
    "Gated, direct or vote" in (tmp_path / "study" / "study.md").read_text()
  )
