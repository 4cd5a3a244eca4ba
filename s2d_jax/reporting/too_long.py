"""What the page says of rows that were too long."""

from __future__ import annotations

from collections.abc import Sequence

from s2d_jax.curation.long_rows import (
  MOST_NAMED,
  REASON,
  counted,
  is_too_long,
  listed,
)
from s2d_jax.evaluation.controls import replies_of
from s2d_jax.records import Record
from s2d_jax.reporting.run_files import Run


def left_out(run: Run) -> str | None:
  """Of inputs that are not taught, and samples that came to no end."""
  votes = run.votes
  long = votes.in_order(one for one in votes.places if one.reason == REASON)
  said = []
  if long:
    first = votes.read(long[:MOST_NAMED]).values()
    said.append(
      f"Left out as too long for the model’s window or a row of the fine-tune:"
      f" {counted(len(long), 'input')} {listed(map(_name, first), len(long))},"
      " all of them in distill/rejected.jsonl."
    )
  count = run.voting.get("cut_short", 0)
  if count:
    said.append(
      f"Without an answer, as a reply made the next prompt too long:"
      f" {counted(count, 'sample')}."
    )
  return " ".join(said) or None


def not_answered(rows: Sequence[Record], split: str) -> str | None:
  """Of inputs that could not be asked, but are not left out of any figure.

  Args:
    rows: of eval/.
    split: test or valid.
  """
  long = [row for row in rows if any(map(is_too_long, replies_of(row)))]
  if not long:
    return None
  total = len({(row["example_id"], row["variant"]) for row in rows})
  count = len({(row["example_id"], row["variant"]) for row in long})
  return (
    f"Of {total:,} {split} inputs {count:,} had a prompt that does not fit the"
    f" model’s window {_names(long)}: they count as not answered, and so as"
    " wrong."
  )


def _names(records: Sequence[Record]) -> str:
  return listed(map(_name, records))


def _name(record: Record) -> str:
  return f"{record['example_id']}/{record['variant']}"
