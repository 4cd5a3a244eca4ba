from __future__ import annotations

import json
import pathlib
import re
import runpy

import pytest

from s2d_jax.reporting import paper

_ROOT = pathlib.Path(__file__).parents[2]
# The table of docs/paper.md: file → its last cell.
_TABLE = dict(
  re.findall(
    r"^\| `(\w+)\.py` \|.*\| ([^|]+) \|$",
    (_ROOT / "docs" / "paper.md").read_text(),
    re.MULTILINE,
  )
)


def row_of(name):
  path = _ROOT / "configs" / "paper" / f"{name}.py"
  config = runpy.run_path(str(path))["get_config"]()
  return paper.row_for(json.loads(config.to_json()))


@pytest.mark.parametrize("name", _TABLE)
def test_the_figures_are_those_of_the_document(name):
  row = row_of(name)
  if name == "last_letters_labels":
    assert row is None
    return
  quoted = re.sub(r"\*| \(.*", "", _TABLE[name])
  figures = (row.system1, row.system2, row.distilled)
  assert quoted == " → ".join(str(f) if f else "–" for f in figures)


def test_every_row_of_the_document_is_looked_up():
  assert len(_TABLE) == 10


@pytest.mark.parametrize(
  "config",
  [
    {},
    {"task": {"name": "gsm8k"}, "method": "rar2"},
    {"task": {"name": "opinions", "format": "truthful_qa"}, "method": "s2a"},
    {"task": {"name": "last_letters", "words": 4}, "method": "rar2"},
    {"task": {"name": "coin_flip", "people": 4}, "method": "rar2"},
    {
      "task": {"name": "sycophancy"},
      "method": "s2a",
      "curation": {"select": "label"},
    },
  ],
)
def test_other_runs_have_no_row(config):
  assert paper.row_for(config) is None


def test_the_quickstarts_questions_stand_in_for_the_papers():
  config = {"task": {"name": "sycophancy"}, "method": "s2a"}
  assert paper.row_for(config) == row_of("sycophancy_s2a")
