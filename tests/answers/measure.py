"""Precision and recall of reading answers, on replies labelled by hand.

  python -m tests.answers.measure tests/answers/seen_replies.jsonl

A line has a kind, a reply, and the answers that are right to read in it; null
among them: to read none is right too. The replies are in the manner of several
models, a third of them hard, or are `drawn`: what SmolLM2-135M said to prompts
of tasks and to questions, once each at temperature 0.7, as it came. The small
model rambles, and is read worse than what people write.

Votes that were wrong in the replies that were seen are mended, and nothing was
changed for those that are held out. The labels of all but 716 are of readers
who did not know the parsers; those of the 716 were set before the parsers read
the replies, but by one who knew how they work. The last 3,537 are of 17 sets,
by readers who did not know them, counted once before that.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
import functools
import json
import pathlib
import sys
from typing import Any

from s2d_jax.answers.answer import Answer
from s2d_jax.answers.choice import Choice
from s2d_jax.answers.json_value import Json
from s2d_jax.answers.letters import Letters
from s2d_jax.answers.number import Number
from s2d_jax.answers.text import Text
from s2d_jax.answers.verdict import Verdict
from s2d_jax.answers.words import normalise
from s2d_jax.system2.cot import final_answer
from s2d_jax.tasks import country_replies
from s2d_jax.tasks.coin_flip import CoinFlip
from s2d_jax.tasks.country_facts import KINDS, canonical
from s2d_jax.tasks.sycophancy import Sycophancy

_FOLDER = pathlib.Path(__file__).parent
SEEN = _FOLDER / "seen_replies.jsonl"
HELD_OUT = _FOLDER / "held_out_replies.jsonl"

Case = Mapping[str, Any]
_COUNTRIES = Sycophancy(tuple(KINDS))
_PARSERS: dict[str, Callable[[str, str], Answer | None]] = {
  "number": Number(),
  "number_cot": lambda reply, question: Number()(final_answer(reply), question),
  "letters": Letters(),
  "text": Text(),
  "json": Json(),
  "judge": Verdict(),
  "coin": CoinFlip().read,
}


def cases(path: pathlib.Path) -> list[Case]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def read(case: Case) -> Answer | None:
  """What the parser of its kind finds in a reply."""
  question = case.get("question") or case.get("words") or ""
  return _read(case["kind"], case["reply"], question)


@functools.cache
def _read(kind: str, reply: str, question: str) -> Answer | None:
  kind, _, options = kind.partition(":")
  if kind == "choice":
    return Choice(tuple(options.split(",")))(reply, question)
  if kind == "country":
    asked = _COUNTRIES.inputs_of(question)
    return country_replies.read(
      reply, question, asked["country"], asked["kind"]
    )
  return _PARSERS[kind](reply, question)


def is_right(case: Case, found: Answer | None) -> bool:
  """Whether an answer, or none, is accepted."""
  if found is None:
    return None in case["accepted"]
  same = _SAME.get(case["kind"], lambda text: text)
  wanted = [text for text in case["accepted"] if text is not None]
  return any(same(found.text) == same(text) for text in wanted)


_SAME: dict[str, Callable[[str], Any]] = {
  "number": Fraction,
  "number_cot": Fraction,
  "json": json.loads,
  "text": normalise,
  "country": canonical,
  "judge": lambda text: "C" if text == "tie" else text,
}


def counts(cases: Iterable[Case]) -> dict[str, collections.Counter]:
  """By kind: replies, and what is read in them.

  "scored" have an answer, of which "misread" are wrong; of these "votes" are
  sure, "strict" of them in the form asked for, "wrong" wrong; "answers" are to
  be found.
  """
  found: dict[str, collections.Counter] = {}
  for case in cases:
    answer = read(case)
    right = is_right(case, answer)
    kind = case["kind"].partition(":")[0]
    count = found.setdefault(kind, collections.Counter())
    count["replies"] += 1
    count["scored"] += answer is not None
    count["misread"] += answer is not None and not right
    has_vote = answer is not None and answer.is_sure
    count["votes"] += has_vote
    count["strict"] += has_vote and answer.strict
    count["wrong"] += has_vote and not right
    if None not in case["accepted"]:
      count["answers"] += 1
      count["found"] += answer is not None and right
  found["all"] = sum(found.values(), collections.Counter())
  return found


def _lines(cases: Iterable[Case]) -> Iterator[str]:
  names = (
    "replies", "scored", "misread", "votes", "strict", "wrong", "answers",
    "found",
  )  # fmt: skip
  yield "".join(f"{name:>12}" for name in ("kind", *names))
  for kind, count in counts(cases).items():
    yield f"{kind:>12}" + "".join(f"{count[name]:>12}" for name in names)


if __name__ == "__main__":
  print("\n".join(_lines(cases(pathlib.Path(sys.argv[1])))))
