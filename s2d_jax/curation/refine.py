"""Accepted inputs that are left out of the training set all the same."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import hashlib

from s2d_jax import records
from s2d_jax.curation.long_rows import REASON
from s2d_jax.records import Record

KeptAndDropped = tuple[list[Record], list[Record]]


def drop_long(
  accepted: Sequence[Record], lengths: Sequence[int], most: int
) -> KeptAndDropped:
  """Keeps the records of at most `most` tokens; the others are "too long".

  Args:
    accepted: records of distill/.
    lengths: of each, tokens of prompt and target.
    most: that a row of the fine-tune holds.
  """
  kept, dropped = [], []
  for record, length in zip(accepted, lengths, strict=True):
    if length > most:
      dropped.append(record | {"reason": REASON, "too_long": length})
    else:
      kept.append(record)
  return kept, dropped


def deduplicate(accepted: Sequence[Record]) -> KeptAndDropped:
  """Keeps the first record of each prompt; the others are "duplicate"."""
  kept, dropped, seen = [], [], set()
  for record in accepted:
    prompt = records.dumps({"prompt": record["prompt"]})
    if prompt in seen:
      dropped.append(record | {"reason": "duplicate"})
    else:
      seen.add(prompt)
      kept.append(record)
  return kept, dropped


def balance(accepted: Sequence[Record]) -> KeptAndDropped:
  """Keeps as many records of each target as there are of the rarest.

  Which ones are kept is drawn by their names, so that it depends on nothing
  else; the others are "balance".
  """
  groups = collections.defaultdict(list)
  for index, record in enumerate(accepted):
    groups[record["target"]].append(index)
  size = min(map(len, groups.values()), default=0)
  chosen = set()
  for group in groups.values():
    group.sort(key=lambda index: _random_rank(accepted[index]))
    chosen.update(group[:size])
  kept = [r for index, r in enumerate(accepted) if index in chosen]
  dropped = [
    r | {"reason": "balance"}
    for index, r in enumerate(accepted)
    if index not in chosen
  ]
  return kept, dropped


def _random_rank(record: Record) -> str:
  name = f"{record['example_id']}\x1f{record['variant']}"
  return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
