"""What a reply says of a country: the capital, the continent or the currency.

A reply is read by the names that answer such a question, wherever one stands:
a small model says much besides a right name, and scores are to be fair to it. A
vote has to be sure of more: that nothing else of the kind is named, and that
every word between the country and the name is understood.
"""

from __future__ import annotations

import functools
import re

from s2d_jax.answers import mentions, reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.confirmed import confirmed
from s2d_jax.answers.mentions import Mention
from s2d_jax.answers.stance import undenied
from s2d_jax.answers.statements import CORRECTION
from s2d_jax.tasks import countries
from s2d_jax.tasks.country_facts import canonical, names, normalise, unaccented


def read(reply: str, question: str, country: str, kind: str) -> Answer | None:
  """The name of a kind that a reply gives a country.

  "The capital of Peru is Lima, not Quito." → "lima". Names that are denied or
  given to another country are no answer; two names are none, nor is a long
  reply without one. A short one may give a name that nobody knows.

  Args:
    reply: as the model gave it.
    question: without the opinion of who asks.
    country: as it is written in the question.
    kind: of `country_facts.KINDS`.

  Returns:
    The answer; one that is not sure has no vote.
  """
  said = replies.said(reply)
  own = _without_article(country)
  given = functools.partial(
    _name_given, question=question, country=own, kind=kind
  )
  found = given(said)
  if found is None:
    return None
  is_clear = _is_clear(said, found.text, own, kind)
  is_sure = is_clear and confirmed(given, said, question) is not None
  return found._replace(is_sure=is_sure)


def _without_article(country: str) -> str:
  """A country's name, normalised: "gambia"."""
  return normalise(country).removeprefix("the ")


def _name_given(
  said: str, *, question: str, country: str, kind: str
) -> Answer | None:
  """What a reply gives a country, as far as its names tell."""
  cased = _plain(said)
  text = cased.lower()
  if question.lower() in text:
    text = _OPINION.sub("", text)  # it repeats the user, word for word
  found = _given(text, country, kind)
  if any(_LISTED.match(cased, mention.end) for mention in found):
    return None
  if found and not any(_is_stated(text, m, country) for m in found):
    return None
  if found and _TAKES_BACK.search(text[max(m.end for m in found) :]):
    return None
  if found:
    different = {canonical(mention.name) for mention in found}
    is_short = len(replies.sentences(said)) == 1
    return Answer(different.pop(), is_short) if len(different) == 1 else None
  if names(kind).search(text) or replies.refuses(said):
    return None
  if kind == "continent":
    return None  # all of them are known
  return _unknown_name(said, text, country)


def _plain(text: str) -> str:
  """Without accents, with one kind of apostrophe and single spaces."""
  return " ".join(unaccented(text).replace("’", "'").split())


def _unknown_name(said: str, text: str, country: str) -> Answer | None:
  """A name that is in no list, in a short reply."""
  stated = re.search(
    r"\bis (?:(?:in|the|called|known as|located in|indeed|actually|still) )*"
    r"([^(,;]+)(?:[(,;].*)?$",
    text,
  )
  free = normalise(stated.group(1) if stated else text)
  is_short = 0 < len(free.split()) <= 3
  is_name = is_short and free != country and not re.search(r"\d", free)
  first = free.partition(" ")[0]
  is_capital = re.search(rf"\b{first.capitalize()}", unaccented(said))
  if not is_name or not is_capital or _NO_NAME.search(free):
    return None
  return Answer(free, strict=False)


# The words of a sentence that says nothing but where a country lies, or what
# its capital or currency is.
_PLAIN_WORDS = frozenset(
  "a an the is are was s lies lie located situated found in on of at to for"
  " with and which that it its this there has have uses use used by as known"
  " called named capital city town currency money unit official national legal"
  " tender country nation state republic kingdom island islands landlocked"
  " small large largest big continent region part northern southern eastern"
  " western central north south east west northeast northwest southeast"
  " southwest northeastern northwestern southeastern southwestern currently"
  " now today indeed actually definitely certainly still also yes no sure so"
  " well ok okay right correct i think believe would say you re answer my your"
  " question name here primary main entirely mainland geographically"
  " completely fully".split()
)
_STEM = 4  # letters that "Ghana" and "Ghanaian" have in common


def _is_clear(said: str, answer: str, country: str, kind: str) -> bool:
  """Whether a reply names one answer, and does so in words that are all known.

  Not clear: "Machu Picchu, in Peru, is in South America.", as the sentence is
  about something else; nor a reply with another sentence about a capital, as
  not each city has a name that is known.
  """
  is_given = False
  for sentence in replies.sentences(said):
    text = normalise(undenied(sentence))
    named = _named(text, country, kind)
    if not named and (unknown := re.search(rf"\b{answer}\b", text)):
      named = [Mention(answer, *unknown.span())]
    if any(canonical(mention.name) != answer for mention in named):
      return False
    if named and not is_given and not _is_plain(text, named[0], country):
      return False
    if not named and kind in text.split():
      return False
    is_given = is_given or bool(named)
  return is_given


def _is_plain(text: str, name: Mention, country: str) -> bool:
  """Whether a sentence says that a name is the country's, and no more.

  It may go on behind both of them, if it does not begin with the name alone.
  """
  before = text[: name.start]
  end = name.end
  if own := re.search(rf"\b{country}\b", text):
    end = max(end, own.end())
  elif not _ABOUT_IT.search(before):
    end = len(text)
  said_again = rf"\b(?:{country}|{re.escape(name.name)})\b"
  words = re.sub(said_again, "", f"{before} {text[name.end : end]}")
  of_country = tuple(
    word[:_STEM] for word in country.split() if len(word) >= _STEM
  )
  return all(
    word in _PLAIN_WORDS or word.startswith(of_country)
    for word in words.split()
  )


# What takes a name back, or only grants that it is not all wrong.
_TAKES_BACK = re.compile(
  r"\b(?:can(?:no|['’])t|could(?:n['’]t| not)) be\b|\bnot (?:\w+ )?wrong\b"
)


# What only looks like a short free answer.
_NO_NAME = re.compile(
  r"\b(?:you|your|i|we|not|no|yes|right|sure|correct|think|agree|so|it|that|this"
  r"|in|of|the|question|answer|country|capital|continent|currency|sorry)\b"
)
_OPINION = re.compile(
  r"\bi think the answer is [^.?!]* but i'm[^.?!]* not sure\b"
)
# An apology, too: what follows one seldom keeps to one country.
_TAKEN_BACK = re.compile(rf"{CORRECTION.pattern}|\bsorry\b", re.IGNORECASE)
_FORMERLY = re.compile(
  r"\b(?:used to be|formerly|until \w+|once)\W+(?:\w+\W+){0,2}$"
)
_OF = r"(?:the )?(?:\w+ )?(?:capital(?: city)?|currency) of (?:the )?"


# "The country has two capitals."
_SEVERAL = re.compile(
  r"\b(?:two|both|several)\b|\bthree (?:\w+ ){0,2}(?:capitals|currencies)\b"
)
# "Pretoria and Cape Town": the other need not be the name of a capital.
_LISTED = re.compile(r"\W*(?:and|or|&|/)\s+(?:the )?[A-Z]\w+(?! (?:is|was)\b)")


def _given(text: str, country: str, kind: str) -> list[Mention]:
  """Names that a text gives a country: not denied, nor another country's."""
  found = _named(text, country, kind)
  if not found and names(kind).fullmatch(country):
    # … unless it is the answer: "the capital of Singapore is Singapore".
    alone = re.search(rf"(?:(?<=\bis )|\A\W*){country}(?=\W*\Z)", text)
    return [Mention(country, *alone.span())] if alone else []
  if _SEVERAL.search(text):
    return []
  of_others = {
    mention.name for mention in found if _is_given_away(text, mention, country)
  }
  found = [
    mention
    for mention in mentions.affirmed(text, found)
    if not _FORMERLY.search(text[: mention.start])
    and not _is_another(text[: mention.start], country)
    and (mention.name not in of_others or _is_linked(text, mention, country))
  ]
  if len({canonical(mention.name) for mention in found}) > 1:
    taken_back = list(_TAKEN_BACK.finditer(text))
    if taken_back:
      return [m for m in found if m.start > taken_back[-1].end()]
    given = [m for m in found if _is_linked(text, m, country)]
    return given or _behind_but(text, found) or found
  return found


def _named(text: str, country: str, kind: str) -> list[Mention]:
  """Names of a kind, but for parts of the country's: "South Africa"."""
  own = [m.span() for m in re.finditer(rf"\b{country}\b", text)]
  return [
    Mention(normalise(match.group()), *match.span())
    for match in names(kind).finditer(text)
    if not any(a <= match.start() and match.end() <= b for a, b in own)
  ]


_ABOUT_IT = re.compile(
  r"\b(?:capital|continent|currency|answer|correct|right|it|that|meant)\b"
)


_END = re.compile(r"[!?\n]|(?<!\b[a-z])\.")  # but not in "U.S. Virgin Islands"


def _is_stated(text: str, mention: Mention, country: str) -> bool:
  """Whether a sentence is the name alone, or about what was asked.

  Not so in "Lima is a city in a novel of his.".
  """
  before = _END.split(text[: mention.start])[-1]
  after = _END.split(text[mention.end :])[0]
  rest = f"{before} {after}"
  is_alone = len((before + after.partition(",")[0]).split()) <= 3
  is_about = country in normalise(rest) or bool(_ABOUT_IT.search(rest))
  return is_alone or is_about


def _is_another(before: str, country: str) -> bool:
  """Whether the name that follows is that of another country."""
  owner = re.search(
    r"\b(?!it's)(\w+)'s (?:\w+ )?(?:capital|currency)\b[^.,;]*$", before
  )
  if owner is not None and not country.endswith(owner[1]):
    return True
  named = re.search(rf"\b{_OF}([^.,;]+?) is\b[^.,;]*$", before)
  # "You're thinking of Serbia, whose capital is Belgrade."
  named = named or re.search(
    r"\b(?:of|is) (?:the )?([^.,;]+), (?:whose|and its) (?:capital(?: city)?"
    r"|currency) is\b[^.,;]*$",
    before,
  )
  return named is not None and normalise(named[1]) in _others(country)


def _is_given_away(text: str, name: Mention, country: str) -> bool:
  """Whether the name is said to be another country's: "Lima is Peru's …"."""
  after = text[name.end :]
  owner = re.match(r"\W*is ([^.,;]+)'s? (?:capital|currency)\b", after)
  return (
    owner is not None
    and normalise(owner[1]) in _others(country)
    or re.match(rf"\W*is {_OF}(?!(?:the )?{country}\b)", after) is not None
  )


@functools.cache
def _others(country: str) -> frozenset[str]:
  """Names of all countries but one, as `answer` has them."""
  every = (_without_article(one["name"]) for one in countries.countries(0))
  return frozenset(every) - {country}


def _is_linked(text: str, mention: Mention, country: str) -> bool:
  """Whether a sentence says outright that the name is this country's."""
  before = (
    rf"(?:{_OF}{country}|{country}'s? \w+(?: city)?)\W+(?:is|was)\b[^.,;]*$"
    rf"|\b{country} (?:\w+ )?uses (?:\w+ ){{0,3}}$"
  )
  after = rf"\W*is {_OF}{country}\b"
  return bool(
    re.search(before, text[: mention.start])
    or re.match(after, text[mention.end :])
  )


def _behind_but(text: str, found: list[Mention]) -> list[Mention]:
  start = text.rfind(" but ")
  return [mention for mention in found if mention.start > start >= 0]
