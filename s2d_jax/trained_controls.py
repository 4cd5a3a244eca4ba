"""The trained controls of a study: the same run with one thing changed.

Each asks what of a gain is left without that thing. They are applied to the
config of a run, so a control is a run like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Control:
  """What is changed, and what follows from it.

  Attributes:
    taught: what its student is taught, in a few words.
    changes: settings, by their names.
    if_worse: what it shows if it is worse than the run.
    if_level: what it shows if the two differ by less than ten points.
    if_better: what it shows if it is better than the run.
  """

  taught: str
  changes: Mapping[str, Any]
  if_worse: str
  if_level: str
  if_better: str


CONTROLS: Mapping[str, Control] = {
  "system1_votes": Control(
    "System 1's own votes, without System 2",
    {"method": "system1"},
    "less is learnt without System 2",
    "System 1's own votes teach as much, so System 2 is not needed",
    "System 1's own votes teach more than System 2's",
  ),
  "unfiltered": Control(
    "the first answer to every input, without a filter",
    {"curation.select": "first"},
    "less is learnt without the filter",
    "the filter makes no difference",
    "more is learnt without the filter",
  ),
  "vote": Control(
    "what the vote alone keeps, whether variants agree or not",
    {"curation.select": "vote", "curation.min_agreement": 0.0},
    "less is learnt from the vote alone",
    "the vote alone teaches as much",
    "more is learnt from the vote alone",
  ),
  "vote_and_agreement": Control(
    "what the vote keeps and all variants agree on",
    {"curation.select": "vote", "curation.min_agreement": 1.0},
    "less is learnt from what all variants agree on",
    "full agreement makes no difference",
    "more is learnt from what all variants agree on",
  ),
  "labels": Control(
    "the labels, as the upper bound",
    {"curation.select": "label"},
    "labels teach less than the answers that were kept",
    "labels teach no more than the answers that were kept",
    "labels teach more than the answers that were kept",
  ),
  "shuffled": Control(
    "the answers of other inputs, so nothing but their form",
    {"curation.shuffle_targets": True},
    "more than the form of an answer is learnt",
    "the form of an answer is all that is learnt",
    "the answers of other inputs teach more than an input's own",
  ),
}

# Templates that may be changed whatever the method.
_OF_ALL_METHODS = ("system1", "usc")


def apply(config: ConfigDict, name: str) -> ConfigDict:
  """The config of a run with what its control `name` changes."""
  changed = config.copy_and_resolve_references()
  changed.update_from_flattened_dict(CONTROLS[name].changes)
  if changed.method != config.method:
    with changed.unlocked():
      for prompt in set(changed.prompts) - set(_OF_ALL_METHODS):
        del changed.prompts[prompt]
  if changed.curation.target == "shortest_thought" and _has_no_thoughts(
    changed
  ):
    changed.curation.target = "auto"  # its answers alone
  return changed


def _has_no_thoughts(config: ConfigDict) -> bool:
  return config.method == "system1" or config.curation.select == "label"
