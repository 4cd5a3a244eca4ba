"""Rows of every kind of source, and the sentence for every kind of mistake."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import datasets
import pytest

from s2d_jax.errors import UserError
from s2d_jax.tasks import cells, sources

ROWS = [{"question": f"Why {i}, é?", "answer": str(i)} for i in range(5)]


def rows_of(source, limit=None, **options):
  return list(itertools.islice(sources.read(str(source), **options), limit))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write_jsonl(path, rows=ROWS):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def write_csv(path):
  lines = ["question,answer", *(f'"Why {i}, é?",{i}' for i in range(5))]
  path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
  return path


def write_json(path):
  path.write_text(json.dumps(ROWS))
  return path


def write_parquet(path):
  datasets.Dataset.from_list(ROWS).to_parquet(str(path))
  return path


@pytest.mark.parametrize(
  "ending, write",
  [
    ("jsonl", write_jsonl),
    ("csv", write_csv),
    ("json", write_json),
    ("parquet", write_parquet),
  ],
)
def test_files(tmp_path, ending, write):
  path = write(tmp_path / f"rows.{ending}")
  assert rows_of(path) == ROWS
  assert rows_of(path, limit=2) == ROWS[:2]


def test_several_files(tmp_path):
  write_jsonl(tmp_path / "b.jsonl", ROWS[3:])
  write_jsonl(tmp_path / "a.jsonl", ROWS[:3])
  assert rows_of(tmp_path / "*.jsonl") == ROWS


@pytest.mark.parametrize("name", ["q[1].jsonl", "q[!a].jsonl", "q*?.jsonl"])
def test_a_file_whose_name_looks_like_a_pattern(tmp_path, name):
  write_jsonl(tmp_path / name, ROWS[:1])
  write_jsonl(tmp_path / "q1.jsonl", ROWS[1:])
  assert rows_of(tmp_path / name) == ROWS[:1]


def test_a_pattern_with_brackets(tmp_path):
  write_jsonl(tmp_path / "q1.jsonl", ROWS[:1])
  write_jsonl(tmp_path / "q2.jsonl", ROWS[1:])
  assert rows_of(tmp_path / "q[12].jsonl") == ROWS


def test_a_saved_data_set_of_hugging_face(tmp_path):
  datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
  assert rows_of(f"hf:{tmp_path}/one") == ROWS
  splits = {"train": ROWS[:3], "test": ROWS[3:]}
  datasets.DatasetDict(
    {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
  ).save_to_disk(tmp_path / "two")
  assert rows_of(f"hf:{tmp_path}/two:test") == ROWS[3:]
  assert rows_of(f"hf:{tmp_path}/two:train[1:]") == ROWS[1:3]
  assert rows_of(f"hf:{tmp_path}/one:train[:2]") == ROWS[:2]
  for split in ("dev", "train[x", ""):
    with pytest.raises(UserError, match="it has train, test"):
      rows_of(f"hf:{tmp_path}/two:{split}")
  # Not silently all of it: test and train would be the same rows.
  with pytest.raises(UserError, match="no split 'test'; it has train"):
    rows_of(f"hf:{tmp_path}/one:test")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_repository_of_hugging_face(tmp_path, streaming, monkeypatch):
  """A folder of files is a repository, too: loaded by name, config, split."""
  monkeypatch.setattr(
    datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache")
  )
  repo = tmp_path / "repo"
  (repo / "data").mkdir(parents=True)
  write_jsonl(repo / "data" / "train.jsonl")
  write_jsonl(repo / "data" / "test.jsonl", ROWS[:1])
  (repo / "README.md").write_text(
    "---\nconfigs:\n- config_name: main\n  data_files:\n"
    "  - split: train\n    path: data/train.jsonl\n"
    "  - split: test\n    path: data/test.jsonl\n---\n"
  )
  source = f"hf:{repo}:main:train"
  assert rows_of(source, limit=3, streaming=streaming) == ROWS[:3]
  assert rows_of(f"hf:{repo}:main:test", streaming=streaming) == ROWS[:1]
  if not streaming:
    assert rows_of(f"hf:{repo}:main:train[1:3]") == ROWS[1:3]


_TFDS = """
import sys
import tensorflow_datasets as tfds

class TinyQuestions(tfds.core.GeneratorBasedBuilder):
  '''Questions.'''
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict({"question": text, "answer": text})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, manager):
    return {"train": ((i, {"question": f"Why {i}, é?", "answer": str(i)})
                      for i in range(5))}

  def _generate_examples(self):
    pass

builder = TinyQuestions(data_dir=sys.argv[1], file_format="array_record")
builder.download_and_prepare()
"""

_READ = """
import json, sys
from s2d_jax.tasks import sources
rows = list(sources.read(sys.argv[1]))
assert "tensorflow" not in sys.modules
print(json.dumps(rows))
"""


def test_tensorflow_datasets_without_tensorflow(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  run = lambda code, argument: subprocess.run(
    [sys.executable, "-c", code, str(argument)],
    check=True,
    capture_output=True,
    text=True,
  )
  run(_TFDS, tmp_path)
  found = json.loads(run(_READ, "tfds:tiny_questions:train").stdout)
  in_order = sorted(found, key=lambda row: row["answer"])
  assert in_order == ROWS
  with pytest.raises(UserError, match="names no split"):
    rows_of("tfds:tiny_questions")
  with pytest.raises(UserError, match="no_such_set:train cannot be loaded"):
    rows_of("tfds:no_such_set:train")


def test_a_function(tmp_path, monkeypatch):
  (tmp_path / "my_rows.py").write_text(
    "def make():\n  yield {'question': 'Why?'}\n\ndef bad():\n  yield 3\n"
    "\ndef none():\n  pass\n\nvalue = 3\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  assert rows_of("python:my_rows:make") == [{"question": "Why?"}]
  with pytest.raises(UserError, match="yields int, not dicts"):
    rows_of("python:my_rows:bad")
  with pytest.raises(UserError, match="gives NoneType; it must yield rows"):
    rows_of("python:my_rows:none")
  with pytest.raises(UserError, match="my_rows:value is 3, not a function"):
    rows_of("python:my_rows:value")
  with pytest.raises(UserError, match="my_rows:gone cannot be imported"):
    rows_of("python:my_rows:gone")


@pytest.mark.parametrize(
  "name, content, named",
  [
    ("none.jsonl", None, "none.jsonl does not exist"),
    ("rows.txt", "x", "ends in .jsonl, .json, .csv, .parquet"),
    ("rows.jsonl", "", "rows.jsonl has no rows"),
    ("rows.jsonl", '{"a": 1}\n{"a"\n', "line 2 is not valid JSON"),
    ("rows.csv", "a,b\n1,2\n1,2,3\n", "line 3 has not the 2 columns"),
    ("rows.csv", "a,b\n1,2\n1\n", "line 3 has not the 2 columns"),
    ("rows.csv", "a,a\n1,2\n", "two columns of one name"),
    ("rows.csv", b"a\n\xe9\n", "rows.csv is not UTF-8"),
    ("rows.json", "{}", "is not a list of objects"),
    ("rows.json", "[", "rows.json is not valid JSON"),
    ("rows.json", '["é"]'.encode("utf-16"), "rows.json is not UTF-8"),
    ("rows.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', "line 2 is not UTF-8"),
    ("rows.csv", "a,,b\n1,2\n", "line 2 has not the 3 columns"),
    ("rows.csv", "a,b,\n1,2,\n1,2,,3\n", "line 3 has not the 3 columns"),
    ("rows.parquet", "nonsense", "is not a Parquet file"),
  ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, named):
  if content is not None:
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=named):
    rows_of(tmp_path / name)


@pytest.mark.parametrize(
  "source, named",
  [
    ("s3:bucket", "there is no source 's3'"),
    ("hf:only-a-name", "must be hf:REPO:SPLIT"),
    ("hf:nobody/nothing:train", "nobody/nothing:train cannot be loaded"),
  ],
)
def test_sources_there_are_not(source, named):
  with pytest.raises(UserError, match=named):
    rows_of(source)


def test_missing_columns_are_told_with_those_there_are():
  with pytest.raises(UserError, match="'label'; it has question, answer"):
    cells.need_columns("x.csv", ROWS[0], ("question", "label"))
  cells.need_columns("x.csv", ROWS[0], ("question", "answer"))
