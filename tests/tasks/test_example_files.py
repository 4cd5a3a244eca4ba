"""Examples that are read from their files when they are asked for."""

from __future__ import annotations

import tracemalloc

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.tasks.example_files import ExampleFiles
from s2d_jax.tasks.task import Example, read_examples


def _write(path: epath.Path, *names: str, text: str = "Why?") -> epath.Path:
  examples = (Example(name, "custom", {"text": text}) for name in names)
  records.write(path, (example.to_record() for example in examples))
  return path


@pytest.fixture
def paths(tmp_path) -> list[epath.Path]:
  """Two files; the first has blank lines, and what other editors write."""
  first = _write(epath.Path(tmp_path / "first.jsonl"), "ä", "b", "c")
  lines = first.read_bytes().splitlines()
  first.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n\r\n".join(lines))
  return [first, _write(epath.Path(tmp_path / "second.jsonl"), "d", "e")]


def test_they_are_a_list_of_what_the_files_hold(paths):
  wanted = [one for path in paths for one in read_examples(path)]
  found = ExampleFiles(*paths)
  assert list(found) == wanted and len(found) == 5
  assert [found[number] for number in (4, 0, 3, -1)] == [
    wanted[number] for number in (4, 0, 3, -1)
  ]
  assert found[1:4] == wanted[1:4] and found[::2] == wanted[::2]
  assert found.ids.to_pylist() == [*"äbcde"] and found.edges == [0, 3, 5]
  with pytest.raises(IndexError):
    found[5]


def test_an_id_that_is_there_twice_is_named(paths):
  _write(paths[1], "d", "b")
  with pytest.raises(
    UserError, match=r"first.* and .*second\.jsonl both have an example 'b'"
  ):
    ExampleFiles(*paths)
  _write(paths[1], "d", "e", "d")
  with pytest.raises(UserError, match="records 1 and 3 have the same id 'd'"):
    ExampleFiles(*paths)


def test_a_file_without_examples(paths):
  paths[1].write_text("\n")
  with pytest.raises(UserError, match=r"second\.jsonl has no examples"):
    ExampleFiles(*paths)


def test_some_bytes_of_each_are_in_memory(tmp_path):
  """Eight, and its id with four more; once they are read no others are left."""
  names = [f"train/{number:05d}" for number in range(20_000)]
  path = _write(epath.Path(tmp_path / "many.jsonl"), *names, text="x" * 500)
  tracemalloc.start()
  try:
    found = ExampleFiles(path)
    held, most = tracemalloc.get_traced_memory()
    assert found[12_345].id == names[12_345]
  finally:
    tracemalloc.stop()
  assert held < 35 * len(names)
  assert most < 100 * len(names)
