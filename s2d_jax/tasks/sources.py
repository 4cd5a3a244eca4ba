"""Where rows come from: files, Hugging Face, TFDS, functions; one interface.

    path.jsonl  path.json  path.csv  path.parquet      a file, or a glob
    hf:REPO:SPLIT  hf:REPO:CONFIG:SPLIT                Hugging Face `datasets`
    hf:FOLDER  hf:FOLDER:SPLIT                         what `save_to_disk` wrote
    tfds:NAME:SPLIT  tfds:NAME/CONFIG:SPLIT            TensorFlow Datasets
    python:package.module:function                     a generator of rows

Rows are dictionaries by column, in the form that `cells` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import csv
import glob
import os
import re

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.functions import function
from s2d_jax.tasks.cells import Row, numbered, tidy


def read(
  source: str, *, ahead: int | None = None, streaming: bool = False
) -> Iterator[Row]:
  """Yields the rows of a source.

  Args:
    source: as in the table above.
    ahead: rows to read before the first is given; see `tidy`. None: all.
    streaming: read a data set of the Hub row by row, without a download of it
      all.

  Raises:
    UserError: there is no such source, it has no rows, or a row is damaged.
  """
  prefix, colon, rest = source.partition(":")
  if colon and prefix == "hf":
    rows = _hugging_face(rest, streaming)
  elif colon and prefix in _READERS:
    rows = _READERS[prefix](rest)
  elif colon and "/" not in prefix and "://" not in source:
    raise UserError(
      f"{source!r}: there is no source {prefix!r}; there are hf:, tfds:,"
      " python: and paths of .jsonl, .json, .csv and .parquet files"
    )
  else:
    rows = _files(source)
  empty = True
  for row in tidy(numbered(source, rows), ahead):
    empty = False
    yield row
  if empty:
    raise UserError(f"{source} has no rows; name another source")


# Files.


def _files(pattern: str) -> Iterator[Row]:
  # A file's own name may look like a pattern: q[1].jsonl.
  is_name = os.path.exists(pattern)
  paths = [] if is_name else sorted(glob.glob(pattern))
  for path in paths or [pattern]:
    ending = os.path.splitext(path)[1].lower()
    if ending not in _FILES:
      raise UserError(
        f"{path}: a file of rows ends in {', '.join(_FILES)}; data sets begin"
        " with hf: or tfds:, functions with python:"
      )
    if not os.path.isfile(path):
      raise UserError(f"{path} does not exist; give the path of a file of rows")
    yield from _FILES[ending](path)


def _json_lines(path: str) -> Iterator[Row]:
  for number, record in records.numbered(path):
    yield Row(record, f"{path}, line {number}")


def _json(path: str) -> Iterator[Row]:
  try:
    with open(path, encoding="utf-8-sig") as file:
      rows = records.loads(file.read())
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is not UTF-8 ({error}); convert it") from None
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path} is not valid JSON ({error}); fix it") from None
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise UserError(f"{path} is not a list of objects; use one, or JSON Lines")
  yield from numbered(path, rows)


_LONGEST_CELL = 2**31 - 1  # characters; all that csv can be told everywhere


def _csv(path: str) -> Iterator[Row]:
  csv.field_size_limit(_LONGEST_CELL)
  with open(path, encoding="utf-8-sig", newline="") as file:
    lines = csv.reader(file, strict=True)
    try:
      yield from _csv_rows(path, lines)
    except UnicodeDecodeError as error:
      raise UserError(f"{path} is not UTF-8 ({error}); convert it") from None
    except csv.Error as error:
      raise UserError(
        f"{path}, line {lines.line_num} is not valid CSV ({error}); fix it"
      ) from None


def _csv_rows(path: str, lines) -> Iterator[Row]:
  """The rows below the head; a spreadsheet's blank ones may be of any width."""
  head = next(lines, [])
  width = len(head)
  while head and not head[-1].strip():  # it adds columns without a name, too
    head.pop()
  _check_names(path, head)
  end = lines.line_num
  for cells in lines:
    line, end = end + 1, lines.line_num
    if not cells:
      continue
    if len(cells) < width and not any(cell.strip() for cell in cells):
      cells = [""] * width
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
      raise UserError(
        f"{path}, line {end} has not the {width} columns of the head; fix that"
        " line"
      )
    yield Row(zip(head, cells, strict=False), f"{path}, line {line}")


def _check_names(path: str, names: Sequence[str]) -> None:
  if len(set(names)) < len(names):
    raise UserError(
      f"{path} has two columns of one name ({', '.join(names)}); rename one"
    )


def _parquet(path: str) -> Iterator[Row]:
  import pyarrow as pa
  from pyarrow import parquet

  try:
    file = parquet.ParquetFile(path)
    _check_names(path, file.schema_arrow.names)
    rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
    yield from numbered(path, rows)
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is not UTF-8 ({error}); convert it") from None
  except (pa.ArrowInvalid, OSError) as error:
    reason = " ".join(str(error).split())
    raise UserError(f"{path} is not a Parquet file ({reason})") from None


_FILES: dict[str, Callable[[str], Iterator[Row]]] = {
  ".jsonl": _json_lines,
  ".json": _json,
  ".csv": _csv,
  ".parquet": _parquet,
}


# Data sets. The libraries take seconds to import, so only when they are used.

_COLON = re.compile(r":(?![^\[]*\])")  # but not that of a slice: train[:100]


def _hugging_face(name: str, streaming: bool) -> Iterator[Mapping]:
  import datasets

  folder, _, split = name.partition(":")
  if os.path.isdir(folder) and _is_saved(folder):
    yield from _saved(folder, split)
    return
  parts = _COLON.split(name)
  if len(parts) not in (2, 3):
    raise UserError(
      f"hf:{name} must be hf:REPO:SPLIT or hf:REPO:CONFIG:SPLIT, for instance"
      " hf:openai/gsm8k:main:train"
    )
  repo, *config, split = parts
  try:
    yield from datasets.load_dataset(
      repo, *config, split=split, streaming=streaming
    )
  except Exception as error:  # its errors have no common type
    reason = " ".join(str(error).split())[:300]
    raise UserError(
      f"hf:{name} cannot be loaded ({type(error).__name__}: {reason}); check"
      " the name, config and split, or use a local file; without a network,"
      " HF_HOME must name a cache that has the data set"
    ) from None


def _is_saved(folder: str) -> bool:
  marks = ("dataset_info.json", "dataset_dict.json")
  return any(os.path.exists(os.path.join(folder, mark)) for mark in marks)


def _saved(folder: str, split: str) -> Iterator[Mapping]:
  import datasets

  found = datasets.load_from_disk(folder)
  if not isinstance(found, datasets.DatasetDict):
    if not split:
      yield from found
      return
    found = {str(found.split or "train"): found}  # what `datasets` calls it
  lengths = {name: len(rows) for name, rows in found.items()}
  try:
    chosen = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
  except ValueError:
    raise UserError(
      f"hf:{folder} has no split {split!r}; it has {', '.join(found)}: write"
      f" hf:{folder}:{next(iter(found))}, or a slice of it"
    ) from None
  for part in chosen:
    yield from found[part.splitname].select(range(part.from_, part.to))


def _tfds(name: str) -> Iterator[Mapping]:
  import tensorflow_datasets as tfds

  if len(_COLON.split(name)) != 2:
    raise UserError(
      f"tfds:{name} names no split; write tfds:NAME:SPLIT, for instance"
      " tfds:trivia_qa/rc.nocontext:train"
    )
  name, split = _COLON.split(name)
  try:
    rows = tfds.data_source(
      name, split=split, data_dir=os.environ.get("TFDS_DATA_DIR")
    )
  except Exception as error:  # its errors have no common type
    reason = " ".join(str(error).split())[:300]
    raise UserError(
      f"tfds:{name}:{split} cannot be loaded ({type(error).__name__}:"
      f" {reason}); check the name and split, and that TFDS_DATA_DIR names a"
      " folder that has it in a random-access format (array_record)"
    ) from None
  for index in range(len(rows)):
    yield rows[index]


def _python(name: str) -> Iterator[Mapping]:
  rows = function(name)()
  if not isinstance(rows, Iterable):
    raise UserError(
      f"python:{name} gives {type(rows).__name__}; it must yield rows"
    )
  for row in rows:
    if not isinstance(row, dict):
      raise UserError(f"python:{name} yields {type(row).__name__}, not dicts")
    yield row


_READERS: dict[str, Callable[[str], Iterator[Mapping]]] = {
  "tfds": _tfds,
  "python": _python,
}
