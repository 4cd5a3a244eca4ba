"""Splits of items that are made of rows: questions, pairs of answers.

A data set may hold a question in many rows. Items are split by question, so
that no question of the test split is ever trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import itertools
import random
from typing import Any

from s2d_jax.errors import UserError
from s2d_jax.tasks.cells import Row
from s2d_jax.tasks.sources import read as read_rows

Item = dict[str, Any]
# Makes items of the rows of a source, whose name is for errors.
Convert = Callable[[str, Iterable[Row]], Iterator[Item]]

SPLITS = ("test", "valid", "train")


def read_items(
  converts: Mapping[str, Convert],
  sources: Mapping[str, str | None],
  sizes: Mapping[str, int | None],
  seed: int,
  streaming: bool = False,
) -> dict[str, list[Item]]:
  """Items by split, each with a "question".

  Args:
    converts: by split, how its rows become items.
    sources: by split, its source; a split without one is taken from train.
    sizes: by split, how many; None takes all that are left.
    seed: of the order.
    streaming: take the first rows of a source that are enough, not all.
  """
  limits = _limits(sources, sizes) if streaming else dict.fromkeys(SPLITS)
  found = {
    split: _shuffled(converts[split], source, f"{seed}/{split}", limits[split])
    for split, source in sources.items()
    if source is not None
  }
  splits = {}
  for split in SPLITS:  # train last: it takes what the others leave
    home = split if split in found else "train"
    size, items = sizes[split], found[home]
    chosen = items[:size]
    if len(chosen) < (size or 1):
      raise UserError(
        f"{sources[home]} has {len(chosen)} questions left for the {split}"
        f" split, too few for task.{split}_size={size}; lower the sizes, or"
        " name another source"
      )
    taken = {item["question"] for item in chosen}
    found = {
      name: [item for item in items if item["question"] not in taken]
      for name, items in found.items()
    }
    splits[split] = chosen
  return splits


def check(
  sources: Mapping[str, str | None], sizes: Mapping[str, int | None]
) -> None:
  """Raises UserError for sizes that cannot be."""
  for split, size in sizes.items():
    if size is None and split != "train" and sources[split] is None:
      raise UserError(
        f"task.{split}_size must be a number, as task.{split} names no source"
        " and its examples are cut from task.train"
      )
    if size is not None and size < 1:
      raise UserError(f"task.{split}_size={size} must be at least one")


def _limits(
  sources: Mapping[str, str | None], sizes: Mapping[str, int | None]
) -> dict[str, int | None]:
  """Items that the source of each split has to give; None: all of them."""
  limits = dict(sizes)
  for split in SPLITS:
    if sources[split] is None and limits["train"] is not None:
      limits["train"] += sizes[split]
  return limits


def _shuffled(
  convert: Convert, source: str, seed: str, limit: int | None
) -> list[Item]:
  """All items, those of one question together."""
  rows = read_rows(source, ahead=limit, streaming=limit is not None)
  groups: dict[str, list[Item]] = {}
  for item in itertools.islice(convert(source, rows), limit):
    groups.setdefault(item["question"], []).append(item)
  order = list(groups)
  random.Random(seed).shuffle(order)
  return [item for question in order for item in groups[question]]
