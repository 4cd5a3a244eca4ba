"""Words of answers: in one spelling, and alike in all their forms."""

from __future__ import annotations

import functools
import re
import unicodedata

_ARTICLE = re.compile("a|an|the", re.IGNORECASE)
# Signs that belong to a word: ".NET", "-5", "$5"; "C++", "C#", "50%".
_SIGNS_BEFORE = re.compile(r"(?:\.(?=[^\W\d]{2})|[-+]?[$€£¥₹]?\.?(?=\d)|[#@&])")
_SIGNS_BEHIND = "+#%°"


def normalise(text: str) -> str:
  """Lower case, no articles, no punctuation round words, single spaces.

  Latin letters lose their accents; marks of other scripts are letters of their
  own and stay. "C++", "-5", "3.14" and "AC/DC" keep their signs.
  """
  if text.isascii() and text.isalpha():
    return text.lower()  # most are single words
  text = re.sub(r"[−‐‑–]", "-", unicodedata.normalize("NFKC", text))
  text = re.sub("[\ufe0e\ufe0f\u200b-\u200d]", "", text)  # of emoji
  words = [(word, bare) for word in text.split() if (bare := _bare(word))]
  last = len(words) - 1
  kept = [
    bare
    for place, (word, bare) in enumerate(words)
    # "Vitamin A" and "A. A. Milne" have no article.
    if not (
      _ARTICLE.fullmatch(bare)
      and "." not in word
      and place < last
      and (word.islower() or not place)
    )
  ]
  return _without_accents(" ".join(kept)).casefold()


def _without_accents(text: str) -> str:
  if text.isascii():
    return text
  kept: list[str] = []
  base = ""
  for c in unicodedata.normalize("NFD", text):
    if not unicodedata.combining(c):
      base = c
    elif unicodedata.name(base, "").startswith("LATIN") if base else False:
      continue
    kept.append(c)
  return unicodedata.normalize("NFC", "".join(kept))


def _bare(word: str) -> str:
  """A word without punctuation round it, or dots between initials."""
  if word.isalpha():
    return word
  start, end = 0, len(word)
  while start < end and not (
    _is_letter(word[start]) or _SIGNS_BEFORE.match(word, start)
  ):
    start += 1
  while end > start and not (
    _is_letter(word[end - 1]) or word[end - 1] in _SIGNS_BEHIND
  ):
    end -= 1
  word = word[start:end]
  # "u.s.a", "j.r.r"; but "3.14" and "example.org" stay.
  if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
    return word.replace(".", "")
  return re.sub("['’]", "", word).replace("_", " ").strip()


def _is_letter(c: str) -> bool:
  """Letters, digits, and the marks that some scripts write behind them."""
  return unicodedata.category(c)[0] in "LNM"


VERBS = frozenset(
  """
  is are was were be been am ist est es has have had do does did can could will
  would shall should may might must says said means
  """.split()
)
NO_NAME = VERBS | set(
  """
  i you we he she they it me us them him her my your our their this that these
  those there here please let hmm
  """.split()
)
# Words that say nothing new about what was asked.
EMPTY = VERBS | set(
  """
  a an the die der das la le el las los les von du del ein eine une un in on at
  of by to for from with who what which where when how why it
  he she they this that there most its and city country place thing person one
  name names named number question answer call called known as about
  approximately roughly
  """.split()
)

# Words that a sentence may have besides those of the question.
NEUTRAL = (EMPTY - frozenset("place city country person number".split())) | set(
  """
  i we me my you your his her its their our believe think guess would also still
  just indeed actually
  film movie book novel play song opera album series painting world earth planet
  human solar system located situated set lies official common main wide correct
  right exact only famous well said considered believed held took place happened
  occurred comes gives uses get gets such within own process term regarded
  credited often used typically normally usually looking held lies lie based
  today currently likely you called primarily mainly mostly
  """.split()
)  # fmt: skip
NATIONS = frozenset(
  """
  british english french german dutch greek american italian russian indian
  spanish polish irish scottish swedish danish turkish swiss chinese japanese
  austrian norwegian european african asian female male canadian australian
  mexican brazilian portuguese hungarian czech soviet
  spaniard frenchman englishman scotsman irishman dutchman
  """.split()
)
# What is said of a thing, or of no thing, is not its name.
NOT_A_THING = frozenset(
  """
  no not never none nothing nobody neither nor or any each every all some many
  both most other another same different several various lots such very so more
  less when about from with for as used made found known often always usually
  once formerly previously originally initially traditionally almost nearly
  similar popular common typical important special unique huge big small large
  great good bad old new cold hot dead alive true false wrong right correct easy
  hard rich poor part one because if than but answer question unknown uncertain
  unclear undefined type kind sort form first happy sad able
  home near close far away next
  """.split()
)


def stems(text: str) -> set[str]:
  """Words with a meaning of their own, alike in all their forms."""
  words = set(normalise(text).split()) - EMPTY
  return {_stem(word) for word in words}


@functools.lru_cache(maxsize=4096)
def _stem(word: str) -> str:
  """The consonants of a word's beginning: "wrt" in wrote and written."""
  if word[0].isdigit():
    return word
  word = "write" if word == "author" else word
  bare = (
    re.sub(r"(?:ing|ed|en|er|or|es|s|e)$", "", word) if len(word) > 4 else word
  )
  return re.sub(r"(.)\1", r"\1", word[0] + re.sub("[aeiou]", "", bare[1:]))[:4]
