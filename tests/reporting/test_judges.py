from __future__ import annotations

import json

import pytest

from s2d_jax import records
from s2d_jax.reporting import report
from tests.reporting.fake_run import FakeRun
from tests.reporting.test_report import Page

pytestmark = pytest.mark.usefixtures("quick")

_VERDICTS = {"plain": ("1", "1", "tie", None), "denies_right": ("1", "2")}
_ORDERS = {"plain": "original", "denies_right": "swapped"}
_VOTES = (("1", "1", "tie"), ("2", "1"), ("2",), ("tie", "tie"))


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
  """The fake run with the task, verdicts and votes of a judge."""
  workdir = FakeRun().write(tmp_path_factory.mktemp("judge"))
  config = json.loads((workdir / "config.json").read_text())
  config["task"]["name"] = "judge"
  (workdir / "config.json").write_text(json.dumps(config))
  names = {}  # of the test examples → their numbers
  for example in records.read(workdir / "examples" / "test.jsonl"):
    names.setdefault(example["id"], len(names))
  examples = [
    {
      "id": name,
      "task": "judge",
      "inputs": {
        "question": f"Q{number}",
        "votes": [
          {"judge": f"expert_{person}", "winner": vote}
          for person, vote in enumerate(_VOTES[number % 4])
        ],
      },
      "label": ("1", "tie", "2", "tie")[number % 4],
    }
    for name, number in names.items()
  ]
  records.write(workdir / "examples" / "test.jsonl", examples)
  for name in ("base", "distilled"):
    path = workdir / "eval" / f"{name}.jsonl"
    rows = []
    for row in records.read(path):
      if row["variant"] in _ORDERS:
        verdicts = _VERDICTS[row["variant"]]
        verdict = verdicts[names[row["example_id"]] % len(verdicts)]
        passes = [one | {"answer": verdict} for one in row["passes"]]
        order = {"variant": _ORDERS[row["variant"]], "passes": passes}
        rows.append(row | order)
    records.write(path, rows)
  report.build(workdir, "original", "original")
  return workdir


def test_the_table_of_agreement(judged):
  page = Page((judged / "report" / "index.html").read_text())
  assert page.open == []
  head, *lines = page.tables["agreement"]
  assert head[1:] == [
    "order",
    "votes",
    "votes, no ties",
    "majority",
    "majority, no ties",
    "answered",
  ]
  sampled = "System 1, one sample"
  direct = {line[1]: line for line in lines if line[0] == sampled}
  assert list(direct) == ["original", "swapped", "pooled", "in both"]
  shares = {
    order: [c.split()[0] for c in line[2:]] for order, line in direct.items()
  }
  # Of four pairs with 3, 2, 1 and 2 votes; see _VERDICTS and _VOTES.
  assert shares["original"] == ["37.5", "75.0", "25.0", "100.0", "75.0"]
  assert shares["swapped"] == ["37.5", "60.0", "25.0", "50.0", "100.0"]
  assert shares["pooled"] == ["37.5", "66.7", "25.0", "66.7", "87.5"]
  assert shares["in both"] == ["25.0", "100.0", "50.0", "100.0", "75.0"]
  assert {line[0] for line in lines} >= {
    sampled,
    "Distilled, greedy",
    "People",
  }
  people = lines[-1]
  assert [cell.split()[0] for cell in people[2:6]] == [
    "40.0",
    "50.0",
    "28.6",
    "0.0",
  ]


def test_the_same_in_markdown_and_results(judged):
  markdown = (judged / "report" / "results.md").read_text()
  assert "## Agreement with people" in markdown
  assert "| People |  | 40.0 [" in markdown
  rows = json.loads((judged / "report" / "results.json").read_text())
  found = {
    (row["model"], row["method"], row["split"], row["metric"]): row["value"]
    for row in rows
  }
  assert len(found) == len(rows)
  assert found["people", "people", "all", "agreement_votes"] == 0.4
  assert found["base", "system1", "all", "agreement_votes"] == 0.375
  assert (
    "agreement with people"
    in Page((judged / "report" / "index.html").read_text()).text
  )


def test_other_tasks_have_no_such_table(tmp_path):
  workdir = FakeRun().write(tmp_path)
  report.build(workdir)
  page = Page((workdir / "report" / "index.html").read_text())
  assert "agreement" not in page.tables
  assert "with people" not in (workdir / "report" / "results.md").read_text()
