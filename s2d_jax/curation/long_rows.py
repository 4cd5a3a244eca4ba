"""Rows that are too long for the model or for the fine-tune.

Nothing is ever cut. What does not fit is left out, counted and named, or ends
the run. If it is more than half of the rows, a setting is wrong, and the run
ends in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import itertools
from typing import Literal, NamedTuple

from s2d_jax.errors import UserError
from s2d_jax.records import Record

TooLong = Literal["drop", "stop"]

REASON = "too long"  # in distill/rejected.jsonl
MOST_NAMED = 3


class LongRow(NamedTuple):
  """A row, and what of it does not fit.

  Attributes:
    example_id, variant: of the input.
    size: what there is, such as "a prompt of 300 tokens".
    limit: what it does not fit, such as "the model's window of 256".
  """

  example_id: str
  variant: str
  size: str
  limit: str

  @property
  def name(self) -> str:
    return f"{self.example_id}/{self.variant}"

  def __str__(self) -> str:
    return f"{self.name}: {self.size} do not fit {self.limit}"


def check(
  long: Sequence[LongRow], total: int, rows: str, too_long: TooLong
) -> None:
  """Lets rows be left out, or raises.

  Args:
    long: the rows that do not fit.
    total: how many rows there are.
    rows: what they are, for the sentence: "train inputs".
    too_long: what the config says.

  Raises:
    UserError: there is one and `too_long` is "stop", or they are more than
      half of the rows.
  """
  if too_long == "stop" and long:
    raise UserError(
      f"{long[0]}, as {len(long):,} of {total:,} {rows}; shorten them, raise"
      " the limit, or leave them out with config.too_long='drop'"
    )
  if 2 * len(long) > total:
    raise UserError(
      f"{len(long):,} of {total:,} {rows} are too long, too many to be left"
      f" out ({long[0]}); shorten them, or raise the limit"
    )


def counted(count: int, noun: str) -> str:
  """As "1 input", "2 inputs"."""
  return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Iterable[str], total: int | None = None) -> str:
  """Names in brackets, the first few of many.

  Args:
    names: all of them, or the first few.
    total: how many there are, if these are not all.
  """
  names = list(dict.fromkeys(names))
  named = ", ".join(itertools.islice(names, MOST_NAMED))
  more = (len(names) if total is None else total) - MOST_NAMED
  return f"({named} and {more:,} more)" if more > 0 else f"({named})"


def is_too_long(record: Record) -> bool:
  """Whether a sample ended at a prompt that did not fit."""
  return record.get("too_long") is not None


def is_cut_short(sample: Record) -> bool:
  """Whether it did so behind a reply, which nobody could know before."""
  return is_too_long(sample) and bool(sample["steps"])
