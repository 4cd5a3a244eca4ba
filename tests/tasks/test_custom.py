"""Labels of every shape, and a sentence for every mistake in the options."""

from __future__ import annotations

import json

import datasets
import pytest

from s2d_jax.errors import UserError
from s2d_jax.tasks.custom import Custom
from s2d_jax.tasks.task import asked, without_perturbations

YES_NO = {"kind": "choice", "options": ["yes", "no"]}


def labels(tmp_path, answer, *values) -> list:
  """The labels that come of a column, in the order of its rows."""
  path = tmp_path / "rows.jsonl"
  rows = [{"q": f"Why {i}?", "l": value} for i, value in enumerate(values)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  task = Custom(str(path), "{q}", answer, label="l", valid_size=1, test_size=1)
  found = [e for split in task.examples().values() for e in split]
  order = sorted(found, key=lambda e: int(e.inputs["question"][4:-1]))
  return [example.label for example in order]


@pytest.mark.parametrize(
  "answer, values, wanted",
  [
    (YES_NO, ("Yes", "NO", "no."), ["yes", "no", "no"]),
    (YES_NO, (0, 1, 0), ["yes", "no", "yes"]),  # numbered classes
    (YES_NO, (True, False, "False"), ["yes", "no", "no"]),
    (YES_NO, (None, "", "yes"), [None, None, "yes"]),
    (
      {"kind": "choice", "options": ["1", "2"]},
      (1, 2, "1"),
      ["1", "2", "1"],  # their own names, no numbers of classes
    ),
    ({"kind": "choice", "options": ["A", "B"]}, ("a", "B", 1), ["A", "B", "B"]),
    ({"kind": "number"}, (1200.0, "$1,200", 0.5), ["1200", "1200", "0.5"]),
    ({"kind": "text"}, ("The Café", "U.S.A.", "x"), ["cafe", "usa", "x"]),
    (
      {"kind": "text"},
      (["Holland", "The Netherlands"], [], "x"),
      [["holland", "netherlands"], None, "x"],
    ),
    ({"kind": "letters"}, ("N-Y", "ny", "z"), ["ny", "ny", "z"]),
    ({"kind": "regex", "pattern": "Grade: (.)"}, ("A", "B", "C"), [*"ABC"]),
  ],
)
def test_labels(tmp_path, answer, values, wanted):
  assert labels(tmp_path, answer, *values) == wanted


@pytest.mark.parametrize(
  "answer, values",
  [
    (YES_NO, ("maybe", "yes", "no")),
    (YES_NO, (2, 0, 1)),
    ({"kind": "number"}, ("several", 1, 2)),
    ({"kind": "text", "max_words": 2}, ("one two three", "x", "y")),
  ],
)
def test_a_label_that_no_reply_could_match(tmp_path, answer, values):
  with pytest.raises(UserError, match="task.label: the column 'l' says"):
    labels(tmp_path, answer, *values)


@pytest.mark.parametrize(
  "options, named",
  [
    ({"answer": "number"}, "task.answer='number' must be a mapping"),
    ({"answer": {"kind": "choice", "options": "yes"}}, "task.answer.options"),
    ({"answer": {"kind": "choice", "options": [1, 2]}}, "task.answer.options"),
    ({"answer": {"kind": "text", "max_words": 0}}, "task.answer.max_words=0"),
    ({"answer": {"kind": "regex", "pattern": 3}}, "no regular expression"),
    ({"prompt": 3}, "task.prompt=3 is no template"),
    ({"prompt": "{}"}, "task.prompt='{}' is no template"),
    ({"prompt": "{q:d}"}, "bare name of a column"),
    ({"prompt": "{q!z}"}, "bare name of a column"),
    ({"columns": "q"}, "task.columns='q' must map"),
    ({"variants": ["{q}"]}, "task.variants=.* must map"),
    ({"optional": ("q",)}, "task.optional=.* must map"),
    ({"optional": {"q": " {q}"}}, "task.prompt='{q}' may be blank"),
    ({"optional": {"x": " {x}"}}, "task.optional.x is in no prompt"),
    (
      {"prompt": "{q}{x}", "optional": {"x": "Input:"}},
      "task.optional.x='Input:' has no column",
    ),
    (
      {"prompt": "{q}{x}", "optional": {"x": "{x} {q}"}},
      "task.optional.x=.* must have {x} in it, and no other",
    ),
    (
      {
        "prompt": "{q}{x}",
        "optional": {"x": "{x}"},
        "variants": {"short": "{x}"},
      },
      "task.variants.short='{x}' may be blank",
    ),
    ({"variants": {"plain": "{q}!"}}, "task.variants.plain is the name"),
    ({"perturb": {"plain": "os:getcwd"}}, "task.perturb.plain is the name"),
    ({"perturb": {"x": 3}}, "task.perturb=.* must map"),
    ({"perturb": {"x": "os:sep"}}, "not a function"),
    (
      {"variants": {"x": "{q}!"}, "perturb": {"x": "os:getcwd"}},
      "task.perturb.x has the name",
    ),
    ({"shots": ["ab"]}, "task.shots=.* must be pairs"),
    ({"shots": [("a", "b", "c")]}, "task.shots=.* must be pairs"),
    ({"max_new_tokens": 0}, "task.max_new_tokens=0 must be"),
    ({"train_size": "3"}, "task.train_size='3' must be"),
    ({"valid_size": 2.5}, "task.valid_size=2.5 must be"),
  ],
)
def test_options_that_cannot_be(options, named):
  settings = {"train": "r.csv", "prompt": "{q}", "answer": YES_NO} | options
  with pytest.raises(UserError, match=named):
    Custom(**settings)


_BLANKS = (None, "", " \n", float("nan"))


@pytest.mark.parametrize("blank", _BLANKS)
def test_a_column_may_be_blank(tmp_path, capsys, blank):
  path = tmp_path / "rows.jsonl"
  cells = [
    ("Why 0?", blank),
    ("Why 1?", "rain"),
    ("Why 2?", 7),
    ("Why 3?", "{q}"),  # braces of a cell are no placeholders
    (blank, "rain"),
  ]
  path.write_text(
    "".join(json.dumps({"q": q, "x": x}) + "\n" for q, x in cells)
  )
  task = Custom(
    str(path),
    "{q}{x}!",
    {"kind": "text"},
    optional={"x": " ({x}, {{sic}})"},
    variants={"first": "{x}{q}"},
    valid_size=1,
    test_size=1,
  )
  found = [e.inputs["texts"] for part in task.examples().values() for e in part]
  found.sort(key=lambda texts: texts["plain"])
  assert [texts["plain"] for texts in found] == [
    "Why 0?!",
    "Why 1? (rain, {sic})!",
    "Why 2? (7, {sic})!",
    "Why 3? ({q}, {sic})!",
  ]
  assert [texts["first"] for texts in found][:2] == [
    "Why 0?",
    " (rain, {sic})Why 1?",
  ]
  told = capsys.readouterr().err
  assert "left out 1 row without a question" in told
  assert "line 5, with nothing in 'q'" in told


def test_a_perturbation_may_empty_what_may_be_blank(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "without_input.py").write_text(
    "def drop(row, random):\n  return {**row, 'x': None}\n"
  )
  path = tmp_path / "rows.csv"
  path.write_text("q,x\n" + "".join(f"Why {i}?,rain\n" for i in range(3)))
  task = Custom(
    str(path),
    "{q}{x}",
    {"kind": "text"},
    optional={"x": " {x}"},
    perturb={"bare": "without_input:drop"},
    valid_size=1,
    test_size=1,
  )
  for part in task.examples().values():
    for example in part:
      texts = example.inputs["texts"]
      assert texts["plain"] == texts["bare"] + " rain"


def test_an_optional_column_has_to_be_there(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("q,y\n" + "".join(f"Why {i}?,rain\n" for i in range(3)))
  optional = {"x": " {x}"}
  task = Custom(str(path), "{q}{x}", {"kind": "text"}, optional=optional)
  with pytest.raises(UserError, match="no column 'x'; it has q, y"):
    task.examples()


def test_names_of_rows_are_unique(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("q,k\n" + "".join(f"Why {i}?,same\n" for i in range(5)))
  task = Custom(str(path), "{q}", YES_NO, id="k", valid_size=1, test_size=1)
  with pytest.raises(UserError, match="task.id: 3 rows .* are called 'same'"):
    task.examples()


def test_a_saved_data_set_with_splits(tmp_path):
  """Slices of one folder are what they say: nothing is asked twice."""
  rows = [{"q": f"Why {i}?"} for i in range(10)]
  datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
  task = Custom(
    f"hf:{tmp_path}/saved:train[:6]",
    "{q}",
    {"kind": "text"},
    valid_size=2,
    test=f"hf:{tmp_path}/saved:train[6:]",
    test_size=4,
  )
  asked = {
    split: {int(e.inputs["question"][4:-1]) for e in examples}
    for split, examples in task.examples().items()
  }
  assert asked["test"] == {6, 7, 8, 9}
  assert asked["train"] | asked["valid"] == set(range(6))


def test_a_variant_that_only_tests_whether_an_answer_stands(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(f'{{"q": "Is {n} odd?"}}\n' for n in range(4)))
  options = {
    "train": str(path),
    "prompt": "{q}",
    "answer": {"kind": "choice", "options": ("no", "yes")},
    "variants": {"polite": "Please: {q}"},
    "valid_size": 1,
    "test_size": 1,
  }
  task = Custom(**options, perturbations=["polite"])
  (example,) = task.examples()["test"]
  assert asked(task, example) == ("plain", "polite")
  assert without_perturbations(task, example) == ("plain",)
  assert without_perturbations(Custom(**options), example) == (
    "plain",
    "polite",
  )
  for names in (["plain"], "polite", ["rude"]):
    with pytest.raises(UserError, match="names that task.variants.*; there"):
      Custom(**options, perturbations=names)
