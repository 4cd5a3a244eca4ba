"""What curation decided: counted in one pass, read again where it is shown.

The records of a large run do not fit the memory. What figures tell of them is
the same for many (`Outcome`), and where each stands are eight bytes.
"""

from __future__ import annotations

import array
import collections
from collections.abc import Collection, Iterable, Mapping, Sequence

from etils import epath

from s2d_jax import records
from s2d_jax.curation.curve import Outcome
from s2d_jax.records import Record

Place = int  # of a record: its file and its line; later ones are higher
_LINES = 1 << 40  # of a file at the most


class Votes:
  """The records of distill/, by their outcome.

  Attributes:
    places: of the records with an outcome, in their order; outcomes come in
      the order of their first records.
    is_labelled: whether it is known for all records if the winner is right.

  Args:
    files: each with its records, numbered by their lines.
    labels: of the examples that have one, by id.
  """

  def __init__(
    self,
    files: Mapping[epath.Path, Iterable[tuple[int, Record]]],
    labels: Mapping[str, str],
  ):
    self._files = list(files)
    places = collections.defaultdict(lambda: array.array("q"))
    self.is_labelled = True
    for file, numbered in enumerate(files.values()):
      for number, record in numbered:
        label = labels.get(record["example_id"])
        self.is_labelled &= label is not None
        outcome = Outcome.of(record, record["winner"] == label)
        places[outcome].append(file * _LINES + number)
    self.is_labelled &= bool(places)
    self.places: Mapping[Outcome, Sequence[Place]] = (
      places if self.is_labelled else _without_labels(places)
    )

  @property
  def counts(self) -> Mapping[Outcome, int]:
    """How many records have each outcome."""
    return {outcome: len(found) for outcome, found in self.places.items()}

  @property
  def kept(self) -> int:
    """How many have no reason against them."""
    return sum(n for outcome, n in self.counts.items() if not outcome.reason)

  @property
  def reasons(self) -> list[str]:
    """Why records were rejected, in the order in which reasons occur."""
    return [*dict.fromkeys(one.reason for one in self.places if one.reason)]

  def __len__(self) -> int:
    return sum(map(len, self.places.values()))

  def in_order(self, outcomes: Iterable[Outcome]) -> Sequence[Place]:
    """The places of the records with one of these outcomes."""
    return _in_order(self.places[outcome] for outcome in outcomes)

  def outcomes(self, places: Collection[Place]) -> dict[Place, Outcome]:
    """Of the records at some places."""
    wanted = set(places)
    return {
      place: outcome
      for outcome, group in self.places.items()
      for place in wanted.intersection(group)
    }

  def read(self, places: Collection[Place]) -> dict[Place, Record]:
    """The records at some places, in the order of these."""
    found = {}
    for file, path in enumerate(self._files):
      first = file * _LINES
      lines = {p - first for p in places if first < p < first + _LINES}
      for number, record in records.at_lines(path, lines):
        found[first + number] = record
    return {place: found[place] for place in places}


def _in_order(groups: Iterable[Sequence[Place]]) -> Sequence[Place]:
  places = array.array("q")
  for group in groups:
    places.extend(group)
  return array.array("q", sorted(places))


def _without_labels(
  places: Mapping[Outcome, Sequence[Place]],
) -> dict[Outcome, Sequence[Place]]:
  groups = collections.defaultdict(list)
  for outcome, found in places.items():
    groups[outcome._replace(is_right=None)].append(found)
  return {outcome: _in_order(groups[outcome]) for outcome in groups}
