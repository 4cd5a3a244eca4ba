"""Rules about the form of a reply, each of which a program can check.

In the manner of IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for
Large Language Models"); the rules, their wording and their checks are our own.
A reply is taken as `answers.reply.said` gives it, without markup.

Checks count as a reader would:

- Words stand between spaces, dashes or dots (… or ...), and have a letter or a
  digit: "well-known", "don't" and "3.5" are one each, "&" is none. What marks
  the item of a list ("-", "2.") is no word.
- Sentences end with ".", "!" or "?", but not at an abbreviation, and with their
  line, unless a comma ends that. What stands last counts without an end.
- Lines that are blank do not count.
- Upper and lower case are one, unless the rule is about them; so are curly and
  straight quotation marks.

A reply of one word follows no rule, unless the rule asks for few words, and
words that a rule asks for are not enough to follow it: "OK" is in capital
letters and has no comma, but is no reply.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import json
import re
from typing import Any

from s2d_jax.answers import reply as replies
from s2d_jax.answers.json_value import Json

_LEAST_WORDS = 2
_STRAIGHT = str.maketrans("“”„‘’", '"""\'\'')
_SIGNS = {
  "comma": ",",
  "colon": ":",
  "full stop": ".",
  "question mark": "?",
  "exclamation mark": "!",
}
_AROUND = {
  "double quotation marks": ('"', '"'),
  "round brackets": ("(", ")"),
  "square brackets": ("[", "]"),
}
_MARKER = re.compile(r"^[^\S\n]*(?:[-*+•–]|\d+[.)])[^\S\n]+", re.MULTILINE)
_BULLET = re.compile(r"^[^\S\n]*(?:[-*+–][^\S\n]+|•)[^\n]*[^\W_]", re.MULTILINE)
_STEP = re.compile(
  r"^[^\S\n]*(?:step )?(\d+)[.):][^\S\n]+[^\n]*[^\W_]",
  re.MULTILINE | re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Rule:
  """A kind of rule.

  Attributes:
    wording: as users read it, with a placeholder for the value.
    values: it may have, each of which makes a rule.
    is_followed: whether a text follows it, from the text and the value.
  """

  wording: str
  values: tuple[Any, ...]
  is_followed: Callable[[str, Any], bool]

  def worded(self, value: Any) -> str:
    named = value
    if isinstance(value, list):
      named = " and ".join(f'"{key}"' for key in value)
    return self.wording.format(value=named, s="" if value == 1 else "s")


def is_followed(kind: str, value: Any, text: str) -> bool:
  """Whether a text follows the rule of this kind and value."""
  return RULES[kind].is_followed(text.translate(_STRAIGHT).strip(), value)


def words(text: str) -> list[str]:
  """The words of a text, with the signs at them."""
  found = re.split(r"\s|[—–…]|--+|\.{3}", _MARKER.sub("", text))
  return [word for word in found if any(map(str.isalnum, word))]


def sentences(text: str) -> list[str]:
  """The sentences of a text, polite ones included."""
  text = re.sub(r",[^\S\n]*\n+", ", ", _MARKER.sub("", text))
  return list(filter(words, replies.SENTENCE_END.split(text)))


def _lines(text: str) -> list[str]:
  return list(filter(str.strip, text.splitlines()))


def _is_reply(text: str) -> bool:
  return len(words(text)) >= _LEAST_WORDS


def _mentions(text: str, word: str) -> bool:
  """As a word of its own, or a part of one with an apostrophe or a hyphen."""
  pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
  return re.search(pattern, text, re.IGNORECASE) is not None


def _begins_with(text: str, phrase: str) -> bool:
  pattern = rf"[\"'\s]*{re.escape(phrase)}(?!\w)(.*)"
  found = re.match(pattern, text, re.IGNORECASE | re.DOTALL)
  return found is not None and _is_reply(found[1])


def _ends_with(text: str, phrase: str) -> bool:
  pattern = rf"(.*)(?<!\w){re.escape(phrase)}[\"'\s.!…]*"
  found = re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL)
  return found is not None and _is_reply(found[1])


def _ends_with_sign(text: str, sign: str) -> bool:
  return text.rstrip("\"')] ").endswith(_SIGNS[sign]) and _is_reply(text)


def _is_in_case(text: str, case: str) -> bool:
  unwanted = str.islower if case == "capital letters" else str.isupper
  return _is_reply(text) and not any(map(unwanted, text))


def _has_bullets(text: str, count: int) -> bool:
  return len(_BULLET.findall(text)) == count


def _has_steps(text: str, count: int) -> bool:
  return [int(n) for n in _STEP.findall(text)] == list(range(1, count + 1))


def _is_between(text: str, signs: str) -> bool:
  """Whether it stands between signs that are not used within."""
  opening, closing = _AROUND[signs]
  text = text.removesuffix(".")
  inner = text[1:-1]
  return (
    text.startswith(opening)
    and text.endswith(closing)
    and not {opening, closing} & set(inner)
    and _is_reply(inner)
  )


def _is_object(text: str, keys: list[str]) -> bool:
  """Whether it is a JSON object of these keys, none of which is left empty."""
  found = Json()(text)
  value = json.loads(found.text) if found and found.strict else None
  if not isinstance(value, dict) or value.keys() != set(keys):
    return False
  return not any(one in (None, "", [], {}) for one in value.values())


RULES = {
  "begins_with": Rule(
    'Begin your reply with the words "{value}".',
    ("Of course", "In short", "To be honest", "Good question", "Let me see"),
    _begins_with,
  ),
  "ends_with": Rule(
    'End your reply with the words "{value}".',
    (
      "that is all",
      "good luck",
      "hope this helps",
      "take care",
      "see you soon",
    ),
    _ends_with,
  ),
  "ends_with_sign": Rule(
    "End your reply with one {value}.",
    ("question mark", "exclamation mark"),
    _ends_with_sign,
  ),
  "case": Rule(
    "Write your whole reply in {value}.",
    ("capital letters", "lower case letters"),
    _is_in_case,
  ),
  "exact_words": Rule(
    "Use exactly {value} words.",
    (4, 5, 6, 8, 10),
    lambda text, count: len(words(text)) == count,
  ),
  "at_most_words": Rule(
    "Use at most {value} words.",
    (5, 10, 20, 30, 40),
    lambda text, most: 1 <= len(words(text)) <= most,
  ),
  "at_least_words": Rule(
    "Use at least {value} words.",
    (30, 40, 50, 60),
    lambda text, least: len(words(text)) >= least,
  ),
  "sentences": Rule(
    "Reply in exactly {value} sentence{s}.",
    (1, 2, 3, 4),
    lambda text, count: len(words(text)) > count == len(sentences(text)),
  ),
  "lines": Rule(
    "Your reply must have exactly {value} line{s}.",
    (1, 2, 3, 5),
    lambda text, count: _is_reply(text) and len(_lines(text)) == count,
  ),
  "bullets": Rule(
    'Reply with exactly {value} bullet points, like "- apples".',
    (2, 3, 4, 5),
    _has_bullets,
  ),
  "numbered_steps": Rule(
    "Give exactly {value} numbered steps, each on a line of its own.",
    (2, 3, 4, 5),
    _has_steps,
  ),
  "contains": Rule(
    'Use the word "{value}" in your reply.',
    ("always", "together", "simple", "seldom", "umbrella", "Tuesday"),
    lambda text, word: _is_reply(text) and _mentions(text, word),
  ),
  "without_letter": Rule(
    'Do not use the letter "{value}" anywhere in your reply.',
    ("b", "g", "k", "w", "z"),
    lambda text, letter: _is_reply(text) and letter not in text.lower(),
  ),
  "without_word": Rule(
    'Do not use the word "{value}" anywhere in your reply.',
    ("the", "and", "you", "to", "is"),
    lambda text, word: _is_reply(text) and not _mentions(text, word),
  ),
  "without_sign": Rule(
    "Do not use a single {value} in your reply.",
    ("comma", "colon", "full stop"),
    lambda text, sign: _is_reply(text) and _SIGNS[sign] not in text,
  ),
  "between_signs": Rule(
    "Put your whole reply in {value}.",
    tuple(_AROUND),
    _is_between,
  ),
  "json_object": Rule(
    "Reply with a JSON object that has the keys {value} and no others, and"
    " write nothing else.",
    (
      ["name", "colour"],
      ["name", "price"],
      ["material", "weight"],
      ["colour", "size"],
    ),
    _is_object,
  ),
}
