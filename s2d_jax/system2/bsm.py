"""Branch-Solve-Merge (Saha et al. 2023): judge by criteria, one at a time.

Branch: criteria are made of the question alone, so that no answer can bend
them, and both orders of a pair are judged by the same ones. Solve: both answers
are scored by each criterion, all at once. Merge: the scores are summed, or read
by the model.
"""

from __future__ import annotations

from collections.abc import Generator
import re
from typing import NamedTuple

from s2d_jax.system2.program import Fields, ModelCall, Prompts, Steps, Template

_MOST_CRITERIA = 5
_GENERAL = "Overall quality: how right and helpful the answer is as a whole."
_BOTH = (
  "[Request]\n{question}\n\n[Answer A]\n{answer_a}\n\n"
  "[Answer B]\n{answer_b}\n\n"
)

_BRANCH = (
  "A user has made this request:\n\n[Request]\n{question}\n\nBy which criteria"
  " should an answer to it be judged? List up to five, one a line, each a name,"
  " a colon and a short description. Do not answer the request itself."
)
_SOLVE = (
  _BOTH + "Compare both answers by this criterion only: {criterion}\n"
  "Explain in one or two sentences. Then give each a score from 1 (bad) to 5"
  " (very good), on two lines:\nScore A: \nScore B: "
)

# Worked examples: small models keep to a form only when they are shown it.
_NOTE = "Write a thank-you note to a neighbour who has watered my plants."
_FRACTIONS = "Which is larger, 3/4 or 2/3?"
_BRANCH_SHOTS = (
  (
    _NOTE,
    "Purpose: it is a note of thanks to a neighbour.\nContent: it says what the"
    " thanks are for.\nTone: it is warm and personal.",
  ),
  (
    _FRACTIONS,
    "Correctness: it names the larger number.\nReasons: it shows how the"
    " numbers compare.\nBrevity: it says no more than is needed.",
  ),
)
SOLVE_SHOTS = (
  (
    {
      "question": _FRACTIONS,
      "answer_a": "3/4 is larger: 9/12 against 8/12.",
      "answer_b": "2/3, because 3 is less than 4.",
      "criterion": "Correctness: it names the larger number.",
    },
    "Answer A is right, as 9/12 is more than 8/12. Answer B names the smaller"
    " one.\nScore A: 5\nScore B: 1",
  ),
  (
    {
      "question": _NOTE,
      "answer_a": "Thank you very much indeed, dear neighbour!",
      "answer_b": "Hi Ana, thanks for watering my plants. They look great!",
      "criterion": "Content: it says what the thanks are for.",
    },
    "Answer A is kind but never says what for. Answer B names the"
    " plants.\nScore A: 2\nScore B: 5",
  ),
)

PROMPTS = {
  "branch": Template(
    _BRANCH,
    shots=tuple(
      (_BRANCH.format(question=question), listed)
      for question, listed in _BRANCH_SHOTS
    ),
    max_new_tokens=192,
  ),
  "solve": Template(
    _SOLVE,
    shots=tuple(
      (_SOLVE.format(**fields), judged) for fields, judged in SOLVE_SHOTS
    ),
    max_new_tokens=128,
  ),
}

MERGE_PROMPT = {
  "merge": Template(
    _BOTH + "Both answers have been judged by several criteria:\n\n"
    "{evaluations}\n\nWeigh these judgements. Which answer is better on the"
    " whole? Answer with [[A]], [[B]] or [[C]] (neither) only.",
    max_new_tokens=16,
  )
}


class Evaluation(NamedTuple):
  """The reply for one criterion; a score is None where it is missing."""

  criterion: str
  text: str
  score_a: float | None
  score_b: float | None


def symbolic(fields: Fields, prompts: Prompts) -> Steps:
  """Merges by the sum of scores; no score at all is no verdict."""
  evaluations = yield from _evaluate(fields, prompts)
  scored = [e for e in evaluations if None not in (e.score_a, e.score_b)]
  if not scored:
    return ""
  lead = sum(e.score_a - e.score_b for e in scored)
  return "[[A]]" if lead > 0 else "[[B]]" if lead < 0 else "[[C]]"


def neural(fields: Fields, prompts: Prompts) -> Steps:
  """Merges by a model call that reads criteria, explanations and scores."""
  evaluations = yield from _evaluate(fields, prompts)
  listed = "\n\n".join(f"[{e.criterion}]\n{e.text}" for e in evaluations)
  return (yield prompts["merge"].ask(**fields, evaluations=listed))


def _evaluate(
  fields: Fields, prompts: Prompts
) -> Generator[ModelCall | list[ModelCall], object, list[Evaluation]]:
  question = fields["question"]
  branched = yield prompts["branch"].ask(is_shared=True, question=question)
  names = criteria(branched.text) or [_GENERAL]
  replies = yield [
    prompts["solve"].ask(**fields, criterion=name) for name in names
  ]
  return [
    Evaluation(name, reply.text.strip(), *scores(reply.text))
    for name, reply in zip(names, replies, strict=True)
  ]


# An item of a list: its indentation, then a bullet or a number, or both.
_ITEM = re.compile(
  r"^([ \t]*)(?:#+[ \t]*)?"
  r"(?:(?:[-*•+]|\(?\d{1,2}[.):]|[a-e]\)|criterion \d{1,2}[:.)]?)\s*)+",
  re.IGNORECASE,
)
_DESCRIBED = re.compile(r"^\W*[^:]{3,40}?(?::|\s[-–—])\s*\w")
_NO_NAME = re.compile(r"criteri|^(?:note|request|question)\b")
_MOST_WORDS = 25  # of a name: longer ones are prose


def criteria(text: str) -> list[str]:
  """Up to five different criteria: the items of a list, with descriptions.

  Without a list, the lines that are a name and a description.
  """
  lines = re.sub(r"\*\*|__|`", "", text).splitlines()
  items = [item for item in map(_ITEM.match, lines) if item]
  outer = min((len(item[1]) for item in items), default=0)
  listed = [i.string[i.end() :] for i in items if len(i[1]) == outer]
  found: dict[str, str] = {}
  for line in listed or filter(_DESCRIBED.match, lines):
    criterion = line.strip(" \t*#")
    name = re.split(r":|\s[-–—]\s", criterion)[0].strip().lower()
    is_name = re.search(r"[^\W\d]", name) and not _NO_NAME.search(name)
    if is_name and len(name.split()) <= _MOST_WORDS:
      found.setdefault(name, criterion)
  return list(found.values())[:_MOST_CRITERIA]


# "1-5" is a scale and no score, "8/10" a score on another scale.
_NUMBER = (
  r"[^\S\n]*[(<]?(-?\d++(?:\.\d++)?+)(?!\s*(?:[-–]|to\b)\s*\d)"
  r"(?:\s*(?:/|out of)\s*(\d++))?"
)
_BETWEEN = r"[^\S\n]*(?:\([^)\n]*\)[^\S\n]*)?(?:[:=]|[-–](?=\s)|is\b)?"
_GETS = r"(?:'s)?(?:[^\S\n]+(?:is|gets|scores?|rating|a|of))*[^\S\n]*[:=]?"
_END = r"(?=[^\S\n]*(?:$|[/.,;()]|(?:out of|and)\b))"


def scores(text: str) -> tuple[float | None, float | None]:
  """The last score of A and of B; None where missing or not from 1 to 5."""
  plain = re.sub(r"[*_`\[\]]", "", text)
  # A number may stand alone on the next line.
  plain = re.sub(r":[^\S\n]*\n\s*(?=-?\d[\d./ ]*$)", ": ", plain, flags=re.M)
  return _score("A", plain), _score("B", plain)


def _score(letter: str, text: str) -> float | None:
  # A small "a" is a letter only before a colon: "a 4" is an article.
  side = (
    rf"(?:(?:answer|response|assistant)[^\S\n]+)?"
    rf"(?:(?-i:{letter})|{letter}(?=\s*[:=]))(?!\w)"
  )
  strict = (
    rf"\b(?:score|rating)s?\s+(?:(?:of|for)\s+)?{side}{_BETWEEN}{_NUMBER}"
  )
  loose = (
    rf"(?:^[^\w\n]*{side}|\b(?:answer|response)\s+{letter}\b)"
    rf"(?:{_BETWEEN}|{_GETS}){_NUMBER}{_END}"
  )
  for pattern in (strict, loose):
    found = re.findall(pattern, text, re.IGNORECASE | re.MULTILINE)
    if found:
      number, scale = found[-1]
      is_score = 1 <= float(number) <= 5 and scale in ("", "5")
      return float(number) if is_score else None
  return None
