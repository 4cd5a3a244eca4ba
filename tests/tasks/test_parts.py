"""Questions of one's own that are decomposed: their parts, and a rule."""

from __future__ import annotations

import json

import pytest

from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import setup
from s2d_jax.stages.chat_models import ChatSetup
from s2d_jax.system2.methods import METHODS
from s2d_jax.tasks.custom import Custom
from s2d_jax.tasks.task import Example, cluster_of
from tests.system2.replies import finish, reply, said

OPTIONS = {
  "prompt": "Is {first} older than {second}?",
  "answer": {"kind": "choice", "options": ["yes", "no"]},
  "variants": {"polite": "Please: is {first} older than {second}?"},
  "parts": ["How old is {first}?", "How old is {second}?"],
  "rule": "larger",
  "valid_size": 1,
  "test_size": 1,
}


@pytest.fixture
def rows(tmp_path):
  path = tmp_path / "rows.jsonl"
  pairs = [("Ann\nLee", "Bob"), ("Bob", "Eve"), ("Eve", "Joe")]
  rows = [{"first": one, "second": other} for one, other in pairs]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def _by_question(task) -> dict[str, Example]:
  splits = task.examples().values()
  return {e.inputs["question"]: e for split in splits for e in split}


def test_each_part_is_filled_from_the_row(rows):
  task = Custom(str(rows), **OPTIONS)
  example = _by_question(task)["Is Bob older than Eve?"]
  for variant in task.variants:
    fields = task.fields(example, variant)
    assert fields["parts"] == "How old is Bob?\nHow old is Eve?"
    assert fields["rule"] == "larger"
  # Whoever errs about Eve errs in each of her questions.
  assert cluster_of(task, example) == ("How old is Bob?", "How old is Eve?")
  broken = _by_question(task)["Is Ann\nLee older than Bob?"]
  parts = task.fields(broken, "plain")["parts"]
  assert parts == "How old is Ann Lee?\nHow old is Bob?"


def test_a_perturbed_row_has_parts_of_its_own(rows, monkeypatch):
  (rows.parent / "turning.py").write_text(
    "def turn(row, random):\n"
    "  return {'first': row['second'], 'second': row['first']}\n"
  )
  monkeypatch.syspath_prepend(rows.parent)
  task = Custom(str(rows), **OPTIONS, perturb={"turned": "turning:turn"})
  example = _by_question(task)["Is Bob older than Eve?"]
  asked = {v: task.fields(example, v)["parts"] for v in task.variants}
  assert asked["polite"] == asked["plain"]
  assert asked["turned"] == "How old is Eve?\nHow old is Bob?"


def test_without_parts_nothing_changes(rows):
  options = {k: v for k, v in OPTIONS.items() if k not in ("parts", "rule")}
  task = Custom(str(rows), **options)
  example = _by_question(task)["Is Bob older than Eve?"]
  assert example.inputs.keys() == {"question", "texts"}
  assert cluster_of(task, example) is None
  assert task.fields(example, "plain").keys() == {"text", "format"}
  with pytest.raises(UserError, match="custom has no prompt 'part'"):
    METHODS["decompose"].prompts_for(task.name, task.prompts)


@pytest.mark.parametrize(
  "replies, merged",
  [
    (("34", "33"), "yes"),
    (("34", "34"), "no"),
    (("She is 1,034 years old.", "It is 9."), "yes"),
    (("-5", "3/4"), "no"),
    (("34", "Nobody knows."), ""),
  ],
)
def test_the_method_merges_by_the_rule_of_the_task(rows, replies, merged):
  task = Custom(str(rows), **OPTIONS)
  method = METHODS["decompose"]
  prompts = method.prompts_for(task.name, task.prompts)
  example = _by_question(task)["Is Bob older than Eve?"]
  steps = method.think(task.fields(example, "plain"), prompts)
  calls = next(steps)
  assert [said(call).splitlines()[0] for call in calls] == [
    "How old is Bob?",
    "How old is Eve?",
  ]
  assert finish(steps, list(map(reply, replies))) == merged


def _function(folder, monkeypatch, name: str, body: str) -> str:
  """The name of a rule in a module of that name."""
  (folder / f"{name}.py").write_text(f"def merge(answers):\n  {body}\n")
  monkeypatch.syspath_prepend(folder)
  return f"{name}:merge"


def _merged(rows, rule: str, replies) -> str:
  task = Custom(str(rows), **OPTIONS | {"rule": rule})
  example = _by_question(task)["Is Bob older than Eve?"]
  prompts = METHODS["decompose"].prompts_for(task.name, task.prompts)
  steps = METHODS["decompose"].think(task.fields(example, "plain"), prompts)
  next(steps)
  return finish(steps, list(map(reply, replies)))


def test_a_rule_of_one_s_own(rows, monkeypatch):
  rule = _function(
    rows.parent, monkeypatch, "joining", "return ' and '.join(answers)"
  )
  assert _merged(rows, rule, ("Asia.", "Africa")) == "asia and africa"


def test_a_rule_of_one_s_own_that_gives_no_text(rows, monkeypatch):
  rule = _function(rows.parent, monkeypatch, "counting", "return len(answers)")
  with pytest.raises(UserError, match="counting:merge gave int"):
    _merged(rows, rule, ("Asia.", "Africa"))


@pytest.mark.parametrize(
  "options, named",
  [
    ({"parts": "{first}"}, "task.parts='{first}' must be a list"),
    ({"parts": ["Why?"]}, r"task.parts\[0\]='Why\?' has no column"),
    ({"parts": ["{first}", 3]}, r"task.parts\[1\]=3 is no template"),
    ({"rule": "bigger"}, "task.rule='bigger' must be one of same, larger"),
    ({"rule": ["same"]}, r"task.rule=\['same'\] must be one of same, larger"),
    ({"rule": "nowhere:merge"}, "nowhere:merge cannot be imported"),
  ],
)
def test_options_that_cannot_be(rows, options, named):
  with pytest.raises(UserError, match=named):
    Custom(str(rows), **OPTIONS | options)


def test_a_part_needs_its_column(rows):
  task = Custom(str(rows), **OPTIONS | {"parts": ["Who is {third}?"]})
  with pytest.raises(UserError, match="no column 'third'"):
    task.examples()


def test_a_question_in_a_chat_has_parts_if_it_is_worded_alike(rows):
  config = default()
  config.method = "decompose"
  task = Custom(str(rows), **OPTIONS)
  asks = "Is Eve older than Joe?"
  known = ChatSetup(config, None, task, "yes or no", asks)
  assert known.fields(asks)["parts"] == "How old is Eve?\nHow old is Joe?"
  assert "decompose" in known.methods
  with pytest.raises(UserError, match="needs more than this question; ask as"):
    known.check("decompose", "Who is older?")
  known.check("cot", "Who is older?")


@pytest.mark.parametrize(
  "template, text, parts",
  [
    ("{a}? {a}!", "Me? Me!", ["Me"]),
    ("{a}? {a}!", "Me? You!", None),  # of two texts in one column
    ("{a} {{sic}}", "Me {sic}", ["Me"]),
    ("{a}.*", "Me.*", ["Me"]),  # of a template, not of a pattern
    ("{a}.*", "Me, too", None),
  ],
)
def test_templates_whose_columns_are_found(rows, template, text, parts):
  options = OPTIONS | {"prompt": template, "parts": ["{a}"], "variants": None}
  found = Custom(str(rows), **options).inputs_of(text)
  assert (found and found["parts"]) == (parts and {"plain": parts})


def test_a_text_with_a_column_that_may_be_blank_is_not_taken_apart(rows):
  options = OPTIONS | {
    "prompt": "{first}{more}",
    "optional": {"more": " {more}"},
  }
  options |= {"parts": ["{first}"], "variants": None}
  assert Custom(str(rows), **options).inputs_of("Bob is old") is None


def test_the_method_s_own_worked_examples_ask_for_a_control(rows):
  """They are to be given to System 1, too."""
  config = default()
  config.method, config.task.name = "decompose", "custom"
  with config.unlocked():
    config.task.update(OPTIONS | {"train": str(rows)})
    config.prompts.part = {"shots": [("How old is Moses?", "120")]}
  task = setup.task_of(config)
  assert setup.has_shots(config, task)
  assert "system1_shots.shots can give" in setup.why_no_shots(config, task)
