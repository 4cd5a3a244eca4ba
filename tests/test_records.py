from __future__ import annotations

import json
import random

import pytest

from s2d_jax import records
from s2d_jax.errors import UserError

_ROWS = [{"id": "a", "x": 1}, {"id": "ä", "x": [1.5, None]}]


def test_dumps_is_stable_and_keeps_the_order_of_the_keys():
  assert records.dumps(_ROWS[1]) == '{"id":"ä","x":[1.5,null]}'
  assert records.dumps({"b": 1, "a": 2}) == '{"b":1,"a":2}'


def test_write_replaces_the_file_and_leaves_no_temporary_name(tmp_path):
  path = tmp_path / "folder" / "rows.jsonl"
  records.write(path, [{"old": True}] * 5)
  records.write(path, _ROWS)
  assert list(records.read(path)) == _ROWS
  assert [found.name for found in path.parent.iterdir()] == ["rows.jsonl"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
  path = tmp_path / "rows.jsonl"
  records.write(path, _ROWS)
  before = path.read_bytes()
  with pytest.raises(TypeError):
    records.write(path, [{"fine": 1}, {"not json": object()}])
  assert path.read_bytes() == before
  assert [found.name for found in tmp_path.iterdir()] == ["rows.jsonl"]


def test_read_names_a_missing_file_and_a_broken_line(tmp_path):
  path = tmp_path / "rows.jsonl"
  with pytest.raises(UserError, match=r"rows\.jsonl does not exist"):
    list(records.read(path))
  path.write_text('{"a":1}\n\n{"a":\n')
  with pytest.raises(UserError, match=r"rows\.jsonl, line 3 is not valid"):
    list(records.read(path))
  path.write_text('{"a":1}\n[1]\n')
  with pytest.raises(UserError, match="line 2 is not a JSON object"):
    list(records.read(path))


def test_read_takes_what_other_tools_write(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(b'\xef\xbb\xbf{"a":"\\ud83d"}\r\n{"a":"\\ud83d\\ude00"}')
  assert list(records.read(path)) == [{"a": "\ufffd"}, {"a": "😀"}]
  assert list(records.numbered(path))[1] == (2, {"a": "😀"})
  path.write_text('{"a":"é"}\n', encoding="utf-16")
  with pytest.raises(UserError, match="line 1 is not UTF-8 .*; convert it"):
    list(records.read(path))


@pytest.mark.parametrize(
  "text",
  [
    '"\\\\ud83d"',
    '"\\ud83d\\ude00 \\u00e9"',
    "[NaN, -Infinity, 1e999, -0.0, 5e-324, 0.1, 1.0, 1E5]",
    "[123456789012345678901234567890, -9223372036854775809]",
    "[9007199254740993, 9007199254740993.0, 2.2250738585072011e-308]",
    ' {"a" : 1, "a": {"b": [true, null]}} \r\n',
  ],
)
def test_loads_is_that_of_json_where_no_pair_is_halved(text):
  wanted = json.loads(text)
  for given in (text, text.encode()):
    # As text: NaN differs from itself, and 1 is 1.0.
    assert repr(records.loads(given)) == repr(wanted)


def test_numbers_stay_what_they_are():
  rng = random.Random(0)
  numbers = [
    rng.uniform(-1, 1) * 10 ** rng.randint(-300, 300) for _ in range(99)
  ]
  assert records.loads(records.dumps({"x": numbers})) == {"x": numbers}


def test_an_appender_goes_on_where_another_stopped(tmp_path):
  path = tmp_path / "new" / "rows.jsonl"
  with records.Appender(path) as out:
    assert out.recovered == []
    out.append(_ROWS[0])
    # On the disk at once, not when the file is closed.
    assert path.read_text() == records.dumps(_ROWS[0]) + "\n"
  with records.Appender(path) as out:
    assert out.recovered == _ROWS[:1]
    out.append(_ROWS[1])
  assert list(records.read(path)) == _ROWS


@pytest.mark.parametrize("half", ['{"id":', '{"id":"b"}', "{", "ä"])
def test_an_appender_cuts_off_a_half_line(tmp_path, half):
  """A line is whole with its newline only: `{"x":1` may be half of 12."""
  path = tmp_path / "rows.jsonl"
  records.write(path, _ROWS)
  whole = path.read_bytes()
  path.write_bytes(whole + half.encode())
  with records.Appender(path) as out:
    assert out.recovered == _ROWS
  assert path.read_bytes() == whole


def test_an_appender_recovers_from_a_file_of_half_a_line(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"id"')
  with records.Appender(path) as out:
    assert out.recovered == []
    out.append(_ROWS[0])
  assert list(records.read(path)) == _ROWS[:1]


def test_an_appender_cuts_a_character_that_a_kill_has_split(tmp_path):
  path = tmp_path / "rows.jsonl"
  records.write(path, _ROWS)
  whole = path.read_bytes()
  path.write_bytes(whole + '{"id":"ä'.encode()[:-1])
  with records.Appender(path) as out:
    assert out.recovered == _ROWS
  assert path.read_bytes() == whole


def test_an_appender_refuses_a_broken_line_in_the_middle(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"a":1}\n{"a":\n{"a":3}\n')
  with pytest.raises(UserError, match="line 2 is not valid JSON"):
    records.Appender(path)
  assert path.read_text() == '{"a":1}\n{"a":\n{"a":3}\n'


@pytest.mark.parametrize("tail", ['{"a":', "\0\0", '{"a":3}'])
def test_a_growing_file_ends_with_its_last_whole_line(tmp_path, tail):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"a":1}\n{"a":2}\n' + tail)
  assert list(records.read(path, growing=True)) == [{"a": 1}, {"a": 2}]
  with records.Appender(path) as file:
    assert file.recovered == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"a"', "\0"])
def test_a_file_that_is_no_whole_object(tmp_path, text):
  path = tmp_path / "one.json"
  path.write_text(text)
  with pytest.raises(
    UserError, match=r"one\.json is empty, cut or .*; delete it$"
  ):
    records.read_json(path, "delete it")
