"""What becomes of accepted inputs: some are left out, or targets shuffled."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import hashlib

from s2d_jax import records
from s2d_jax.curation.long_rows import REASON
from s2d_jax.int_set import IntSet
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


def deduplicate(
  accepted: Sequence[Record], seen: IntSet | None = None
) -> KeptAndDropped:
  """Keeps the first record of each prompt; the others are "duplicate".

  Args:
    accepted: records of distill/.
    seen: digests of the prompts before them, to which theirs are added.
  """
  kept, dropped = [], []
  seen = IntSet() if seen is None else seen
  for record in accepted:
    if seen.add(_digest(records.dumps({"prompt": record["prompt"]}))):
      kept.append(record)
    else:
      dropped.append(record | {"reason": "duplicate"})
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


def shuffle_targets(accepted: Sequence[Record], seed: int) -> list[Record]:
  """Gives every record the target and the winner of another of its variant.

  The targets stay the same all together, and which one a record is given says
  nothing of its question, so what is left to learn is their form. Others may
  have the same answer: where there are two, half of the records keep theirs.
  (Were all given another one, two answers would be turned round, and a student
  would learn the opposite of what the run teaches, not its form.)

  Within a variant, since the same words may mean another answer in another one
  (a judge's "A" is the answer shown first).

  Args:
    accepted: records of distill/; who gets which does not depend on their
      order.
    seed: of the permutation.
  """
  groups = collections.defaultdict(list)
  for index, record in enumerate(accepted):
    groups[record["variant"]].append(index)
  found = list(accepted)
  for group in groups.values():
    group.sort(key=lambda index: _random_rank(accepted[index], seed))
    # A cycle in random order: nobody is given its own.
    for index, source in zip(group, [*group[1:], *group[:1]], strict=True):
      given = accepted[source]
      taught = {
        name: given[name]
        for name in ("target", "thought", "winner")
        if name in given
      }
      found[index] = accepted[index] | taught
  return found


def _digest(text: str) -> int:
  """Of 64 bits: of a million texts two share one in 3 of 10⁸ runs."""
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return int.from_bytes(digest, signed=True)


def _random_rank(record: Record, seed: int | None = None) -> str:
  name = f"{record['example_id']}\x1f{record['variant']}"
  if seed is not None:
    name = f"{seed}\x1f{name}"
  return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
