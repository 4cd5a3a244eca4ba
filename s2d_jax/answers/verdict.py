"""Which of two answers a judge finds better: "[[A]]", "Answer B is better."."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.stance import is_explanation, is_firm, last_turn, undenied

_MARKED = re.compile(r"\[\[\s*(?:Answer )?([ABCabc])\s*\]\]")
_BRACKETED = re.compile(r"(?<!\[)\[\s*([ABCabc])\s*\](?!\])")
# Who names all verdicts, or one "or" another, repeats how to answer.
_INSTRUCTION = re.compile(
  r"[^.!?\n]*\[\[A\]\][^.!?\n]*\[\[B\]\][^.!?\n]*\[\[C\]\][^.!?\n]*"
  r"|\[\[[ABC]\]\],? or \[\[[ABC]\]\]"
)
_ALONE = re.compile(
  r"\W*(?:(?:(?:my |the )?(?:final )?(?:verdict|answer|choice|decision|winner)"
  r"(?: is)?\W*)?(?:(?:answer|assistant|response|option)\s+)?)?"
  r"(?:\\boxed\{)?\[?\[?([ABC])\]?\]?\}?(?:\s*\((?:a )?tie\))?\W*",
  re.IGNORECASE,
)
_TURN = re.compile(
  r"\b(?:but|so|therefore|thus|hence|wait|actually|final(?:ly)?|verdict|overall"
  r"|in the end|however|ultimately|on (?:reflection|reread\w*|second))\b",
  re.IGNORECASE,
)
_BEST = (
  r"(?i:better|best|superior|stronger|preferable|preferred|winner"
  r"|the correct one|more (?:accurate|helpful|complete|useful|convincing))"
)
_SIDE = r"(?:(?i:answer|assistant|response|option)\s+)?"
_ADVERBS = (
  r"(?:(?i:the|a|much|far|bit|little|also|still|only|indeed|clearly|slightly|\w+ly"
  r"|:)\s+)*"
)
# "The better answer is A good one": an article is no verdict.
_LETTER = (
  r"([ABC])\b(?!['’])(?! (?!because|as|since|over|for|with|and|but)[a-z])"
)
_SAID = re.compile(
  rf"\b{_SIDE}([ABC])(?:['’]s \w+)?\s+(?i:is|was|seems)\s+{_ADVERBS}{_BEST}\b"
  rf"|\b{_SIDE}([ABC])\s+(?i:wins|takes it)\b|\b{_BEST}\s+(?i:one\s+|answer\s+"
  rf"|response\s+|choice\s+)?(?i:is)\s*:?\s+{_SIDE}{_LETTER}|\b(?i:verdict"
  rf"|winner|answer|choice)(?:\s+(?i:is)\s*:?"
  rf"|\s*:)\s*{_ADVERBS}{_SIDE}{_LETTER}|\b(?i:choose|prefer|pick|go with"
  rf"|going with|vote for|lean(?: \w+)? towards?|goes to)\s+{_SIDE}{_LETTER}"
)
_TIE = re.compile(
  r"\b(?:(?:it is|it['’]s|call it|verdict is) a tie|verdict:\s*(?:a )?tie"
  r"|(?:both|they)\b.*\bequally (?:good|bad|well|helpful)"
  r"|no (?:\w+ )?reason to prefer (?:one|either)|no (?:meaningful"
  r"|clear) difference"
  r"|neither (?:answer |of them |one )?is better)\b|\A\W*(?:a )?tie\W*\Z",
  re.IGNORECASE,
)
_DENIED = re.compile(
  r"\b(?:not|never|neither|nor|than|over)\W*\Z|n['’]t\W*\Z", re.I
)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A or B, or C for a tie.

  The form that was asked for, [[A]], counts before all others; then a sentence
  that says which is better, and a letter that stands alone in a line.
  """

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = re.sub(
      r"\[\[\s*tie\s*\]\]", "[[C]]", replies.said(reply), flags=re.I
    )
    text = _INSTRUCTION.sub("", text)
    if alone := _ALONE.fullmatch(text):
      return Answer(alone[1].upper(), strict=True)
    said = replies.sentences(text)
    if _MARKED.search(text):
      found = _last([_verdicts(one) for one in said], said)
      return None if found is None else Answer(found, strict=True)
    bracketed = set(_BRACKETED.findall(text))
    if len(bracketed) == 1 and not re.search(r"\b(?:not|if)\b", text, re.I):
      return Answer(bracketed.pop().upper(), strict=False)
    found = _last([_stated(one) for one in said], said)
    if found is None:
      return None
    is_sure = found == "C" or not _EVEN.search(text)
    return Answer(found, strict=False, is_sure=is_sure)


_EVEN = re.compile(
  r"\b(?:tie[sd]?|draw|even(?:ly)?|equal(?:ly)?|the same)\b", re.IGNORECASE
)
# What is wrong with an answer does not take back what was said of both.
_FAULTS = re.compile(
  r"\b(?:mistake\w*|errors?|wrong|incorrect\w*|mis\w+)\b", re.IGNORECASE
)


# Ways that do not count in what is said of the answers themselves.
_JUDGING = {"negates", "invents"}
_COMPARING = _JUDGING | {"corrects", "concedes"}
_SIDE_NAMED = re.compile(r"\b[AB]\b")


def _last(given: Sequence[list[str]], said: Sequence[str]) -> str | None:
  """The verdict of the last sentence with one, if the reply stands by it.

  Args:
    given: of each sentence the verdicts it names, in lower case where it does
      not give them.
    said: the sentences.
  """
  places = [n for n, found in enumerate(given) if found]
  if not places:
    return None
  behind = [_FAULTS.sub("", one) for one in said[places[-1] + 1 :]]
  *before, last = [one for n in places for one in given[n]]
  if last.islower() or not all(
    is_explanation(one, but=_COMPARING if _SIDE_NAMED.search(one) else _JUDGING)
    and not _DENIES.search(one)
    for one in behind
  ):
    return None
  is_turned = _TURN.search(" ".join(said[places[0] : places[-1] + 1]))
  is_one = all(one.islower() or one == last for one in before)
  return last if is_one or is_turned else None


def _clause(sentence: str, end: int) -> str:
  """What stands before a place in its clause, and all of it behind "if"."""
  before = sentence[:end]
  if re.search(r"\bif\b", before, re.IGNORECASE):
    return before
  return re.split(r"[,:;]|\b(?:but|so|therefore|thus|hence)\b", before)[-1]


_HEDGED = re.compile(
  r"\bthan (?!the other|the first|the second|(?:answer |assistant "
  r"|response )?[AB]\b"
  r"|[AB]['’]s)|\bat first\b|\bif\b|\bround\b|\bbefore\b",
  re.IGNORECASE,
)
_DENIES = re.compile(r"\bnot (?:\w+ )?(?:better|best|good)\b", re.IGNORECASE)
_CONCEDED = re.compile(
  r"\b(?:while|although|though|whereas|since|because)\b", re.IGNORECASE
)
_OPEN_BEHIND = re.compile(
  r",\s+(?:and )?(?:(?:answer|assistant) )?[ABC]\b|[^.,;]*,\s+(?:answer"
  r"|assistant) [ABC]\b(?! (?:is|was|has|does|did))|\W*(?:is|was|seems) (?:not"
  r"|worse|wrong|also|close|nearly)|\W+(?:if|unless|for a tie)\b"
)


def _verdicts(sentence: str) -> list[str]:
  """The marks of a sentence."""
  found, end = [], 0
  sentence = undenied(sentence)
  for match in _MARKED.finditer(sentence):
    clause = _clause(sentence[end:], match.start() - end)
    end = match.end()
    if _CONCEDED.search(clause):
      continue
    turn = re.split(r"\[\[", last_turn(sentence[match.end() :] or "."))[0]
    is_open = (
      not is_firm(clause, but={"rejects", "invents", "corrects"})
      or not is_firm(_FAULTS.sub("", turn), but={"invents"})
      or re.search(r"\bsecond (?:answer|one)\b", clause)
      or _OPEN_BEHIND.match(sentence, end)
    )
    found.append(match[1].lower() if is_open else match[1].upper())
  return found


def _stated(sentence: str) -> list[str]:
  """The verdicts that a sentence says without a mark."""
  sentence = undenied(sentence)
  alone = _ALONE.fullmatch(sentence)
  if alone and not re.fullmatch(
    r"\W*(?:assistant|answer)\s+\w\W*", sentence, re.I
  ):
    return [alone[1].upper()]
  found = []
  for match in _SAID.finditer(sentence):
    letter = next(filter(None, match.groups()))
    clause = _clause(sentence, match.start()).replace("answer with", "")
    if _CONCEDED.search(clause):
      continue
    is_open = (
      not is_firm(_FAULTS.sub("", f"{clause} {match[0]}"))
      or _HEDGED.search(sentence)
      or _DENIED.search(clause)
      or _OPEN_BEHIND.match(sentence, match.end())
      or re.search(r"\bnot\b|n['’]t\b", match[0])
      or "?" in sentence
    )
    found.append(letter.lower() if is_open else letter)
  without = re.sub(r"\bneither\b", "", sentence, flags=re.IGNORECASE)
  if not found and _TIE.search(sentence) and is_firm(without, but=_JUDGING):
    return ["C"]
  return found
