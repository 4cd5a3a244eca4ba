"""Records in an order, compared with those that Python sorts in its memory."""

from __future__ import annotations

import random

from etils import epath
import pytest

from s2d_jax import ordered, records
from s2d_jax.errors import UserError
from s2d_jax.ordered import Order, Part

_IDS = ["b", "c", "ä", "a\"'[0]"]  # in the order of their examples
_ORDER = Order(
  ("id", "variant", "number"),
  'example NULLS LAST, id, variant, "number"::BIGINT',
  {"example": {"id": _IDS}},
)


def _key(row):
  place = _IDS.index(row["id"]) if row["id"] in _IDS else len(_IDS)
  return place, row["id"], row["variant"], row["number"]


@pytest.fixture
def rows():
  """In no order: numbers of two digits, names from elsewhere."""
  made = [
    {"id": one, "variant": variant, "number": number, "text": text}
    for one in [*_IDS, "unknown", "Unknown"]
    for variant in ("plain", "Plain")
    for number, text in enumerate(["\u2028\0\t", 'a "b" {', "😀"] * 4)
  ]
  random.Random(0).shuffle(made)
  return made


@pytest.fixture
def parts(rows, tmp_path):
  found = []
  for index in range(3):
    path = epath.Path(tmp_path / f"part-{index}.jsonl")
    records.write(path, rows[index::3])
    found.append(Part(path))
  return found


def test_records_are_sorted_as_by_python(rows, parts):
  assert list(ordered.read(parts, _ORDER)) == sorted(rows, key=_key)
  known = [row for row in sorted(rows, key=_key) if row["id"] in _IDS]
  assert list(ordered.read(parts, _ORDER, only="example")) == known


def test_lines_stay_as_they_are(tmp_path):
  """Spaces, escapes and line ends of other tools; half a surrogate pair."""
  written = [
    b'{"number": 2, "id":"b", "variant":"x"}',
    b'{"id":"\\u0063","number":1,"variant":"x","text":"\\ud83d"}',
    b'{"variant":"x","id":"b","number":1.0}',
  ]
  path = epath.Path(tmp_path / "rows.jsonl")
  path.write_bytes(
    b"\xef\xbb\xbf" + b"\r\n\n\r\n".join(written) + b'\n{"id":"a'
  )
  order = Order(("id", "number"), 'id, "number"::DOUBLE')
  found = list(ordered.lines([Part(path)], order))
  # The mark of the file's beginning stands before its first line.
  assert found == [written[2], b"\xef\xbb\xbf" + written[0], written[1]]
  texts = [row.get("text") for row in ordered.read([Part(path)], order)]
  assert texts == [None, None, "\ufffd"]


def test_what_does_not_fit_the_memory_is_sorted(tmp_path, monkeypatch):
  """Ranks are looked up before anything is sorted; both together do not fit."""
  monkeypatch.setattr(ordered, "_MEMORY", "48MB")
  ids = [f"example/{number:09d}" for number in range(10**5)]
  rows = [{"id": one, "number": number} for one in ids for number in range(4)]
  shuffled = random.Random(0).sample(rows, len(rows))
  path = epath.Path(tmp_path / "rows.jsonl")
  records.write(path, shuffled)
  order = Order(("id", "number"), 'place, "number"', {"place": {"id": ids}})
  assert list(ordered.read([Part(path)], order)) == rows


def test_names_and_sizes_are_found_without_the_lines(rows, parts):
  wanted = {(row["id"], row["variant"], str(row["number"])) for row in rows}
  assert ordered.names(parts, _ORDER) == wanted
  sizes = ordered.group_sizes(parts, _ORDER, ("id",))
  assert list(sizes) == [24] * 6
  copied = [*parts, parts[0]]
  assert list(ordered.group_sizes(copied, _ORDER, ("id",))) == [24] * 6


def test_a_file_is_read_as_far_as_it_was_when_it_was_seen(rows, parts):
  path = parts[0].path
  seen = Part(path, path.stat().length)
  with path.open("ab") as file:
    file.write(b'{"id":"b","variant":"z","number":0}\n{"id":')
  assert list(ordered.read([seen, *parts[1:]], _ORDER)) == sorted(
    rows, key=_key
  )


def test_no_file_and_no_record(tmp_path):
  path = epath.Path(tmp_path / "rows.jsonl")
  path.write_bytes(b"")
  for parts in ([], [Part(path)]):
    assert not list(ordered.read(parts, _ORDER))
    assert not ordered.names(parts, _ORDER)


@pytest.mark.parametrize(
  "line, told",
  [
    (b'{"id":', "not valid"),
    (b"[1]", "not a JSON object"),
    (b"7", "not a JSON object"),
    (b"\xff", "not UTF-8"),
  ],
)
def test_a_broken_line_is_named(rows, parts, line, told):
  path = parts[1].path
  path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
  number = len(rows) // 3 + 1
  with pytest.raises(UserError, match=f"part-1.*line {number} is {told}"):
    list(ordered.read(parts, _ORDER))
