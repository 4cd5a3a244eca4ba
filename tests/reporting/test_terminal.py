from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from s2d_jax.errors import UserError
from s2d_jax.reporting import terminal


def printed(workdir, width=160) -> str:
  out = io.StringIO()
  terminal.print_results(workdir, console=Console(file=out, width=width))
  return out.getvalue()


def test_prints_the_figures_of_results_json(reported):
  text = printed(reported)
  lines = {
    line.split("  ")[0].strip(): line for line in text.splitlines() if line
  }
  rows = json.loads((reported / "report" / "results.json").read_text())
  for row in rows:
    kind = row["model"], row["method"], row["metric"]
    if kind == ("distilled", "system1_greedy", "accuracy"):
      low, high = 100 * row["ci_low"], 100 * row["ci_high"]
      shown = f"{100 * row['value']:.1f} [{low:.0f}–{high:.0f}]"
      assert shown in lines["Distilled, greedy"]
  ways = [
    f"{who}, {drawn}"
    for who in ("System 1", "Few-shot", "System 2", "Distilled")
    for drawn in ("greedy", "sample", "vote")
  ]
  assert [name for name in lines if name in ways] == ways
  said = json.loads((reported / "report" / "verdict.json").read_text())
  told = " ".join(text.split())
  for name in ("answer", "pays", "kept"):
    assert " ".join(said[name].split()) in told


def test_the_grid_fits_a_terminal_of_100_columns(reported):
  table = printed(reported, width=100).partition("Answers, %")[0]
  body = [line for line in table.splitlines() if ", " in line]
  assert len(body) == 12
  # No cell is folded: each line has its five shares with their intervals.
  for line in body:
    assert line.count("[") == line.count("]") == 5 and len(line) <= 100


def test_without_results(workdir):
  with pytest.raises(UserError, match="run the report stage first"):
    printed(workdir)


def test_with_empty_results(tmp_path):
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "results.json").write_text("[]")
  assert printed(tmp_path) == ""
