"""The paper's results for the task and method of a run, to compare.

Yu, Xu, Weston, Kulikov 2024, arXiv 2407.06023, Llama-2-70B-chat throughout.
docs/paper.md has the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

MODEL = "Llama-2-70B-chat"


@dataclasses.dataclass(frozen=True)
class Percent:
  """`reported` ones were not re-read in the paper and get a ~."""

  value: float
  reported: bool = False

  def __str__(self) -> str:
    return f"{self.value:.1f}{'~' if self.reported else ''}"


@dataclasses.dataclass(frozen=True)
class PaperRow:
  """A row of the paper's table; None where it has no figure.

  Attributes:
    inputs: of the evaluation.
    method: of System 2, and its filter.
    system1: right answers, asked directly.
    system2: right answers of System 2.
    distilled: right answers of the distilled model.
    more: what else the paper reports.
  """

  inputs: str
  method: str
  system1: Percent
  system2: Percent | None = None
  distilled: Percent | None = None
  more: str = ""


_LETTERS = "last letters of two words"
_RAR1 = "Rephrase-and-Respond in one step"
_RAR2 = "Rephrase-and-Respond in two steps"
_LETTERS_SYSTEM1 = Percent(30.0)
_COINS_SYSTEM1 = Percent(56.1, reported=True)

# By task, method and curation.select; "vote" also stands for a filter that only
# requires both orders to agree.
_ROWS: Mapping[tuple[str, str, str], PaperRow] = {
  ("last_letters", "rar2", "vote"): PaperRow(
    _LETTERS,
    f"{_RAR2}, majority of 8",
    _LETTERS_SYSTEM1,
    Percent(44.5, reported=True),
    Percent(98.0),
    "The distilled model uses about 25 tokens an answer.",
  ),
  ("last_letters", "rar2", "first"): PaperRow(
    _LETTERS,
    f"{_RAR2}, no filter",
    _LETTERS_SYSTEM1,
    Percent(44.5, reported=True),
    Percent(87.5, reported=True),
  ),
  ("last_letters", "rar1", "vote"): PaperRow(
    _LETTERS, _RAR1, _LETTERS_SYSTEM1, Percent(39.5, reported=True)
  ),
  ("last_letters", "system1", "vote"): PaperRow(
    _LETTERS,
    "System 1 on its own votes, majority of 8",
    _LETTERS_SYSTEM1,
    None,
    Percent(69.5, reported=True),
  ),
  ("coin_flip", "rar2", "vote"): PaperRow(
    "coin flips of two people",
    f"{_RAR2}, nested majority of 8 × 8",
    _COINS_SYSTEM1,
    Percent(77.2, reported=True),
    Percent(75.7, reported=True),
  ),
  ("coin_flip", "rar1", "vote"): PaperRow(
    "coin flips of two people",
    _RAR1,
    _COINS_SYSTEM1,
    Percent(58.6, reported=True),
  ),
  ("opinions", "s2a", "usc"): PaperRow(
    "SycophancyEval, biased prompts",
    "System 2 Attention, the model’s own choice of 20",
    Percent(51.6),
    Percent(76.0),
    Percent(81.3),
    "Tokens an answer fell from 165~ to 56~; on unbiased prompts the model went"
    " from 73.8~ to 78.6~.",
  ),
  ("judge", "bsm", "vote"): PaperRow(
    "MT-bench, agreement with people",
    "Branch-Solve-Merge, both orders agree",
    Percent(28.1),
    Percent(64.5),
    Percent(72.4),
    "Inconsistent under another order: 80.9 before, 9.1 after. Tokens an"
    " answer fell from about 2,064 to 4.",
  ),
  ("gsm8k", "cot", "vote"): PaperRow(
    "GSM8K",
    "chain of thought, majority of 10",
    Percent(7.6),
    Percent(52.8),
    Percent(7.1),
    "The paper’s case that does not distil: 270 tokens an answer before, 18"
    " after.",
  ),
}


def row_for(config: Mapping[str, Any]) -> PaperRow | None:
  """The paper's row of a run's task and method; None where it has none.

  The country facts of the quickstart stand in for SycophancyEval, and so does
  a vote for the model's own choice.

  Args:
    config: config.json of a run.
  """
  task = dict(config.get("task", {}))
  name, method = task.get("name"), config.get("method")
  select = config.get("curation", {}).get("select", "vote")
  if name == "sycophancy" or task.get("format") == "sycophancy_eval":
    name = "opinions"
    select = "usc" if select == "vote" else select
  elif name == "opinions":
    return None  # other questions than SycophancyEval's
  if name == "last_letters" and task.get("words", 2) != 2:
    return None
  if name == "coin_flip" and task.get("people", 2) != 2:
    return None
  return _ROWS.get((name, method, select))
