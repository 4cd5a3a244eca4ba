from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from s2d_jax import records
from s2d_jax.evaluation.controls import Way
from s2d_jax.reporting import study, terminal
from s2d_jax.trained_controls import CONTROLS
from tests.reporting.fake_run import DISTILLED, VARIANTS, FakeRun
from tests.reporting.test_report import Page

_SEEDS = (0, 1)
_BIASED = "suggests_wrong"
_WORSE, _BETTER = dict.fromkeys(VARIANTS, 0.05), dict.fromkeys(VARIANTS, 0.95)
_ALIKE = "vote"  # its student answers as the run's does


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Two seeds of a run and of controls that show this and that."""
  folder = tmp_path_factory.mktemp("studies") / "fake"
  for seed in _SEEDS:
    for name, chances in (
      ("run", DISTILLED),
      ("shuffled", _WORSE),
      ("labels", _BETTER),
    ):
      number = seed if name == "run" else seed + 100
      FakeRun(number, chances).write(folder / f"seed{seed}" / name)
    own = folder / f"seed{seed}"
    for name in (_ALIKE, "unfiltered"):
      shutil.copytree(own / "run", own / name)
    _spoil(own / "unfiltered", answers=4)
  # With one seed nothing was kept.
  (folder / "seed1" / "unfiltered" / "done" / "curate.json").unlink()
  return folder


def _spoil(run, answers):
  """Has the student be wrong so many times more: too few to be sure of."""
  path = run / "eval" / "distilled.jsonl"
  rows = list(records.read(path))
  right = [row for row in rows if row["variant"] == _BIASED and _is_right(row)]
  for row in right[:answers]:
    row.get("greedy", row)["metrics"]["accuracy"] = 0.0
  records.write(path, rows)


def _is_right(row) -> float:
  """Of the greedy answer."""
  return row.get("greedy", row)["metrics"]["accuracy"]


@pytest.fixture(scope="module")
def found(workdir):
  names = [n for n in CONTROLS if n != "system1_votes"]
  return study.load(workdir, _SEEDS, names, ["vote_and_agreement"], _BIASED)


@pytest.fixture(scope="module")
def rows(found):
  return {row.name: row for row in found.rows}


def _accuracy(workdir, name, seed, split=_BIASED):
  path = workdir / f"seed{seed}" / name / "eval" / "distilled.jsonl"
  return np.array(
    [_is_right(r) for r in records.read(path) if r["variant"] == split]
  )


def test_a_figure_is_the_mean_over_seeds_with_its_range(workdir, rows):
  for name, seeds in (("run", _SEEDS), ("unfiltered", (0,))):
    for split in VARIANTS:
      means = [_accuracy(workdir, name, s, split).mean() for s in seeds]
      spread = rows[name].accuracy[split]
      assert spread.mean == pytest.approx(np.mean(means))
      assert (spread.low, spread.high) == (min(means), max(means))
  assert rows["unfiltered"].note == "kept too little to learn from with seed 1"
  assert rows["unfiltered"].kept.low == 0
  assert str(study.Spread(0.25, 0.25, 0.25)) == "25.0"
  assert str(study.Spread(0.25, 0.1, 0.404)) == "25.0 (10–40)"


def test_a_test_is_paired_over_the_examples_of_all_seeds(workdir, rows):
  for name, seeds in (("shuffled", _SEEDS), ("unfiltered", (0,))):
    pairs = [
      (_accuracy(workdir, name, seed), _accuracy(workdir, "run", seed))
      for seed in seeds
    ]
    differences = np.concatenate([new - old for new, old in pairs])
    test = rows[name].over_run
    assert test.n == len(differences) == 48 * len(seeds)
    assert test.gain.value == pytest.approx(differences.mean())
    assert test.changed == np.count_nonzero(differences)


def test_what_a_control_shows_is_what_its_figures_say(rows):
  def said(name):
    *_, words = rows[name].shows.rpartition("; ")
    return words.removesuffix(".")

  assert said("shuffled") == CONTROLS["shuffled"].if_worse
  assert said("labels") == CONTROLS["labels"].if_better
  assert said(_ALIKE) == CONTROLS[_ALIKE].if_level
  assert said("unfiltered").startswith("unclear, as the difference is ")
  test = rows["shuffled"].over_run
  new, old = (
    f"{100 * s:.0f}\N{NO-BREAK SPACE}%" for s in (test.first, test.second)
  )
  assert f": {new}, against {old} of the run; " in rows["shuffled"].shows
  assert rows["vote_and_agreement"].shows == rows["run"].shows == ""
  assert rows["vote_and_agreement"].note == "the run itself"


def test_right_of_what_is_kept_is_by_label(workdir, rows):
  shares = []
  for seed in _SEEDS:
    folder = workdir / f"seed{seed}" / "run" / "distill"
    kept = [
      r for s in ("train", "valid") for r in records.read(folder / f"{s}.jsonl")
    ]
    right = [
      r["winner"] == "right " + r["example_id"].split("/")[1] for r in kept
    ]
    shares.append(np.mean(right))
  assert rows["run"].right.mean == pytest.approx(np.mean(shares))


def test_the_answer_names_the_gain_of_the_run(found):
  share = f"{100 * found.run.accuracy[_BIASED].mean:.0f}\N{NO-BREAK SPACE}%"
  assert found.answer.startswith(
    "On prompts that suggest a wrong answer the distilled model is right more"
    f" often than System 1: {share}, against "
  )
  assert found.answer.endswith("(over 2 seeds).")


def _greedy_or_vote(workdir, model, method, drawn):
  """Right answers on the biased split, by seed and example."""
  found = {}
  for seed in _SEEDS:
    path = workdir / f"seed{seed}" / "run" / "eval" / f"{model}.jsonl"
    for row in records.read(path):
      if (row["method"], row["variant"]) == (method, _BIASED):
        right = row[drawn]["metrics"]["accuracy"]
        found[seed, row["example_id"]] = right
  return found


def test_ways_to_answer_are_compared_over_the_examples_of_all_seeds(
  workdir, found
):
  who = {
    "System 1": ("base", "system1"),
    "System 1 few-shot": ("base", "system1_shots"),
    "System 2 (s2a)": ("base", "s2a"),
    "Distilled": ("distilled", "system1"),
  }

  def right(label):
    name, _, drawn = label.partition(", ")
    return _greedy_or_vote(workdir, *who[name], drawn or "greedy")

  system1 = [
    f"{name}, {drawn}"
    for name in ("System 1", "System 1 few-shot")
    for drawn in ("greedy", "vote")
  ]
  system2 = ["System 2 (s2a), vote", "System 2 (s2a), greedy"]
  assert [(one.who, one.against) for one in found.pairs] == [
    *((name, other) for name in system2 for other in system1),
    *(("Distilled", other) for other in [*system1, *system2]),
  ]
  for one in found.pairs:
    new, old = right(one.who), right(one.against)
    differences = np.array([new[name] - old[name] for name in new])
    assert one.found.n == len(differences) == 48 * len(_SEEDS)
    assert one.found.gain.value == pytest.approx(differences.mean())
    # The seeds ask the same questions: twice as many are no more evidence.
    assert one.found.units == 48
    # So it is the means of questions that are resampled.
    names = [example for _, example in new]
    by_question = [
      differences[[other == name for other in names]].mean()
      for name in dict.fromkeys(names)
    ]
    error = np.std(by_question) / np.sqrt(48)
    reach = (one.found.gain.high - one.found.gain.low) / 2
    assert reach == pytest.approx(1.96 * error, rel=0.15)


def test_whether_thinking_pays_is_said_over_all_seeds(found):
  (vote,) = (
    one.found
    for one in found.pairs
    if (one.who, one.against)
    == ("System 2 (s2a), vote", "System 1 few-shot, vote")
  )
  rivals = found.thinking.rivals
  assert rivals[Way("system1_shots", "vote")].gain == vote.gain
  assert len(rivals) == 6  # single samples, too
  assert "on 96 “suggests wrong” test inputs System 2’s vote" in found.pays
  assert found.pays.endswith(", over 2 seeds.")


def test_where_system_1_is_its_own_teacher_only_the_student_is_compared(
  workdir, tmp_path
):
  shutil.copytree(workdir / "seed0" / "run", tmp_path / "seed0" / "run")
  path = tmp_path / "seed0" / "run" / "config.json"
  settings = json.loads(path.read_text())
  path.write_text(json.dumps(settings | {"method": "system1"}))
  base = tmp_path / "seed0" / "run" / "eval" / "base.jsonl"
  rows = [row for row in records.read(base) if row["method"] != "s2a"]
  records.write(base, rows)
  found = study.load(tmp_path, [0], [], [], _BIASED)
  assert found.pays == "" and found.thinking is None
  assert {one.who for one in found.pairs} == {"Distilled"}
  assert len(found.pairs) == 4


def test_every_way_to_ask_has_a_row_of_its_own(workdir, tmp_path):
  """Greedily, in samples and by their vote."""
  shutil.copytree(workdir / "seed0", tmp_path / "seed0")
  run = tmp_path / "seed0" / "run"
  ways = ("s2a_vote", "s2a_greedy", "s2a", "system1_shots_vote", "system1_vote")
  ways += ("system1", "system1_shots_greedy", "system1_greedy", "system1_shots")
  base, student = (
    list(records.read(run / "eval" / f"{name}.jsonl"))
    for name in ("base", "distilled")
  )
  told = [_alone(row, way) for way in ways for row in base]
  records.write(run / "eval" / "base.jsonl", told)
  # The student is judged by its greedy answers.
  greedy = [_alone(row, "system1_greedy") for row in student]
  wrong = [
    _alone(r, "system1") | {"metrics": {"accuracy": 0.0}} for r in student
  ]
  records.write(run / "eval" / "distilled.jsonl", wrong + greedy)
  found = study.load(tmp_path, [0], [], [], _BIASED)
  assert [row.label for row in found.rows] == [
    f"{who}, {drawn}"
    for who in ("System 1", "System 1 few-shot", "System 2 (s2a)")
    for drawn in ("greedy", "one sample", "vote")
  ] + ["Distilled"]
  right = _accuracy(workdir, "run", 0).mean()
  assert found.run.accuracy[_BIASED].mean == pytest.approx(right)
  assert found.answer.endswith("(with seed 0).")


def _alone(row, way) -> records.Record:
  """The greedy answer of a row, as that of a method of this name."""
  metrics = row.get("greedy", row)["metrics"]
  left = {name: row[name] for name in row if name not in ("greedy", "vote")}
  return left | {"method": way, "metrics": metrics}


def test_a_study_fits_a_terminal_of_80_columns(found):
  out = io.StringIO()
  terminal.print_study(found, Console(file=out, width=80))
  table = out.getvalue().partition(found.answer[:20])[0].splitlines()
  starts = {row.short_label for row in found.rows}
  body = [line for line in table if line.split("  ")[0].strip() in starts]
  assert all(len(line) <= 80 for line in out.getvalue().splitlines())
  pairs = out.getvalue().partition(" finding")[2].splitlines()
  for one, line in zip(found.pairs, pairs[2:], strict=False):
    assert all(label in line for label in one.short_labels)
    assert line.rstrip().endswith(one.found.outcome)
  # No label and no spread is folded: a row is a line.
  assert len(body) == len(found.rows)
  for row, line in zip(found.rows, body, strict=True):
    assert len(line) <= 80
    assert str(row.accuracy.get(_BIASED, "–")) in line


def test_page_text_json_and_terminal_show_the_same(found, tmp_path):
  path = study.write(found, tmp_path)
  page = Page(path.read_text())
  assert page.open == [] and page.scripts == []
  _, *shown = page.tables["rows"]
  markdown = (tmp_path / "study" / "study.md").read_text()
  figures = json.loads((tmp_path / "study" / "study.json").read_text())
  out = io.StringIO()
  terminal.print_study(found, Console(file=out, width=220))
  for row, cells, values in zip(
    found.rows, shown, figures["rows"], strict=True
  ):
    assert cells[0].startswith(row.label) and row.short_label in out.getvalue()
    if row.accuracy:
      spread = row.accuracy[_BIASED]
      assert cells[1] == f"{spread.percent} {spread.interval}".strip()
      assert str(spread) in markdown and str(spread) in out.getvalue()
      assert values["accuracy"][_BIASED]["mean"] == spread.mean
    if row.shows:
      assert row.shows in markdown
      assert values["over_run"]["outcome"] == row.over_run.outcome
  _, *shown = page.tables["pairs"]
  assert len(shown) == len(found.pairs) == len(figures["pairs"]) > 9
  for one, cells, values in zip(
    found.pairs, shown, figures["pairs"], strict=True
  ):
    assert cells[:2] == [one.who, one.against]
    assert cells[-1] == values["found"]["outcome"] == one.found.outcome
    assert values["found"]["gain"]["value"] == one.found.gain.value
    assert f"| {one.who} | {one.against} | {cells[2]} |" in markdown
  assert found.pays == figures["pays"] and found.pays in markdown
  plain = " ".join(found.pays.replace("\N{NO-BREAK SPACE}", " ").split())
  for text in (page.text, out.getvalue().replace("\N{NO-BREAK SPACE}", " ")):
    assert plain in " ".join(text.split())
  assert found.splits[0] == figures["splits"][0] == _BIASED
  assert page.tables["runs"][1][0] == "run"
