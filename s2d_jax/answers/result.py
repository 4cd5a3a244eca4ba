"""The number that a reply comes to, where nothing marks it as the answer."""

from __future__ import annotations

from fractions import Fraction
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.corrections import SETTLES
from s2d_jax.answers.latex import math_value
from s2d_jax.answers.numerals import Numeral, canonical, find, only, plain
from s2d_jax.answers.quantity import says
from s2d_jax.answers.stated import (
  MORE,
  RELATIVE,
  alone,
  conclusion,
  given,
  is_unfinished,
  right_sides,
)
from s2d_jax.answers.units import asked_unit, same_amount

# "42 kg, which means that each carries 8 kg", "6 dollars, as much as a jug"
_REASON = re.compile(r",\s+(?:which means|as much as|as many as)\b")
_EQUATION_END = re.compile(
  r"=\s*[-+]?[$€£]?\s*\d[\d,.]*(?:\s+[^\W\d]\w+){0,3}\W*\Z"
)
_NOTE = re.compile(r"\(|\W*note\b", re.IGNORECASE)
_FEW_WORDS = 4
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_ONE_EQUATION = 12  # words; the end of a longer one may be half a number


def concluded(text: str, question: str) -> Fraction | None:
  """The value that a reply without a marker ends on."""
  lines = [line for line in text.splitlines() if line.strip()]
  if not lines:
    return None
  # Above an explanation, or below one.
  is_head = not re.search("[=(]", lines[0]) and "\n\n" in text
  first = alone(lines[0]) if is_head or len(lines) == 1 else None
  last = None if _is_item(lines[-1]) else alone(_REASON.split(lines[-1])[0])
  if last is None:
    last = _last_result(text, question)
  if None not in (first, last):
    return last if first == last else None
  return first if last is None else last


def _last_result(text: str, question: str) -> Fraction | None:
  """The value that the last sentence of a reply comes to."""
  if not _is_whole(text) or replies.refuses(text):
    return None
  said = [s for s in replies.sentences(text) if not _NOTE.match(s)]
  if not said:
    return None
  last = said[-1]
  head = MORE.split(last)[0]
  if not _SUMS_UP.search(last):
    head = re.split(r",\s+(?=\d)", head)[0]
  value = only(find(head)) if len(said) == 1 else None
  if question and _is_answered(head, value, question):
    return value
  if _is_none(last, question):
    return Fraction(0)
  if ahead := re.search(r"\bin how many (\w+)", question, re.IGNORECASE):
    found = re.match(rf"\W*(?:so )?in (\d+) {ahead[1]}\b", last, re.IGNORECASE)
    if found:
      return Fraction(found[1])
  if amounts := same_amount(last):
    return amounts.get(asked_unit(question))
  value = _worked_out(said, question)
  return _above_remarks(said, question) if value is None else value


# "She has no stamps left", "None of them remain"
_NONE_LEFT = re.compile(
  r"\b(?:none(?: of [\w ]+?)? (?:(?:is|are|will be) (?:left|remaining)"
  r"|remains?)"
  r"|(?:no|n['’]t (?:\w+ )?any|not (?:\w+ )?any) (?:more )?\w+ (?:is |are )?"
  r"(?:left|remaining))\b(?! (?:to|out)\b)"
  r"(?:[^\d.]*|, (?:as|since|because)\b.*)\W*\Z",
  re.IGNORECASE,
)


def _is_none(sentence: str, question: str) -> bool:
  """Whether a sentence says that there is nothing of what is to be counted."""
  asked = re.search(r"\bhow (?:many|much)\s+(\w+)", question, re.IGNORECASE)
  if not asked or "?" in sentence:
    return False
  has_none = rf"\b(?:has|have|there are|there is) no {asked[1]}\b[^,.;]*\W*\Z"
  return bool(
    re.search(has_none, sentence, re.I) or _NONE_LEFT.search(sentence)
  )


def _above_remarks(said: list[str], question: str) -> Fraction | None:
  """The value of a sentence that says what was asked, above mere remarks."""
  asked = replies.sentences(question)[-1] if question else ""
  told = {one.value for one in find(plain(question))}
  for place in range(len(said) - 2, -1, -1):
    head = MORE.split(said[place])[0]
    found = [one for one in find(head) if one.value not in told]
    if not asked or not _is_remark(said[place + 1]):
      return None
    if len(found) == 1 and not re.search("[?=]", head):
      rest = head[: found[0].start] + head[found[0].end :]
      if says(rest, question, asked):
        return found[0].value
  return None


# "You save $27!", "This does not include taxes."
_REMARK = re.compile(
  r".*!|(?:this|that|these|remember|note)\b.*|[^\d]*", re.I | re.DOTALL
)


def _is_remark(sentence: str) -> bool:
  """Whether a sentence takes nothing back, and works nothing out."""
  is_step = re.search("[=?]", sentence) or _TO_DO.search(sentence)
  is_remark = _REMARK.fullmatch(sentence) and not SETTLES.search(sentence)
  return bool(is_remark) and not is_step


def _worked_out(said: list[str], question: str) -> Fraction | None:
  """The value that the last of several sentences comes to."""
  last = said[-1]
  if last.endswith("?") or _TO_DO.search(last):
    return None
  if "=" not in last and replies.is_supposed(last):
    return None
  # "Tom had 12 and gave away 3, so he has 9."
  so, result = conclusion(last)
  if not so and _repeats(last, question):
    return None
  if "%" in result and question and not _ASKS_SHARE.search(question):
    return None
  if all(RELATIVE.match(result, one.end) for one in find(result)):
    so, result = "", next(filter(find, MORE.split(last)[:1]), last)
  if end := _IS_AT_END.search(result):
    result = end[0]
  if _WORDS.search(result) or _compares(result, question):
    return None
  sides = right_sides(result)
  if sides:
    return None if _ONE_MORE.search(result) else sides[-1]
  found = given(result)
  value = (
    only(_new(found, said[:-1], question) or found)
    if found
    else math_value(result)
  )
  is_new = so or _SUMS_UP.search(last) or _agrees(said, value, question)
  return value if is_new else None


# What is still to be done has no result yet.
_TO_DO = re.compile(
  r"^[^=]*(?:\b(?:needs? to|have to|has to|let['’]?s)\b|^\W*(?:\w+ \d+\W+)?"
  r"(?:(?:now|next|first|then),? )?(?:we |you |I )?(?:must |can |should )?"
  r"(?:calculate|determine|find|add|subtract|multiply|divide|count|repeat|use"
  r"|write|check)\b)[^=]*$",
  re.IGNORECASE,
)
_ASKS_SHARE = re.compile(r"%|\bper ?cent|\b(?:share|rate|probability)\b", re.I)
# "Half of 86 is 43.", "17 times 6 equals 102 apples."
_IS_AT_END = re.compile(
  r"\b(?:is|equals|makes|gives)\s+[$€£]?-?\d[\d,.]*(?:\s+[a-z]+){0,2}\W*\Z"
)
# "12 × 2 = 24 for the cards, and 4 for the pens"
_ONE_MORE = re.compile(r"=[^=]*\d[^=\d]*(?:,|;|\band\b)[^=\d]*\d[^=]*\Z")
_COMPARISON = re.compile(r"\b(?:more|less|fewer|[a-z]{3,}er)\b", re.IGNORECASE)


def _compares(text: str, question: str) -> bool:
  """Whether a text tells a difference, and the question asks for none."""
  is_relative = re.search(rf"{_COMPARISON.pattern}\s+than\b", text, re.I)
  is_asked = _COMPARISON.search(question) or "difference" in question
  return bool(question and is_relative and not is_asked)


def _new(
  found: list[Numeral], before: list[str], question: str
) -> list[Numeral]:
  """Of several values that a sentence has, those that were not told."""
  told = {one.value for one in find(plain(question))}
  if not question:
    told = {one.value for sentence in before for one in find(sentence)}
    sides = [side for sentence in before for side in right_sides(sentence)]
    told -= set(sides[-1:])
  return [one for one in found if one.value not in told]


_SUMS_UP = re.compile(
  r"\b(?:total|in all|we get|makes|correct|final)\b", re.IGNORECASE
)


def _agrees(said: list[str], value: Fraction | None, question: str) -> bool:
  """Whether a value was worked out before, or is all that a reply tells."""
  *before, last = said
  if question and _is_answered(last, value, question):
    return True
  sides = [side for sentence in before for side in right_sides(sentence)]
  if sides:
    return value == sides[-1]
  found = [one for sentence in before for one in find(sentence)]
  if found:
    return value == found[-1].value
  last = MORE.split(last)[0]
  told = find(last)
  if not question:
    return len(told) == 1
  ends = [0, *(one.end for one in told)]
  starts = [*(one.start for one in told), len(last)]
  rest = "".join(last[a:b] for a, b in zip(ends, starts, strict=True))
  return says(rest, question)


def _is_answered(last: str, value: Fraction | None, question: str) -> bool:
  """Whether a sentence has one new number, and else what was asked."""
  asked = replies.sentences(question)[-1]
  told = {one.value for one in find(plain(question))}
  found = [one for one in find(last) if one.value not in told]
  if len(found) != 1 or found[0].value != value:
    return False
  rest = last[: found[0].start] + last[found[0].end :]
  is_told = bool(find(rest)) and not find(asked)
  return is_told or says(rest, question, asked)


# With these a numeral is only a part of what is said.
_WORDS = re.compile(
  r"\b(?:half|twice|double|triple|dozens?|times|below"
  r"|thirds?|quarters?|(?:fif|six|eigh|ten)ths?)\b",
  re.IGNORECASE,
)


def _repeats(sentence: str, question: str) -> bool:
  """Whether a sentence only says what the question says, numbers and all."""
  words = re.findall(r"\w+", sentence.lower())
  known = set(re.findall(r"\w+", question.lower()))
  numbers = [word for word in words if word[0].isdigit()]
  return (
    bool(question)
    and all(number in known for number in numbers)
    and 3 * sum(word in known for word in words) >= 2 * len(words)
  )


def _is_item(line: str) -> bool:
  """Whether a line is a step of a list, "3. 20"."""
  return re.match(r"\s*(?:\d+[.)]|\|)\s", line) is not None


def _is_whole(text: str) -> bool:
  """Whether a reply is complete, and does not stop amid a calculation."""
  if is_unfinished(text):
    return False
  if not replies.is_cut_off(text):
    return True
  if _is_half_a_result(text):
    return False
  is_equation = _EQUATION_END.search(text) and len(_LETTERS.findall(text)) < 3
  most = _ONE_EQUATION if is_equation else _FEW_WORDS
  return len(text.split()) <= most


_SUM = re.compile(
  r"(\d[\d,]*(?:\.\d+)?)\s*([-+*/×÷x])\s*(\d[\d,]*(?:\.\d+)?)\s*="
  r"\s*(\d[\d,]*)\Z"
)


def _is_half_a_result(text: str) -> bool:
  """Whether a text stops in the digits of a result: "35 + 5 = 4"."""
  match = _SUM.search(text.strip())
  if not match:
    return False
  one, other = (Fraction(match[n].replace(",", "")) for n in (1, 3))
  results = {
    "+": one + other,
    "-": one - other,
    "/": one / other if other else one,
  }
  sign = match[2].replace("÷", "/")
  result = canonical(results.get(sign, one * other))
  said = match[4].replace(",", "")
  return result != said and result.startswith(said)
