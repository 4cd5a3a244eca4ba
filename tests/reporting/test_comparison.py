from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from s2d_jax.errors import UserError
from s2d_jax.reporting import comparison, terminal
from s2d_jax.stages import compare
from tests.reporting.test_report import Page

pytestmark = pytest.mark.usefixtures("quick")


def edit(path, change):
  found = json.loads(path.read_text())
  change(found)
  path.write_text(json.dumps(found))


@pytest.fixture
def pair(reported, tmp_path):
  """Two runs that differ in their seed alone."""
  paths = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
  for path in paths:
    shutil.copytree(reported, path)
  edit(paths[1] / "config.json", lambda config: config.update(seed=7))
  return paths


def load(paths):
  return comparison.load(list(map(str, paths)))


def lift(path, by):
  """Has the distilled model right more often on the biased split."""

  def change(rows):
    for row in rows:
      if (row["model"], row["split"]) == ("distilled", "suggests_wrong"):
        for name in ("value", "ci_low", "ci_high"):
          row[name] = min(1.0, row[name] + by)

  edit(path / "report" / "results.json", change)


def test_the_figures_are_those_of_the_reports(pair, reported):
  runs = load(pair)
  assert [run.name for run in runs] == ["a/run", "b/run"]
  rows = json.loads((reported / "report" / "results.json").read_text())

  def shown(model, method, split="suggests_wrong"):
    (row,) = [
      row
      for row in rows
      if (row["model"], row["method"], row["split"], row["metric"])
      == (model, method, split, "accuracy")
    ]
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    return f"{100 * row['value']:.1f} {low:.0f}–{high:.0f}"

  path = pair[0].parents[1] / "out" / "page.html"
  comparison.write(runs, path)
  page = Page(path.read_text())
  assert page.open == []
  head, first, second = page.tables["runs"]
  assert first[1:4] == [
    shown("base", "system1_greedy"),
    shown("base", "s2a_vote"),
    shown("distilled", "system1_greedy"),
  ]
  assert first[5] == shown("distilled", "system1_greedy", "plain")
  said = json.loads((reported / "report" / "verdict.json").read_text())
  gain = said["comparisons"]["distilled"]["gain"]["value"]
  assert first[4].startswith(f"{100 * gain:+.0f} ")
  kept = 100 * said["accepted"] / 320
  assert first[8:] == [f"{kept:.0f}\N{NO-BREAK SPACE}% of 320", "better"]
  assert second[1:] == first[1:]
  assert page.tables["settings"][1:] == [["seed", "0", "7"]]
  assert page.text.count(" ".join(said["answer"].split())) == 2
  assert [tag for tag, _ in page.tags].count("img") == 3


def test_the_terminal_has_the_same_table(pair):
  out = io.StringIO()
  runs = load(pair)
  terminal.print_comparison(runs, Console(file=out, width=200))
  cells = [line.split() for line in out.getvalue().splitlines()]
  for row in comparison.lines(runs):
    assert " ".join(row).split() in cells
  assert ["seed", "0", "7"] in cells
  edit(pair[1] / "config.json", lambda config: config.update(seed=0))
  out = io.StringIO()
  terminal.print_comparison(load(pair), Console(file=out, width=200))
  assert "All settings are the same." in out.getvalue()


def test_models_that_differ_under_one_name(pair):
  """An older run has no record of its files: that is no difference."""
  record = {"path": "/a", "weights": "0123", "end_tokens": [2]}
  for number, told in enumerate((record, record | {"path": "/b"})):
    (pair[number] / "model.json").write_text(json.dumps(told))
  assert comparison.differences(load(pair)) == {"seed": ["0", "7"]}
  edit(pair[1] / "model.json", lambda m: m.update(weights="4567"))
  found = comparison.differences(load(pair))
  assert found["model.json: weights"] == ["0123", "4567"]
  assert "differ in their seed" not in comparison.sentence(load(pair))
  (pair[0] / "model.json").unlink()
  assert comparison.differences(load(pair)) == {"seed": ["0", "7"]}


def test_repetitions_may_begin_on_other_days(pair):
  for number, path in enumerate(pair, start=1):
    day = {"date": f"2024-07-0{number}"}
    edit(
      path / "config.json",
      lambda config, day=day: config.setdefault("model", {}).update(day),
    )
  told = comparison.sentence(load(pair))
  assert told.startswith("2 runs that differ in their seed and their day alone")


def test_what_it_comes_to(pair):
  lift(pair[1], 0.1)
  before, after = (
    [run.cell(way).value for run in load(pair)]
    for way in ("system1", "distilled")
  )
  low, high, mean = (
    f"{100 * x:.0f}\N{NO-BREAK SPACE}%" for x in (*after, sum(after) / 2)
  )
  was = f"{100 * before[0]:.0f}\N{NO-BREAK SPACE}%"
  assert comparison.sentence(load(pair)) == (
    "2 runs that differ in their seed alone: accuracy on prompts that suggest a"
    f" wrong answer went from {was} ({was}) to {mean} ({low} to {high})."
  )
  edit(pair[1] / "config.json", lambda config: config.update(method="cot"))
  told = comparison.sentence(load(pair))
  assert "b/run is right most often after distillation" in told
  assert f"{high} against {low} (the 95" in told and "overlap" in told
  lift(pair[1], 0.5)
  assert "overlap" not in comparison.sentence(load(pair))
  edit(
    pair[1] / "config.json", lambda config: config["task"].update(name="gsm8k")
  )
  assert "their inputs differ" in comparison.sentence(load(pair))


def test_runs_without_labels_have_no_shares(pair):
  def change(rows):
    rows[:] = [row for row in rows if row["metric"] == "answered"]

  edit(pair[1] / "report" / "results.json", change)
  edit(
    pair[1] / "report" / "verdict.json",
    lambda said: said.update(comparisons={}, conclusion=None),
  )
  runs = load(pair)
  assert comparison.lines(runs)[2][1:5] == ["–"] * 4
  assert comparison.lines(runs)[2][-1] == "no labels"
  assert "not all have labels" in comparison.sentence(runs)
  path = pair[0].parent / "page.html"
  comparison.write(runs, path)
  assert Page(path.read_text()).open == []


def test_names_are_as_short_as_tells_them_apart(pair):
  alone = pair[0].rename(pair[0].parent / "other")
  assert [run.name for run in load([alone, pair[1]])] == ["other", "run"]


def test_what_a_run_says_is_only_text(pair):
  text = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
  evil = pair[1].rename(pair[1].parent / "<b>run")
  edit(evil / "config.json", lambda config: config.update(method=text))
  edit(evil / "report" / "verdict.json", lambda said: said.update(answer=text))
  runs = load([pair[0], evil])
  path = pair[0].parent / "page.html"
  comparison.write(runs, path)
  page = Page(path.read_text())
  tags = [tag for tag, _ in page.tags]
  assert page.open == [] and "script" not in tags and "b" not in tags
  assert tags.count("img") == 3
  assert page.text.count(text) >= 2
  assert "script-src 'none'" in path.read_text()


@pytest.mark.parametrize(
  "gone, told",
  [
    (".", "does not exist; give the --workdir of a run"),
    ("config.json", r"holds no run \(no config.json\)"),
    ("report", "has no report yet; let its s2d pipeline run to the end"),
    ("report/verdict.json", "has no report yet"),
    ("report/results.json", "cannot be read as JSON"),
  ],
)
def test_a_run_that_cannot_be_compared_is_named(pair, gone, told):
  path = pair[1] / gone
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink()
  with pytest.raises(UserError, match=f"{pair[1]}.*{told}"):
    load(pair)


def test_unfinished_older_and_repeated_runs_are_named(pair):
  with pytest.raises(UserError, match="run is given twice"):
    load([pair[0], pair[0]])
  with pytest.raises(UserError, match="give two runs or more"):
    load(pair[:1])

  def change(rows):
    rows[:] = [row for row in rows if row["model"] == "base"]

  edit(pair[1] / "report" / "results.json", change)
  with pytest.raises(UserError, match="b/run is not finished: its distilled"):
    load(pair)
  edit(pair[0] / "report" / "verdict.json", lambda said: said.pop("plain"))
  with pytest.raises(UserError, match="a/run is of an older version"):
    load(pair)


@pytest.mark.parametrize(
  "line, joined",
  [
    ("--compare a b --out=x", "--compare=a,b --out=x"),
    ("--out=x --compare a b", "--out=x --compare=a,b"),
    ("--compare=a b", "--compare=a,b"),
    ("--compare=a,b", "--compare=a,b"),
    ("-compare a", "-compare=a"),
    ("--out x --compare", "--out x --compare"),
  ],
)
def test_names_may_stand_behind_the_flag(line, joined):
  assert compare.join_workdirs(line.split()) == joined.split()


def test_the_program(pair):
  command = [sys.executable, "-m", "s2d_jax.cli", "report", "--compare"]
  out = pair[0].parent / "side by side"
  done = subprocess.run(
    [*command, *map(str, pair), f"--out={out}"], capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (0, "")
  assert f"wrote {out / 'index.html'}" in done.stdout
  assert "a/run" in done.stdout and (out / "index.html").exists()


def test_a_gain_that_is_not_the_thinkings_is_told(pair):
  for conclusion, told in (
    ("not the thinking", "better, not the thinking"),
    ("not distillable", "better, not distillable"),
    ("unclear", "better"),
    ("kept", "better"),
  ):
    edit(
      pair[0] / "report" / "verdict.json",
      lambda said, conclusion=conclusion: said.update(conclusion=conclusion),
    )
    assert load(pair)[0].outcome == told
