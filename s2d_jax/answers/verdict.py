"""Which of two answers a judge finds better: "[[A]]", "Answer B is better."."""

from __future__ import annotations

import dataclasses
import re

from s2d_jax.answers import mentions, reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.mentions import Mention

_MARKED = re.compile(r"\[\[\s*(?:Answer )?([ABCabc])\s*\]\]")
_BRACKETED = re.compile(r"(?<!\[)\[\s*([ABCabc])\s*\](?!\])")
# Who names all verdicts, or one "or" another, repeats how to answer.
_INSTRUCTION = re.compile(
  r"[^.!?\n]*\[\[A\]\][^.!?\n]*\[\[B\]\][^.!?\n]*\[\[C\]\][^.!?\n]*"
  r"|\[\[A\]\],? or \[\[B\]\]"
)
_DENIED = re.compile(r"\bnot\b", re.IGNORECASE)
_BETTER = (
  r"(?i:better|best|superior|stronger|preferable|preferred|winner|correct one)"
)
_SIDE = r"(?:(?i:answer|assistant|response|option)\s+)?"
_ADVERBS = (
  r"(?:(?i:the|a|much|far|bit|little|also|still|only|indeed|\w+ly)\s+)*"
)
# "The better answer is A good one": an article is no verdict.
_LETTER = r"([ABC])\b(?! (?!because|as|since|over|for|with|and|but)[a-z])"
_SAID = re.compile(
  rf"\b{_SIDE}([ABC])(?:['’]s \w+)?\s+(?i:is|was|seems)\s+{_ADVERBS}{_BETTER}\b"
  rf"|\b{_SIDE}([ABC])\s+(?i:wins|is the (?:right|correct))\b"
  rf"|\b{_BETTER}\s+(?i:one\s+|answer\s+|response\s+|choice\s+)?(?i:is)\s*:?\s+"
  rf"{_SIDE}{_LETTER}"
  rf"|\b(?i:verdict|winner|answer)(?:\s+(?i:is)\s*:?|\s*:)\s*"
  rf"{_ADVERBS}{_SIDE}{_LETTER}"
  rf"|\b(?i:choose|prefer|pick|go with)\s+{_SIDE}{_LETTER}"
)
_TIE = re.compile(
  r"\b(?:(?:it is|it['’]s|call it|verdict is) a tie|verdict:\s*(?:a )?tie"
  r"|equally (?:good|bad|well)"
  r"|neither (?:answer |of them |one )?is better)\b|\A\W*(?:a )?tie\W*\Z",
  re.IGNORECASE,
)
_ALONE = re.compile(rf"\A[^\w\[\]]*{_SIDE}([ABC])[^\w\[\]\n>]*(?:\n|\Z)")


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A or B, or C for a tie.

  The form that was asked for, [[A]], counts before all others; then one in
  single brackets, if no other letter is; then a sentence that says which is
  better, and a letter that stands alone in the first line.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = _INSTRUCTION.sub("", replies.said(reply))
    marked = _mentions(_MARKED, text)
    if marked:
      found = mentions.decided(text, mentions.affirmed(text, marked))
      return None if found is None else Answer(found, strict=True)
    alone = re.fullmatch(
      r"\W*\[\s*([ABCabc])\s*\]\W*|\W*([ABCabc])\W*"
      r"|\$?\\boxed\{([ABC])\}\$?",
      text,
    )
    if alone:
      return Answer(next(filter(None, alone.groups())).upper(), strict=True)
    bracketed = {m.name for m in _mentions(_BRACKETED, text)}
    if bracketed and _DENIED.search(text):
      return None
    if bracketed:
      found = bracketed.pop() if len(bracketed) == 1 else None
    else:
      found = _said(text)
    return None if found is None else Answer(found, strict=False)


def _mentions(pattern: re.Pattern[str], text: str) -> list[Mention]:
  found = []
  for match in pattern.finditer(text):
    number = next(n for n, group in enumerate(match.groups(), 1) if group)
    found.append(Mention(match[number].upper(), *match.span(number)))
  return found


def _said(text: str) -> str | None:
  said = _mentions(_SAID, text)
  if said:
    return mentions.decided(text, mentions.affirmed(text, said))
  if _TIE.search(text):
    return "C"
  alone = _ALONE.match(text)
  return alone[1] if alone else None
