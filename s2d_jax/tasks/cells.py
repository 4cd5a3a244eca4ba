"""What stands in the cells of a row: a text, a number, or nothing.

Tables say one thing in many ways. Nothing is null, NaN or a blank; a gap in a
column of whole numbers turns 3 into 3.0; Parquet and TFDS have text as bytes.
`tidy` brings the rows of any source to one form, and `text` is the only way
from a cell to what a model reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
import datetime
import decimal
import itertools
import re
import sys
from typing import Any

from s2d_jax import records
from s2d_jax.errors import UserError


class Row(dict[str, Any]):
  """A row by column; `place` says where it stands: "q.csv, line 7"."""

  def __init__(self, cells: Mapping[Any, Any], place: str):
    super().__init__(cells)
    self.place = place


def numbered(source: str, rows: Iterable[Mapping[Any, Any]]) -> Iterator[Row]:
  """Rows with their places; those that have none are counted."""
  for number, row in enumerate(rows, start=1):
    has_place = isinstance(row, Row)
    yield row if has_place else Row(row, f"{source}, row {number}")


def need_columns(
  source: str, row: Mapping[str, Any], wanted: Collection[str]
) -> None:
  """Raises UserError, with the columns there are, if one is missing."""
  missing = [name for name in wanted if name not in row]
  if missing:
    raise UserError(
      f"{source} has no column {missing[0]!r}; it has"
      f" {', '.join(map(str, row))}; rename one, or name it in the config where"
      " the task has columns"
    )


# From any source to one form.


def tidy(rows: Iterable[Row], ahead: int | None) -> Iterator[Row]:
  """Rows of one form: all columns in each, None for nothing, 3 for 3.0.

  Args:
    rows: of one source.
    ahead: rows to look at before the first is given, to know which columns
      there are and which hold whole numbers; None: all.
  """
  rows = (_plain_row(row) for row in rows)
  first = list(itertools.islice(rows, ahead))
  empty = dict.fromkeys(name for row in first for name in row)
  # Spreadsheets add blank rows: those are no gaps.
  told = [row for row in first if not all(map(is_blank, row.values()))]
  whole = [name for name in empty if _are_whole(row.get(name) for row in told)]
  for row in itertools.chain(first, rows):
    changed = {name: _whole(row[name]) for name in whole if name in row}
    yield Row(empty | row | changed, row.place)


def _plain_row(row: Row) -> Row:
  cells = {str(name): _plain(value) for name, value in row.items()}
  return Row(cells, row.place)


def _plain(value: Any) -> Any:
  """Bytes as text, arrays as lists, and None for what is no value."""
  if isinstance(value, str | int | None):
    return value
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      return value  # an image, say, which nobody need ask for
  if isinstance(value, Mapping):
    return {str(name): _plain(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  return None if _is_missing(value) else value


def _is_missing(value: Any) -> bool:
  if type(value).__name__ == "NAType":  # of pandas: not even equal to itself
    return True
  if isinstance(value, decimal.Decimal):
    return value.is_nan()
  return isinstance(value, float | datetime.datetime) and value != value


_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)")
_WHOLE = re.compile(rf"\s*({_INTEGER.pattern})\.0+\s*")
_MOST = 2**53  # beyond it, floats are not exact


def _are_whole(cells: Iterable[Any]) -> bool:
  """Whether a column holds whole numbers that were written as floats.

  Text such as "3.0" may be meant as it stands (a version), unless gaps show
  where the point comes from.
  """
  kinds = set()
  for value in cells:
    if is_blank(value):
      kinds.add("gap")
    elif isinstance(value, str) and _WHOLE.fullmatch(value):
      kinds.add("text")
    elif isinstance(value, float) and value.is_integer() and abs(value) < _MOST:
      kinds.add("float")
    elif type(value) is not int and not (
      isinstance(value, str) and _INTEGER.fullmatch(value)
    ):
      return False
  return "float" in kinds if "text" not in kinds else kinds == {"gap", "text"}


def _whole(value: Any) -> Any:
  if isinstance(value, str) and (found := _WHOLE.fullmatch(value)):
    return str(int(found[1]))
  if isinstance(value, float) and value.is_integer():
    return int(value)
  return value


# From a cell to text.


def is_blank(value: Any) -> bool:
  """Whether a cell holds nothing, or nothing but space."""
  return value is None or (isinstance(value, str) and not value.strip())


def filled(
  source: str, rows: Iterable[Mapping[str, Any]], columns: Collection[str]
) -> Iterator[Row]:
  """The rows with something in each of these columns; counts the others."""
  left_out = []
  try:
    for row in numbered(source, rows):
      need_columns(source, row, columns)
      blank = [name for name in columns if is_blank(row[name])]
      if blank:
        left_out.append((blank[0], row.place))
      else:
        yield row
  finally:  # whoever reads may have enough before the end
    if left_out:
      column, place = left_out[0]
      rows = "1 row" if len(left_out) == 1 else f"{len(left_out)} rows"
      print(
        f"{source}: left out {rows} without a question; the first is {place},"
        f" with nothing in {column!r}",
        file=sys.stderr,
      )


_SCALARS = (
  str, int, float, decimal.Decimal, datetime.date, datetime.time,
)  # fmt: skip


def text(row: Row, column: str) -> str:
  """What a cell says."""
  return _text(row, column, row[column])


def texts(row: Row, column: str) -> list[str]:
  """What a cell says that holds a text, a list of texts, or nothing."""
  value = row[column]
  values = value if isinstance(value, list | tuple) else [value]
  return [_text(row, column, v) for v in values if not is_blank(_plain(v))]


def _text(row: Row, column: str, value: Any) -> str:
  value = _plain(value)
  if value is None:
    raise UserError(
      f"{row.place} has nothing in the column {column!r}; fill it, or leave"
      " out the row"
    )
  if isinstance(value, bytes):
    raise UserError(
      f"{row.place}: the column {column!r} holds bytes that are not text in"
      " UTF-8; convert it, or name another column"
    )
  if not isinstance(value, _SCALARS):
    raise UserError(
      f"{row.place}: the column {column!r} holds a {type(value).__name__}, not"
      " a text; name a column of text, or make one of it in a function and"
      " read that with python:"
    )
  if isinstance(value, float) and "e" in repr(value):
    return f"{decimal.Decimal(repr(value)):f}"  # 1e+16 in digits
  return records.without_surrogates(str(value))
