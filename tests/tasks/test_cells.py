"""Cells of every shape come to text, to nothing, or to one sentence.

Files are written by pandas, pyarrow and the standard library, and read by them
for comparison.
"""

from __future__ import annotations

import csv
import importlib
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.tasks import cells, sources
from s2d_jax.tasks.custom import Custom
from s2d_jax.tasks.gsm8k import Gsm8k
from s2d_jax.tasks.judge_formats import FORMATS as PAIRS
from s2d_jax.tasks.opinions import FORMATS as OPINIONS

AB = {"kind": "choice", "options": ["A", "B"]}


def read(path):
  return list(sources.read(str(path)))


def asked(train, prompt="{q}", **options) -> dict[str, object]:
  """Question → label, of all splits."""
  settings = {"answer": {"kind": "text"}, "valid_size": 1, "test_size": 1}
  task = Custom(str(train), prompt, **settings | options)
  found = [e for split in task.examples().values() for e in split]
  return {e.inputs["question"]: e.label for e in found}


def write_jsonl(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


# Files.


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv"])
def test_a_byte_order_mark_is_no_text(tmp_path, ending):
  table = pd.DataFrame({"q": ["Why, é?", "Who?"], "a": ["1", "x"]})
  text = {
    "json": table.to_json(orient="records"),
    "jsonl": table.to_json(orient="records", lines=True),
    "csv": table.to_csv(index=False),
  }[ending]
  path = tmp_path / f"rows.{ending}"
  path.write_text(text, encoding="utf-8-sig")
  assert read(path) == table.to_dict("records")


def test_a_byte_order_mark_amid_files_that_were_put_together(tmp_path):
  line = b'\xef\xbb\xbf{"q": "Why?"}\n'
  (tmp_path / "rows.jsonl").write_bytes(line + line)
  assert read(tmp_path / "rows.jsonl") == [{"q": "Why?"}] * 2


def test_a_cell_of_any_length(tmp_path):
  long = "Why, so? " * 20_000
  pd.DataFrame({"q": [long, "b"]}).to_csv(tmp_path / "rows.csv", index=False)
  assert read(tmp_path / "rows.csv") == [{"q": long}, {"q": "b"}]


def test_many_rows_are_those_of_the_csv_module(tmp_path):
  path = tmp_path / "rows.csv"
  random = np.random.default_rng(0)
  pieces = np.array(["a", ",", '"', "\n", "é", "0", " ", "7.5"])
  texts = random.choice(pieces, (100_000, 2, 4))
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["q", "a"])
    writer.writerows(["".join(cell) for cell in row] for row in texts)
  with path.open(newline="", encoding="utf-8") as file:
    expected = list(csv.DictReader(file))
  found = read(path)
  assert len(found) == 100_000
  assert found == expected
  # The line on which a row begins, although cells have line breaks.
  lines = path.read_text(encoding="utf-8").split("\n")
  place = found[50_000].place.removeprefix(f"{path}, line ")
  first = expected[50_000]["q"].split("\n")[0].replace('"', '""')
  assert first in lines[int(place) - 1]


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ude00\\ud83d"])
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_half_a_surrogate_pair(tmp_path, ending, half):
  row = f'{{"q": "bad {half} here, good \\ud83d\\ude00", "{half}": ["{half}"]}}'
  (tmp_path / "rows.jsonl").write_text(row + "\n")
  (tmp_path / "rows.json").write_text(f"[{row}]")
  [found] = read(tmp_path / f"rows.{ending}")
  marks = "�" * half.count("u")
  assert found == {"q": f"bad {marks} here, good 😀", marks: [marks]}
  records.write(tmp_path / "out.jsonl", [found])
  assert list(records.read(tmp_path / "out.jsonl")) == [found]


def test_half_a_surrogate_pair_of_a_function(tmp_path, monkeypatch):
  (tmp_path / "half.py").write_text(
    "def rows():\n  for i in range(3):\n    yield {'q': f'bad \\ud83d {i}'}\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  assert set(asked("python:half:rows")) == {f"bad � {i}" for i in range(3)}


def test_nesting_beyond_what_can_be_read(tmp_path):
  (tmp_path / "rows.jsonl").write_text('{"q": ' + "[" * 100_000 + "\n")
  (tmp_path / "rows.json").write_text("[" * 100_000)
  for ending, named in (
    ("jsonl", "line 1 is not valid"),
    ("json", "not valid"),
  ):
    with pytest.raises(UserError, match=named):
      read(tmp_path / f"rows.{ending}")


# Bytes.


def test_binary_columns_are_text(tmp_path):
  table = pa.table({"q": ["Why, é?", "b", None], "n": [1, 2, 3]})
  parquet.write_table(table, tmp_path / "text.parquet")
  for kind in (pa.binary(), pa.large_binary()):
    binary = table.set_column(0, "q", table["q"].cast(kind))
    parquet.write_table(binary, tmp_path / "binary.parquet")
    assert read(tmp_path / "binary.parquet") == table.to_pylist()
  assert read(tmp_path / "text.parquet") == table.to_pylist()


def test_bytes_that_are_no_text_matter_only_where_they_are_asked(tmp_path):
  path = tmp_path / "rows.parquet"
  table = {"q": ["a", "b", "c"], "image": [b"\xff\xd8\xe9"] * 3}
  parquet.write_table(pa.table(table), path)
  assert set(asked(path)) == {"a", "b", "c"}
  for options in ({"prompt": "{image}"}, {"label": "image"}, {"id": "image"}):
    with pytest.raises(
      UserError, match="parquet, row 1: the column 'image' holds bytes"
    ):
      asked(path, **options)


def test_a_text_column_that_is_not_utf8(tmp_path):
  wrong = pa.array([b"caf\xe9"]).view(pa.string())
  parquet.write_table(pa.table({"q": wrong}), tmp_path / "rows.parquet")
  with pytest.raises(UserError, match="rows.parquet is not UTF-8"):
    read(tmp_path / "rows.parquet")


# Nothing.


def test_nothing_is_none(tmp_path):
  gaps = pd.DataFrame({"q": ["a", None, "c"], "x": [0.5, float("nan"), 2.0]})
  gaps.to_parquet(tmp_path / "rows.parquet")
  gaps.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
  expected = [{"q": "a", "x": 0.5}, dict.fromkeys("qx"), {"q": "c", "x": 2.0}]
  assert read(tmp_path / "rows.parquet") == expected
  assert read(tmp_path / "rows.jsonl") == expected
  (tmp_path / "nan.jsonl").write_text('{"q": NaN, "l": [NaN, {"x": NaN}]}\n')
  assert read(tmp_path / "nan.jsonl") == [{"q": None, "l": [None, {"x": None}]}]
  for missing in (pd.NA, pd.NaT, np.float32("nan"), np.datetime64("NaT")):
    [row] = cells.tidy(cells.numbered("mine", [{"q": missing}]), None)
    assert row == {"q": None}


def test_columns_that_some_rows_lack(tmp_path):
  path = tmp_path / "rows.jsonl"
  write_jsonl(path, [{"q": "a"}, {"q": "b", "l": "x"}, {"q": "c"}, {"l": "y"}])
  # As `datasets` has it.
  assert read(path) == datasets.Dataset.from_json(str(path)).to_list()
  assert asked(path, label="l") == {"a": None, "b": "x", "c": None}


@pytest.mark.parametrize("blank", [None, "", "  ", "\n", float("nan")])
def test_a_row_without_a_question_is_left_out(tmp_path, capsys, blank):
  path = tmp_path / "rows.jsonl"
  write_jsonl(path, [{"q": q, "l": "x"} for q in ["a", "b", blank, "d", blank]])
  assert asked(path, label="l") == {"a": "x", "b": "x", "d": "x"}
  [line] = capsys.readouterr().err.splitlines()
  assert line == (
    f"{path}: left out 2 rows without a question; the first is {path}, line 3,"
    " with nothing in 'q'"
  )


def test_a_row_without_a_part_of_its_question(tmp_path, capsys):
  path = tmp_path / "rows.csv"
  path.write_text("a,b\n1,2\n,3\n4,5\n6,7\n")
  assert set(asked(path, "{a} + {b}?")) == {"1 + 2?", "4 + 5?", "6 + 7?"}
  assert "left out 1 row" in capsys.readouterr().err
  assert len(asked(path, "{b}?")) == 4
  assert not capsys.readouterr().err


def test_the_blank_rows_and_columns_of_spreadsheets(tmp_path, capsys):
  path = tmp_path / "rows.csv"
  path.write_text("q,l,,\na,5,,\nb,6,,\nc,7,,\n,,,\n , ,\n,,,,,,\n\n")
  assert asked(path, label="l") == {"a": "5", "b": "6", "c": "7"}
  assert "left out 3 rows" in (told := capsys.readouterr().err)
  assert "rows.csv, line 5," in told


@pytest.mark.parametrize("blank", [None, "", " ", float("nan"), [], [None]])
def test_a_row_without_a_label_stays(tmp_path, blank):
  path = tmp_path / "rows.jsonl"
  rows = [{"q": "a", "l": "x"}, {"q": "b", "l": blank}, {"q": "c", "l": "y"}]
  write_jsonl(path, rows)
  for answer in ({"kind": "text"}, {"kind": "regex", "pattern": "."}):
    found = asked(path, label="l", answer=answer)
    assert found == {"a": "x", "b": None, "c": "y"}


def test_streaming_reads_on_until_there_are_enough(tmp_path, monkeypatch):
  (tmp_path / "endless.py").write_text(
    "import itertools\nread = []\n"
    "def rows():\n  for i in itertools.count():\n    read.append(i)\n"
    "    yield {'q': f'q{i}' if i % 2 else None}\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  found = asked("python:endless:rows", train_size=3, streaming=True)
  assert sorted(found) == ["q1", "q3", "q5", "q7", "q9"]
  endless = importlib.import_module("endless")

  assert len(endless.read) == 10


# Numbers.


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_whole_numbers_with_gaps_are_whole(tmp_path, ending):
  """pandas writes them as floats; its own Int64 says what they are."""
  table = pd.DataFrame(
    {
      "whole": [1, None, -3, 0, 10**15],
      "half": [1, None, 2.5, 0, 7],
      "huge": [1e300, None, 1, 1, 1],
      "q": list("abcde"),
    }
  )
  path = tmp_path / f"rows.{ending}"
  {
    "csv": lambda: table.to_csv(path, index=False),
    "jsonl": lambda: table.to_json(path, orient="records", lines=True),
    "parquet": lambda: table.to_parquet(path),
  }[ending]()
  found = read(path)
  expected = table["whole"].convert_dtypes()
  assert expected.dtype == "Int64"
  texts = lambda name: [cells.texts(row, name) for row in found]
  assert texts("whole") == [[] if v is pd.NA else [str(v)] for v in expected]
  assert texts("half") == [["1.0"], [], ["2.5"], ["0.0"], ["7.0"]]
  assert texts("huge")[2:] == [["1.0"]] * 3
  assert set(asked(path, "{whole}!")) == {"1!", "-3!", "0!", f"{10**15}!"}


def test_files_with_gaps_beside_files_without(tmp_path):
  for name, numbers in (("a", [1, 2]), ("b", [3, None]), ("c", [4, 5])):
    table = pd.DataFrame({"n": numbers, "m": "x"})
    table.to_csv(tmp_path / f"{name}.csv", index=False)
    table.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
  expected = [str(n) for n in range(1, 6)]
  assert sorted(asked(tmp_path / "*.csv", "{n}")) == expected
  assert sorted(asked(tmp_path / "*.jsonl", "{n}")) == expected


def test_text_with_a_point_stays_where_no_gap_explains_it(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("q\n3.0\n4.0\n5.0\n")
  assert set(asked(path)) == {"3.0", "4.0", "5.0"}
  path.write_text("q,a\n3.0,x\n4.0,\n5.0,z\n,\n,\n")  # blank rows are no gaps
  assert set(asked(path)) == {"3.0", "4.0", "5.0"}


def test_very_large_and_small_numbers_are_written_in_digits(tmp_path):
  path = tmp_path / "rows.jsonl"
  write_jsonl(path, [{"q": v} for v in (1e16, 2.5e-7, 1.5)])
  assert set(asked(path)) == {"10000000000000000", "0.00000025", "1.5"}


@pytest.mark.parametrize(
  "column, expected",
  [
    ("0 1 0", "A B A"),
    ("0.0 1.0 0.0", "A B A"),
    ("A 1 b", "A B B"),
  ],
)
def test_classes_of_a_csv_are_numbered_from_zero(tmp_path, column, expected):
  path = tmp_path / "rows.csv"
  rows = pd.DataFrame({"q": list("xyz"), "l": column.split()})
  rows.to_csv(path, index=False)
  found = asked(path, label="l", answer=AB)
  assert [found[q] for q in "xyz"] == expected.split()


def test_classes_with_gaps(tmp_path):
  path = tmp_path / "rows.csv"
  rows = pd.DataFrame({"q": list("wxyz"), "l": [0, 1, None, 0]})
  rows.to_csv(path, index=False)
  found = asked(path, label="l", answer=AB)
  assert [found[q] for q in "wxyz"] == ["A", "B", None, "A"]
  numbers = {"kind": "choice", "options": ["0", "1"]}
  found = asked(path, label="l", answer=numbers)
  assert [found[q] for q in "wxyz"] == ["0", "1", None, "0"]


@pytest.mark.parametrize("number", ["2", "-1", "0.5"])
def test_a_class_there_is_not(tmp_path, number):
  path = tmp_path / "rows.csv"
  path.write_text(f"q,l\nx,0\ny,{number}\nz,1\n")
  with pytest.raises(UserError, match=r"'l' says .*rows.csv, line 3\)"):
    asked(path, label="l", answer=AB)


# What is no text.

_CHAT = [{"role": "user", "content": "Why?"}]


@pytest.mark.parametrize(
  "value, kind", [(_CHAT, "list"), (_CHAT[0], "dict"), (["a", "b"], "list")]
)
def test_a_structure_is_no_question(tmp_path, value, kind):
  rows = [{"q": value, "n": i} for i in range(3)]
  write_jsonl(tmp_path / "rows.jsonl", rows)
  datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "rows.parquet"))
  for name, place in (("jsonl", "line 1"), ("parquet", "row 1")):
    with pytest.raises(
      UserError, match=f"{place}: the column 'q' holds a {kind}, not a text"
    ):
      asked(tmp_path / f"rows.{name}")


@pytest.mark.parametrize("value", [_CHAT, {"text": "x"}, [["x"]]])
def test_a_structure_is_no_label(tmp_path, value):
  path = tmp_path / "rows.jsonl"
  write_jsonl(path, [{"q": q, "l": value} for q in "abc"])
  with pytest.raises(UserError, match="line 1: the column 'l' holds a"):
    asked(path, label="l")
  assert len(asked(path)) == 3  # nobody asks for it


@pytest.mark.parametrize("name", ["q.text", "0", "q[0]", "a b", "q[x].y", "é"])
def test_columns_of_any_name(tmp_path, name):
  rows = pd.DataFrame({name: ["a {x}", "b", "c"], "l": ["1", "2", "3"]})
  rows.to_csv(tmp_path / "rows.csv", index=False)
  found = asked(tmp_path / "rows.csv", f"{{{name}}}!{{{{}}}}", label="l")
  assert found == {"a {x}!{}": "1", "b!{}": "2", "c!{}": "3"}
  with pytest.raises(UserError, match=r"has no column '.*z'; it has"):
    asked(tmp_path / "rows.csv", f"{{{name}z}}")


def test_columns_without_a_text_as_name(tmp_path, monkeypatch):
  (tmp_path / "counted.py").write_text(
    "def rows():\n  for i in range(3):\n    yield {0: f'q{i}', 1: i}\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  found = asked("python:counted:rows", "{0}", label="1")
  assert found == {"q0": "0", "q1": "1", "q2": "2"}


@pytest.mark.parametrize("option", ["label", "id"])
def test_columns_are_named_by_a_text(option):
  with pytest.raises(UserError, match=f"task.{option}=.* name of a column"):
    asked("rows.csv", **{option: ["a", "b"]})


def test_a_row_without_a_name(tmp_path):
  path = tmp_path / "rows.jsonl"
  rows = [{"q": "a", "k": "x"}, {"q": "b", "k": None}, {"q": "c", "k": "z"}]
  write_jsonl(path, rows)
  with pytest.raises(UserError, match="line 2 has nothing in the column 'k'"):
    asked(path, id="k")


def test_a_perturbation_that_empties_a_column(tmp_path, monkeypatch):
  (tmp_path / "emptied.py").write_text(
    "def drop(row, random):\n  return {**row, 'q': None}\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  path = write_jsonl(tmp_path / "rows.jsonl", [{"q": q} for q in "abc"])
  with pytest.raises(UserError, match="line 1 has nothing in the column 'q'"):
    asked(path, perturb={"x": "emptied:drop"})


# Tasks with columns of their own.


def test_a_solution_that_is_missing(tmp_path):
  rows = [{"question": q, "answer": "#### 3"} for q in "abc"]
  path = write_jsonl(tmp_path / "r.jsonl", [*rows, {"question": "d"}])
  splits = Gsm8k(str(path), test=None, valid_size=1, test_size=1).examples()
  found = {e.inputs["question"]: e.label for s in splits.values() for e in s}
  assert found == {"a": "3", "b": "3", "c": "3", "d": None}


def test_pairs_with_a_part_missing(capsys):
  whole = {"question": "?", "answer_1": "a", "answer_2": 7, "id": None}
  rows = [whole | {"question": None}, whole, whole | {"answer_2": " "}]
  [pair] = PAIRS["pairs"]("mine", rows)
  assert pair == {
    "id": "1", "question": "?", "answer_1": "a", "answer_2": "7", "label": None,
  }  # fmt: skip
  told = capsys.readouterr().err
  assert "left out 2 rows" in told and "mine, row 1," in told
  for value in (1.5, float("inf"), [1]):
    with pytest.raises(UserError, match="row 1 has label="):
      list(PAIRS["pairs"]("mine", [whole | {"label": value}]))
  with pytest.raises(UserError, match="the column 'answer_1' holds a list"):
    list(PAIRS["pairs"]("mine", [whole | {"answer_1": _CHAT}]))


def test_messages_without_a_text(capsys):
  message = {"message_id": "q", "parent_id": None, "role": "prompter",
             "text": "?", "lang": "en", "rank": None}  # fmt: skip
  reply = message | {"parent_id": "q", "role": "assistant"}
  texts = ("best", None, "worst")
  replies = [reply | {"text": t, "rank": r} for r, t in enumerate(texts)]
  [pair] = PAIRS["oasst2"]("mine", [message, *replies])
  assert {pair["answer_1"], pair["answer_2"]} == {"best", "worst"}
  assert "the first is mine, row 3," in capsys.readouterr().err


def test_opinions_with_a_part_missing(capsys):
  whole = {
    "question": "?",
    "correct_answer": [7, None],
    "incorrect_answer": "b",
  }
  [found] = OPINIONS["columns"]("mine", [whole | {"question": ""}, whole])
  assert found == {"question": "?", "right": ["7"], "wrong": ["b"]}
  assert "left out 1 row" in capsys.readouterr().err
  nothing = whole | {"correct_answer": None}
  [found] = OPINIONS["columns"]("mine", [nothing])
  assert found["right"] == []
  bases = [{"base": whole | {"question": None}}] * 2 + [{"base": whole}]
  assert len(list(OPINIONS["sycophancy_eval"]("mine", bases))) == 1
  assert capsys.readouterr().err.count("left out 2 rows") == 1
  with pytest.raises(UserError, match="the column 'question' holds a list"):
    list(OPINIONS["columns"]("mine", [whole | {"question": _CHAT}]))
