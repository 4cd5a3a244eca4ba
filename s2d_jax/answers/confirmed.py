"""What a parser reads in a reply, if the reply stands by it to its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.stance import (
  CONCLUSION,
  behind,
  is_explanation,
  is_firm,
  last_turn,
)
from s2d_jax.answers.statements import statements

# "…, but I'm not sure": a modest reply gives its answer all the same.
_MODEST = re.compile(
  r",?\s+(?:but|though|although)\s+(?:I(?:['’]m| am) (?:\w+ "
  r"|100% )*(?:not (?:\w+ |100% )*(?:sure|certain|positive)|unsure)|I (?:could"
  r"|may|might) be (?:wrong|mistaken))(?=\W*\Z|[.!]\s)|,\s+I(?:['’]m"
  r"| am) (?:quite |pretty |very |fairly )?(?:sure|certain)(?=\W*\Z|[.!]\s)",
  re.IGNORECASE,
)


_FEW_WORDS = 5  # of an answer that stands alone


def confirmed(
  read: Callable[[str], Answer | None],
  text: str,
  asked: str = "",
  but: Collection[str] = (),
  is_no_a_turn: bool = True,
) -> Answer | None:
  """What is read in a text, if the text stands by it.

  Args:
    read: reads a text (as `reply.said` returns it).
    text: all of it.
    asked: the question.
    but: ways of taking back that do not count.
    is_no_a_turn: not so where it is an answer.
  """
  text = _MODEST.sub("", text)
  found = read(text)
  if found is None:
    return None
  said = statements(text)
  marked = [n for n, one in enumerate(said) if one.is_marked]
  if marked:
    from_mark = [one.text for one in said[marked[-1] :]]
    if stands(from_mark, asked, but, found.text):
      return found
  elif stands([one.text for one in said], asked, but, found.text):
    return found
  text = last_turn(text, is_no_a_turn)
  if not _is_given(read, text, found):
    return None
  said = statements(text)
  if marked and any(one.is_marked for one in said):
    return None
  if stands([one.text for one in said], asked, but, found.text):
    return found
  # A conclusion stands by itself, whatever was ruled out before.
  for end in (behind(CONCLUSION, text), replies.sentences(text)[-1]):
    if end == text or not _is_given(read, end, found):
      continue
    before = text[: text.rfind(end)]
    is_kept = stands(replies.sentences(end), asked, but, found.text)
    if is_kept and is_firm(before, asked, {*but, *_RULED_OUT}):
      return found
  return None


# Ways that count no more where a conclusion follows.
_RULED_OUT = frozenset(
  "negates concedes rejects corrects hedges dates postpones".split()
)


def _is_given(
  read: Callable[[str], Answer | None], text: str, answer: Answer
) -> bool:
  found = read(text)
  return found is not None and found.text == answer.text


def stands(
  said: Sequence[str],
  asked: str = "",
  but: Collection[str] = (),
  answer: str = "",
) -> bool:
  """Whether sentences, from the answer on, are understood and keep to it."""
  begun = {*but, "postpones"} if len(said) > 1 else but
  # What begins with a whole sentence may go on about anything.
  is_told = bool(asked) and len(said[0].split()) <= _FEW_WORDS
  return is_firm(said[0], asked, begun) and all(
    is_explanation(
      said[place],
      asked,
      {*but, "dates"} | ({"postpones"} if place < len(said) - 1 else set()),
      " ".join([answer, asked, *said[:place]]) if is_told else "",
    )
    for place in range(1, len(said))
  )
