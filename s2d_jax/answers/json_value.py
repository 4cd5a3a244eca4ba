"""JSON in replies, by its value."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.stance import is_explanation, is_firm, last_turn


@dataclasses.dataclass(frozen=True)
class Json:
  """An object or a list, whatever the order of its keys and its spacing.

  It may span lines, and stand in a code fence or amid an explanation; of
  several different ones none is the answer.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", reply, flags=re.DOTALL)
    text = replies.first_turn(replies.between_special_tokens(text))
    plain = re.sub(r"^\s*```\w*\s*\n|\n\s*```\s*$", "", text).strip()
    whole = _decode(plain)
    if whole is not None and whole[1] == len(plain):
      return Answer(canonical(whole[0]), strict=True)
    if _is_cut_off(text):
      return None
    turn = last_turn(text)
    if not (found := _values(turn)):
      turn, found = text, _values(text)
    filled = [
      one for one in found if not _PLACEHOLDER.search(canonical(one[0]))
    ]
    found = filled or found
    values = {canonical(value) for value, _, _ in found}
    if len(values) != 1:
      return None
    _, start, _ = found[0]
    _, _, end = found[-1]
    lead = re.split(r"\bso (?=the\b)", last_turn(turn[:start]))[-1]
    before = replies.sentences(lead)[-1:]
    behind = replies.sentences(re.sub(r"```", "", turn[end:]))
    if not all(is_firm(f"{one}, this") for one in before):
      return None
    if not all(is_explanation(one, but={"negates"}) for one in behind):
      return None
    return Answer(values.pop(), strict=False)


_PLACEHOLDER = re.compile(r'"<[^<>"]+>"')


def canonical(value: Any) -> str:
  """One text for equal values: keys in order, 1.0 as 1."""
  return json.dumps(
    _plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")
  )


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _plain(one) for name, one in value.items()}
  if isinstance(value, list):
    return [_plain(one) for one in value]
  is_whole = isinstance(value, float) and value.is_integer()
  return int(value) if is_whole else value


def _decode(text: str) -> tuple[Any, int] | None:
  """The object or list that a text begins with, and where it ends."""
  if not text.startswith(("{", "[")):
    return None
  try:
    return _DECODER.raw_decode(text)
  except (ValueError, RecursionError):
    return None


def _no_constant(name: str) -> None:
  raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _is_cut_off(text: str) -> bool:
  """Whether the first object or list has no end: what is inside is a part."""
  opening = re.search(r"[{[]\s*[\[{\"]", text)
  if not opening or _decode(text[opening.start() :]):
    return False
  rest = re.sub(r'"(?:[^"\\]|\\.)*"', "", text[opening.start() :])
  return any(rest.count(a) > rest.count(b) for a, b in ("{}", "[]"))


def _values(text: str) -> list[tuple[Any, int, int]]:
  """Objects in a text, or where there is none its lists, and where they are."""
  for opening in "{[":
    found, start = [], text.find(opening)
    while start >= 0:
      decoded = _decode(text[start:])
      if decoded:
        found.append((decoded[0], start, start + decoded[1]))
      start = text.find(opening, start + (decoded[1] if decoded else 1))
    if found:
      return found
  return []
