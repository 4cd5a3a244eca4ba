"""The name that a reply gives as a country's capital, continent or currency.

It stands alone, or in a sentence that says so of this country: all words
between its subject and the name are known ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import functools
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.words import NATIONS
from s2d_jax.tasks import countries

_CLAUSE = re.compile(
  r"[;:\n]|\s[-–—]+\s|,\s*(?=(?:while|whereas|although|though|but|so"
  r"|and (?:its|it|the))\b)|\bbut\b"
)
_CONCEDED = re.compile(
  r"^\W*(?:while|although|though|contrary to|as of|since)\b[^,]*,\s*",
  re.IGNORECASE,
)
# Words that may stand before the name in a sentence that gives it.
_BEFORE = frozenset(
  """
  the a an of in on at to is are was be been being has have would will must it
  its it's that that's this he lies lie located situated found sits belongs
  belong part within inside among falls under placed counted considered
  continent continental country nation republic island kingdom state sovereign
  landlocked small large city capital currency official officially current
  currently actual real legal called known named as indeed actually still also
  now today geographically mainly mostly primarily usually entirely completely
  really just clearly definitely firmly wholly certainly course answer
  question correct right your you're you i i'd think believe say agree what
  yes no well so therefore sure absolutely exactly there which one think's for
  since northern southern eastern western central north south east west
  northeastern northwestern southeastern southwestern northeast northwest
  southeast southwest middle sub-saharan horn region subregion area tropical
  transcontinental territory modern present-day unit used uses use people
  money by and largest biggest populous most second to's user's any confusion
  user european asian african american with serves us u.s north-eastern
  north-western south-eastern south-western north-east north-west south-east
  south-west desert mountainous subcontinent coast side modern-day undoubtedly
  balkan
  """.split()
)
# What turns a place into another one: "south of Europe".
_ELSEWHERE = re.compile(
  r"\b(?:(?:north|south|east|west)\w*|outside|off) of\b|\b(?:was|were)\b"
  r"|\b(?:part|corner|much|most|half|some) of\b.*\b(?:lies?|is|are|sits?)\b"
  r"|\bnot\b|n't\b",
  re.IGNORECASE,
)
# What follows the name where it comes first: "Lima is the capital of Peru."
_INVERTED = {
  "capital": (
    r"(?:,[^,]*,)? (?:is|serves as|remains|has been|being)(?: \w+ly| indeed"
    r"| still| also| of course)? (?:known as )?(?:the|its"
    r"|{country}(?:'s)?)(?: \w+(?<!cultural)(?<!financial)(?<!former)(?<!unoffi"
    r"cial)(?<!second)(?<!first)(?<!other)(?<!summer)(?<!spiritual)(?<!economic"
    r")(?<!ancient)(?<!old))? ?capital\b(?! of (?!(?:the )?(?:\w+ (?:of"
    r" )?)?{country}))|, (?:the|its|{country}'s) (?:\w+ )?capital\b(?:"
    r" city)?(?! of (?!(?:the )?{country}))"
  ),
  "continent": (
    r" is (?:indeed )?(?:the|a|your) (?:continent|answer|correct|right)\b"
    r"|, which is (?:a|the) continent\b"
  ),
  "currency": (
    r" is (?:\w+ly )?(?:the|its|{country}'s)(?: (?:official|legal"
    r"|national))? (?:currency|money)\b(?! of (?!(?:the )?{country}))"
  ),
}
# "the Ottawa River"
_LONGER = re.compile(
  r" (?!City\b|Sterling\b|D\.?C|Ocean\b|Region\b)[A-Z][a-z]+"
)
# "The capital of Singapore is Singapore."
_ENDS = re.compile(r"(?:\b(?:is|in)(?: the)?|\A)\W*\Z")
_LISTED = re.compile(
  r"\W*or\W*\Z|\W*(?:and|or|&|/)\s+(?:maybe |perhaps )?(?:the )?[A-Z]"
)
_BEHIND_ALONE = re.compile(
  r"\W*(?:city|continent|\([^()]*\)|,? (?:not|rather than)\b.*|, (?:yes"
  r"|of course|indeed|situated|located|which|the|in|specifically|a)\b.*"
  r"|is (?:the )?(?:correct|right|answer)\b.*)?\W*",
  re.DOTALL,
)
_OPENING = re.compile(
  r"^\W*(?:(?:yes|no|sure|correct|right|indeed|well|so|actually|answer"
  r"|i (?:also |would )?(?:think|believe|say)(?: that)?|i'd say|it's|it is"
  r"|that's|that is|that would be|(?:north|south|east|west|central)(?:ern|east"
  r"|west|eastern|western)?|the|in|located in|you're right|of course"
  r"|definitely|i agree(?: with you)?|to answer [^,]*)\b\W*)*"
)


def given(
  text: str, country: str, kind: str, names: re.Pattern[str]
) -> list[str]:
  """The names that a text gives a country.

  Args:
    text: without accents.
    country: its name, normalised, without an article.
    kind: "capital", "continent" or "currency".
    names: matches all names of this kind, in lower case.
  """
  found = []
  is_name = bool(names.fullmatch(country))
  country = country.replace(" ", r"[\W_]+")  # "Guinea-Bissau"
  for clause in _clauses(text):
    low = clause.lower()
    own = [m.span() for m in re.finditer(rf"\b{country}\b", low)]
    for match in names.finditer(low):
      # "South Africa is in Asia": a part of the country's name is no answer.
      inside = [s for s in own if s[0] <= match.start() and match.end() <= s[1]]
      is_last = own and match.span() == own[-1]
      if inside and not (
        is_name and is_last and _ENDS.search(low[: match.start()])
      ):
        continue
      if _LONGER.match(clause, match.end()):
        continue
      if _LISTED.match(clause, match.end()) or _rivals(low, match, names, own):
        continue
      is_repeated = not re.search(r"[a-z]{2}", names.sub("", low))
      if is_repeated or _is_given(
        low, match.start(), match.end(), country, kind
      ):
        found.append(match.group())
  return found


def _rivals(
  clause: str,
  name: re.Match[str],
  names: re.Pattern[str],
  own: list[tuple[int, int]],
) -> bool:
  """Whether a clause has another name, and does not deny it."""
  return any(
    other.group() != name.group()
    and not any(a <= other.start() and other.end() <= b for a, b in own)
    and not _DENIED.search(clause[: other.start()])
    for other in names.finditer(
      re.sub(r"\([^()]*\)", lambda match: " " * len(match[0]), clause)
    )
  )


_DENIED = re.compile(r"\b(?:not|rather than|instead of|than)\b[^,.]*\Z")


def _clauses(text: str) -> Iterator[str]:
  for sentence in replies.sentences(text):
    if sentence.endswith("?"):
      continue
    yield from filter(None, _CLAUSE.split(_CONCEDED.sub("", sentence)))


def _is_given(text: str, start: int, end: int, country: str, kind: str) -> bool:
  """Whether a clause says that a name is this country's."""
  before, after = text[:start], text[end:]
  opening = _OPENING.match(before).end()
  if kind == "currency" and before[opening:].strip() in {*NATIONS, "us"}:
    opening = len(before)  # "Swiss franc"
  behind = re.sub(rf"^, {country}\b", "", after)
  if not before[opening:].strip(" \"'(*") and _BEHIND_ALONE.fullmatch(behind):
    return True
  # "The continent of Africa is Zambia."
  of_it = (
    rf" is (?:actually |indeed |known as )?(?:{text[start:end]}|{country})\W*"
  )
  if re.fullmatch(r"\W*the continent (?:of )?", before) and re.fullmatch(
    of_it, after
  ):
    return True
  inverted = _INVERTED[kind].replace("{country}", country)
  if re.match(inverted, after) and _knows(before[opening:], country):
    return not _others(after, country) or bool(re.search(country, after))
  if kind == "capital" and re.match(r"\W*(?:'s\b|is near\b)", after):
    return False
  if re.search(
    rf"(?:{country}'s (?:\w+ )?capital(?: city)?|capital(?: city)? of"
    rf" (?:the )?{country}), $",
    before,
  ):
    return kind == "capital"
  return (
    bool(
      re.search(
        r"\b(?:is|are|be|been|lies|located|belongs|called|uses|s)\b", before
      )
    )
    and not _ELSEWHERE.search(before)
    and not _others(before, country, kind)
    and _knows(before, country)
  )


def _knows(before: str, country: str) -> bool:
  """Whether all words before a name may stand in a sentence that gives it."""
  rest = re.sub(rf"\b{country}\b(?:'s)?", "", before)
  # "The Italian continent is Europe."
  for word in country.split(r"[\W_]+"):
    rest = re.sub(rf"\b{re.escape(word[:4])}\w*", "", rest)
  return all(
    word in _BEFORE
    or word in NATIONS
    or word.endswith(("est", "most"))
    or word.isdigit()
    for word in re.findall(r"[\w'-]+", rest)
  )


def _others(before: str, country: str, kind: str = "") -> bool:
  """Whether a text is about another country, or place."""
  rest = re.sub(rf"\b(?:the )?{country}\b", "", before)
  if _all_countries().search(rest):
    return True
  owner = re.search(
    r"\b(?:capital(?: city)?|currency) of (?:the )?([\w' -]+?) (?:is|are"
    r"|has)\b",
    rest,
  )
  return kind != "continent" and owner is not None and bool(owner[1].strip())


@functools.cache
def _all_countries() -> re.Pattern[str]:
  names: Collection[str] = {
    re.sub(r"[^a-z]+", " ", country["name"].lower()).strip()
    for country in countries.countries(1)
  }
  return re.compile(
    rf"\b(?:{'|'.join(sorted(names, key=len, reverse=True))})\b"
  )
