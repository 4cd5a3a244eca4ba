"""Pairs of answers to one question, out of the data sets that have such.

Every format takes the rows of a source and yields pairs: {"id", "question",
"answer_1", "answer_2", "label"}, where the label is the better answer, "1" or
"2", or "tie", or None where nobody has said. Where several people have, "votes"
has what each said: {"judge", "winner"}.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
import hashlib
from typing import Any

from s2d_jax.errors import UserError
from s2d_jax.evaluation.judges import TIE, majority
from s2d_jax.tasks import cells
from s2d_jax.tasks.cells import Row, need_columns

Pair = dict[str, Any]


def llmbar(source: str, rows: Iterable[Row]) -> Iterator[Pair]:
  """LLMBar (Zeng et al. 2024): input, output_1, output_2, label 1 or 2."""
  parts = ("input", "output_1", "output_2")
  for number, row in enumerate(cells.filled(source, rows, parts), start=1):
    need_columns(source, row, ("label",))
    yield {
      "id": str(number),
      "question": cells.text(row, "input"),
      "answer_1": cells.text(row, "output_1"),
      "answer_2": cells.text(row, "output_2"),
      "label": _label(row),
    }


def pairs(source: str, rows: Iterable[Row]) -> Iterator[Pair]:
  """Pairs of one's own: question, answer_1, answer_2; id, label optional."""
  parts = ("question", "answer_1", "answer_2")
  for number, row in enumerate(cells.filled(source, rows, parts), start=1):
    has_id = not cells.is_blank(row.get("id"))
    yield {part: cells.text(row, part) for part in parts} | {
      "id": cells.text(row, "id") if has_id else str(number),
      "label": _label(row),
    }


def mt_bench(source: str, rows: Iterable[Row]) -> Iterator[Pair]:
  """Human votes of MT-bench (Zheng et al. 2023) on the first turn.

  Several people judged the same two replies, some with the models the other
  way round: the majority is the label, and a split vote is a tie.
  """
  pairs, votes = {}, collections.defaultdict(list)
  wanted = (
    "question_id", "model_a", "model_b", "winner", "judge", "turn",
    "conversation_a", "conversation_b",
  )  # fmt: skip
  for number, row in enumerate(rows, start=1):
    need_columns(source, row, wanted)
    if row["turn"] != 1:
      continue
    winner = row["winner"]
    if winner not in ("model_a", "model_b", "tie", "tie (inconsistent)"):
      raise UserError(
        f"{source}, row {number} has winner={winner!r}; it must be model_a,"
        " model_b or tie"
      )
    models = frozenset((row["model_a"], row["model_b"]))
    key = row["question_id"], models
    if key not in pairs:
      pairs[key] = row["model_a"], _mt_bench_pair(row)
    first, _ = pairs[key]
    said = TIE
    if winner in ("model_a", "model_b"):
      said = "1" if row[winner] == first else "2"
    votes[key].append({"judge": str(row["judge"]), "winner": said})
  for key, (_, pair) in pairs.items():
    label = majority(vote["winner"] for vote in votes[key])
    yield pair | {"label": label, "votes": votes[key]}


def _mt_bench_pair(row: Row) -> Pair:
  question, answer_1 = row["conversation_a"][:2]
  answer_2 = row["conversation_b"][1]
  return {
    "id": f"{row['question_id']}/{row['model_a']}/{row['model_b']}",
    "question": question["content"],
    "answer_1": answer_1["content"],
    "answer_2": answer_2["content"],
  }


def oasst2(source: str, rows: Iterable[Row]) -> Iterator[Pair]:
  """First turns of OASST2 in English: the best-ranked reply and the worst.

  The rows are messages, in any order. Which of the two stands first is told by
  a hash of the question's id, so that it is not always the better one.
  """
  questions, replies = {}, collections.defaultdict(list)
  wanted = ("message_id", "parent_id", "role", "text", "lang")
  for row in cells.filled(source, rows, ("text",)):
    need_columns(source, row, (*wanted, "rank"))
    # review_result is missing where nobody has reviewed the message.
    if row.get("deleted") or row.get("review_result") is False:
      continue
    if row["lang"] != "en":
      continue
    if row["role"] == "prompter" and not row["parent_id"]:
      questions[row["message_id"]] = cells.text(row, "text")
    elif row["role"] == "assistant" and _is_number(row["rank"]):
      replies[row["parent_id"]].append((row["rank"], cells.text(row, "text")))
  for name, question in questions.items():
    ranked = sorted(replies[name])
    if not ranked or ranked[0][0] == ranked[-1][0]:
      continue
    best, worst = ranked[0][1], ranked[-1][1]
    is_first = hashlib.blake2b(name.encode()).digest()[0] % 2 == 0
    yield {
      "id": name,
      "question": question,
      "answer_1": best if is_first else worst,
      "answer_2": worst if is_first else best,
      "label": "1" if is_first else "2",
    }


def _is_number(value: Any) -> bool:
  """Whether it is neither missing nor the NaN that tables have for missing."""
  return value is not None and value == value


_LABELS = {"1": "1", "2": "2", "tie": "tie", "": None}


def _label(row: Row) -> str | None:
  value = row.get("label")
  if not _is_number(value):
    return None
  label = str(value).strip().lower().removesuffix(".0")
  if label not in _LABELS:
    raise UserError(
      f"{row.place} has label={value!r}; it must be 1 or 2 for the better"
      " answer, or tie"
    )
  return _LABELS[label]


FORMATS: dict[str, Callable[[str, Iterable[Row]], Iterator[Pair]]] = {
  "llmbar": llmbar,
  "mt_bench": mt_bench,
  "oasst2": oasst2,
  "pairs": pairs,
}
