"""The words of a text, as far as they tell it from another wording of it."""

from __future__ import annotations

import re
import unicodedata

Words = tuple[str, ...]

_ACCENTS = re.compile("[\u0300-\u036f]")
# Before a digit these are signs of arithmetic, which are no punctuation.
_OPERATOR = re.compile(r"[-‐‑–*/](?=\s*\d)")
_SIGNS = str.maketrans({"*": "×", "/": "÷"} | dict.fromkeys("-‐‑–", "−"))
# Scripts without spaces: kana and Chinese characters are words of their own.
_IDEOGRAPHS = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))


class _Characters(dict):
  """What stands for each character, looked up once: see `words_of`."""

  def __missing__(self, code: int) -> str | None:
    character = chr(code)
    kind = unicodedata.category(character)
    if kind == "Cf":  # no width: soft hyphens, joiners
      self[code] = None
    elif kind[0] == "S" or any(a <= code <= b for a, b in _IDEOGRAPHS):
      self[code] = f" {character} "
    else:
      self[code] = character if kind[0] in "LMN" else " "
    return self[code]


_CHARACTERS = _Characters()


def words_of(text: str) -> Words:
  """The words without case, accents and punctuation.

  Unicode's compatible forms are one (NFKC), accents on Latin, Greek and
  Cyrillic letters go, and marks of other scripts stay. Symbols are words: "3 +
  4" is not "3 − 4", and neither is "3-4" "3/4".
  """
  text = unicodedata.normalize("NFKC", text).casefold()
  if not text.isascii():
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    text = unicodedata.normalize("NFC", text)
  text = _OPERATOR.sub(lambda sign: sign[0].translate(_SIGNS), text)
  return tuple(text.translate(_CHARACTERS).split())
