"""Which of several names a text stands by, and not only mentions."""

from __future__ import annotations

from collections.abc import Sequence
import re
from typing import NamedTuple

_CLAUSE = 300  # characters around a name that may say something about it


class Mention(NamedTuple):
  """A name in a text: where, and which."""

  name: str
  start: int
  end: int


_CLAUSE_END = (
  r"[.;!?\n:—–]|,\s*(?:but|yet|so|and (?:so|thus|therefore))\b|\bbut\b"
)
_DENIED_BEFORE = re.compile(
  r"(?:\b(?:not|never|neither|nor|cannot|without|rather than|instead of"
  r"|no longer|outside(?: of)?|eliminate|exclude|rule out|other than|except"
  r"|wrong (?:answer|option|choice|one) is)\b|n['’]t\b)\W+(?:(?!and\b|but\b"
  r"|so\b)\w+\W+){0,4}$",
  re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
  r"^\W*(?:(?:is|are|was|were|would be|seems|looks|can be)\s+(?:\w+ly\s+)?"
  r"(?:not|never|wrong|incorrect|false|out\b|eliminated|excluded|ruled out"
  r"|worse"
  r"|no\b)|(?:isn|aren|wasn|doesn|can)['’]t\b|cannot\b|does not\b)",
  re.IGNORECASE,
)
# What others think is not yet what the text stands by.
_OTHERS = re.compile(
  r"\b(?:people|many|most|some|others)\b[^.;,]*\b(?:think|believe|say|assume"
  r"|argue|guess|answer|choose)\b|\b(?:commonly|often|usually|widely"
  r"|frequently|sometimes) (?:mis)?(?:attributed|credited)\b",
  re.IGNORECASE,
)
_CONDITION = re.compile(
  r"(?:^|[\s,])(?:if|whether|unless|although|though|while|whereas|despite"
  r"|in spite of|maybe|perhaps|(?:could|might|may)(?: \w+)? be|otherwise"
  r"|hard to say|(?:suggestion|idea|claim|belief) that)\b[^,]*$",
  re.IGNORECASE,
)
_COMPARED = re.compile(
  r"\b(?:than|over|(?<!belongs )to(?! be)|unlike|versus|vs)\b"
  r"\W*(?:\w+\W+)?$",
  re.IGNORECASE,
)
_JOIN = re.compile(
  r"[\s\"'”’)\].]*(?:[,/&|]|\b(?:or|and|nor)\b|,\s*(?:or|and))"
  r"(?:\s+(?:maybe|perhaps|possibly))?"
  r"[\s\"'“‘(\[]*(?:option|answer|choice|letter)?[\s\"'“‘(\[]*",
  re.IGNORECASE,
)
_IF_AFTER = re.compile(
  r"^[^.,;!?\n]*\b(?:if|at first|otherwise)\b", re.IGNORECASE
)


def affirmed(text: str, mentions: Sequence[Mention]) -> list[Mention]:
  """Those mentions by which the text stands, in their order.

  Left out are mentions that are denied ("not A", "A is wrong"), that stand in
  a list with others ("A or B"), under a condition ("if A", "although A") or
  behind a comparison ("than A").
  """
  listed = _listed(text, mentions)
  found = []
  for mention in mentions:
    start = max(0, mention.start - _CLAUSE)
    before = re.split(_CLAUSE_END, text[start : mention.start])[-1]
    after = text[mention.end : mention.end + _CLAUSE]
    is_out = (
      _DENIED_BEFORE.search(before)
      or _DENIED_AFTER.match(after)
      or _CONDITION.search(before)
      or _OTHERS.search(before)
      or _COMPARED.search(before)
      or _IF_AFTER.match(after)
    )
    is_open = re.search(r"(?i)\b(?:or|either|between)\W*$", before) or re.match(
      r"\W*or\b", after
    )
    if mention not in listed and not is_out and not is_open:
      found.append(mention)
  return found


def _listed(text: str, mentions: Sequence[Mention]) -> set[Mention]:
  listed = set()
  for one, other in zip(mentions, mentions[1:], strict=False):
    between = text[one.end : other.start]
    if one.name != other.name and _JOIN.fullmatch(between):
      listed |= {one, other}
  return listed
