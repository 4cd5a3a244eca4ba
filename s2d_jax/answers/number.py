"""Numbers in replies: "#### 1,234", "the answer is $18.00.", "\\frac{3}{4}"."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from fractions import Fraction
import functools
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.amount import alone, explained, is_unfinished, right_side
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.confirmed import confirmed
from s2d_jax.answers.numerals import NUMERAL, canonical, find, plain
from s2d_jax.answers.stance import undenied
from s2d_jax.answers.statements import Statement, last_word, statements
from s2d_jax.answers.words import EMPTY, normalise, stems


@dataclasses.dataclass(frozen=True)
class Number:
  """A number, by its value: 0.75, 3/4 and \\frac{3}{4} are one answer."""

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = plain(replies.said(reply))
    if replies.is_unanswered(reply) and alone(text) is None:
      return None
    read = functools.partial(self._read, question=question)
    found = read(text)
    but = {"negates"} if found and found.text == "0" else ()
    found = confirmed(read, text, question, but)
    if found is None or found.strict:
      return found
    return found._replace(is_sure=_is_last(found.text, text, question))

  def _read(self, text: str, question: str) -> Answer | None:
    value = alone(text)
    if value is not None and "\n" not in text.strip():
      return _answer(value, strict=True)
    said = statements(text)
    told = {one.value for one in find(plain(question))}
    if any(one.is_marked for one in said):
      found = last_word(said, _marked, functools.partial(_keeps, told))
      if found is None:
        return None
      value, place = found
      return _answer(value, alone(said[place].text) is not None)
    return _answer(_unmarked([one.text for one in said], text, question), False)


def _is_last(answer: str, text: str, question: str) -> bool:
  """Whether a reply is whole, and no number that is new follows its answer."""
  if len(replies.sentences(text)) > 1 and replies.is_cut_off(text):
    return False
  told = {one.value for one in find(plain(question))}
  new = [one.value for one in find(text) if one.value not in told]
  if new and canonical(new[-1]) != answer:
    return False
  # "5 slices remain, i.e. 5/8 of the pizza": of which is it asked?
  behind = re.split(r"=|\b(?:so|therefore|thus|hence)\b", text)[-1]
  last = {one.value for one in find(behind)} - told
  return len(last) <= 1


def _answer(value: Fraction | None, strict: bool) -> Answer | None:
  return None if value is None else Answer(canonical(value), strict)


def _marked(said: Statement) -> Fraction | None:
  """The number that stands behind a mark."""
  text = said.text.strip()
  if is_unfinished(text):
    return None
  text = re.sub(r"^\W*it(?:['’]s| is)\s+", "", text)
  text = re.sub(
    r"\s+(?:(?:is|are) (?:left|remaining)|remain)(?=\W*\Z)", "", text
  )
  for read in (alone, explained, right_side):
    value = read(text)
    if value is not None:
      return value
  return None


_CONCLUSION = re.compile(
  r"\b(?:so|therefore|thus|hence|(?:for )?a total of|altogether|in total"
  r"|in all|which (?:is|makes|leaves|gives|means|equals)|that(?:['’]s| is"
  r"| makes| leaves| gives)|total(?:s|ing)?|we (?:get|have)|giving|leaving"
  r"|making|comes to|equals)\b",
  re.IGNORECASE,
)


def _keeps(
  told: set[Fraction], behind: Sequence[str], answer: Fraction
) -> bool:
  """Whether sentences behind an answer come to no other number."""
  results = []
  for sentence in behind:
    if sentence.startswith("("):
      continue
    values = [one.value for one in find(sentence)]
    if values and (_CONCLUSION.search(sentence) or "=" in sentence):
      results.append(set(values[-1:]) if "=" in sentence else set(values))
    elif not set(values) <= told | {answer} and _GIVES.search(sentence):
      return False
  return not results or answer in results[-1] or results[-1] <= told


_GIVES = re.compile(r"\b(?:is|are|has|have|answer|left|gets?)\b", re.IGNORECASE)
# Words that a sentence may have besides those of the question.
_SAFE = EMPTY | set(
  """
  so therefore thus hence then now finally altogether together overall we get
  got find total sum amount number result difference left remaining remain
  remains over all in answer equal equals gives leaves leaving makes gets
  receives needs need costs cost pays paid spent spends earn earns earned takes
  took sold exactly also will have had one each every per still after giving i
  our must final means be it there that this these them his her their its my
  your you he she they us both just dollars dollar cents euros hours minutes
  days weeks years km miles cm metres meters kilometres
  kilometers kilometre distance covers travels comes tall high long su
  es son c f k
  """.split()
)
_RISKY = re.compile(
  r"\b(?:than|least|most|between|up to|under|half|twice|double|triple|dozens?"
  r"|times|below|thirds?|quarters?|(?:fif|six|eigh|ten)ths?|another|further"
  r"|additional|extra|calculate|determine|add|subtract|multiply|divide|find"
  r"|needs? to|have to|has to|let|consider|step|instead|or|per ?cent of|know"
  r"|remainder|except|besides|minus|plus|would be|should be|more to|if|first"
  r"|start(?:s|ed)? with|begins? with|began with|out of|each of|every \d|times"
  r"|question|problem|day \d|week \d|chapter \d|room \d)\b|%(?! of)",
  re.IGNORECASE,
)


def _unmarked(said: Sequence[str], text: str, question: str) -> Fraction | None:
  """The number that a reply without a mark comes to."""
  if not said or is_unfinished(text) or any(map(replies.refuses, said)):
    return None
  told = {one.value for one in find(plain(question))}
  lines = [line for line in text.splitlines() if line.strip()]
  if len(lines) > 1 and len(set(map(alone, lines)) - {None}) > 1:
    return None
  is_assigned = len(said) > 1 and "=" in said[0]  # a first step
  first = None if is_assigned else _answer_alone(said[0])
  if first is not None:
    return first if _keeps(told, said[1:], first) else None
  if len(lines) > 1 and not _is_item(lines[-1]):
    last = alone(lines[-1])
    if last is not None and "=" not in lines[-1]:
      return last
  if replies.is_cut_off(said[-1]):
    is_told = len(said) == 1 or _results(said)
    most = _MOST_WORDS if "=" in said[-1] else _FEW_WORDS * bool(is_told)
    if len(said[-1].split()) > most:
      return None
    value = _stated(said[-1], said[:-1], question, told)
    results = _results(said[:-1])
    return (
      value if not results or "=" in said[-1] or value == results[-1] else None
    )
  for place in range(len(said) - 1, -1, -1):
    value = _stated(said[place], said[:place], question, told)
    if value is not None:
      behind = said[place + 1 :]
      # A fact may have others behind it: "A baby has about 300 bones."
      is_fact = bool(question) and not told
      return value if is_fact or _keeps(told, behind, value) else None
    is_fact = bool(question) and not told and place
    if find(said[place]) and not (is_fact or _is_remark(said[place])):
      return None
  return None


# Of a sentence without an end, that may yet be whole: with an equation, or not.
_MOST_WORDS, _FEW_WORDS = 12, 6


def _answer_alone(sentence: str) -> Fraction | None:
  """The number that a reply begins with, before it explains it."""
  if _is_item(sentence):
    return None
  value = alone(sentence)
  return explained(sentence) if value is None else value


_ASIDE = re.compile(
  r"\W*\(|\W*(?:note|check|verif\w+|explanation|reason\w*)\b", re.I
)


def _is_remark(sentence: str) -> bool:
  """Whether a sentence behind a result need not be one."""
  return sentence.endswith("!") or bool(
    _ASIDE.match(sentence) or re.match(r"\W*(?:this|that)\b", sentence, re.I)
  )


def _is_item(line: str) -> bool:
  """Whether a line is a step of a list, "3. 20"."""
  return re.match(r"\s*(?:\d+[.)]|\||[-*•])\s", line) is not None


_ENDS_IN_TAIL = re.compile(
  r"→\s*|\b(?:so|therefore|thus|hence|for a total of|(?:which|that"
  r"|this) (?:makes|leaves|gives|means(?: that)?)|(?:to|and|we) get|it (?:must"
  r"|has to) be|i\.e\.|(?<=, )for(?= \W*\d))(?!\w)[,:]?\s*",
  re.IGNORECASE,
)
# "It's 18.", "There are 18 eggs left."
_PRONOUN = re.compile(
  r"\W*(?:(?:it|that|this|there|they|he|she|we|you)(?:['’]s|['’]re| (?:is|are"
  r"|was|were|will be|has|have|had|gets?|needs?|pays?|earns?))|answer:?)\s+",
  re.IGNORECASE,
)
_BECAUSE = re.compile(r"\b(?:because|since|as)\b", re.IGNORECASE)
_MORE = re.compile(
  r",?\s+(?:because\b|(?:after|since|when|while)\b)|,\s+(?:which\b|at|with|as)\b"
  r"|\s\(",
  re.IGNORECASE,
)


def _stated(
  sentence: str, before: Sequence[str], question: str, told: set[Fraction]
) -> Fraction | None:
  """The number that a sentence gives as what was asked, or as a result."""
  is_aside = sentence.endswith("?") or _ASIDE.match(sentence)
  if is_aside or replies.refuses(sentence):
    return None
  if _is_none(sentence, question):
    return Fraction(0)
  sentence = re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", undenied(sentence))
  sentence = re.sub(r"(?<=[\w%])\s+\([^()]*\)(?=\W*\Z)", "", sentence)
  if _CONDITION.search(_asked_out(sentence, question)):
    return None
  tails = list(_ENDS_IN_TAIL.finditer(sentence))
  tail = sentence[tails[-1].end() :] if tails else sentence
  if _is_risky(tail, question):
    return None
  head = _MORE.split(tail)[0]
  if re.search("[=≈]", head):
    return right_side(head)
  is_proved = "=" in tail and _BECAUSE.search(tail)
  if "=" in tail and not is_proved:
    return None
  pronoun = None if before else _PRONOUN.match(tail)
  bare = tail[pronoun.end() :] if pronoun else tail
  if pronoun and _ASKS_LEFT.search(question) and _PAST.search(pronoun[0]):
    return None
  if (tails or pronoun) and (value := alone(bare)) is not None:
    return value
  if not is_proved and _is_open(tail):
    return None
  return _counted(tail, bool(tails), before, question, told)


def _counted(
  text: str,
  is_conclusion: bool,
  before: Sequence[str],
  question: str,
  told: set[Fraction],
) -> Fraction | None:
  """The one number of a sentence that else has words of the question."""
  head = _MORE.split(text)[0]
  head = head if find(head) else text
  found = find(head)
  new = [one for one in found if one.value not in told]
  found = new if len(found) > 1 else found
  if len(found) != 1:
    return None
  [one] = found
  if _goes_on(text[len(head) :], one.value, told):
    return None
  rest = head[: one.start] + " " + head[one.end :]
  results = _results(before)
  is_result = bool(results) and results[-1] == one.value
  if not question:
    is_said = is_conclusion or is_result or not before
    return one.value if is_said and len(rest.split()) <= _MOST_REST else None
  is_asked = bool(stems(rest) & stems(question)) and one in new
  if _ASKS_LEFT.search(question) and not _SAYS_LEFT.search(rest):
    is_asked = False
  is_said = (
    is_asked
    or is_result
    or is_conclusion
    or (_SUMS_UP.search(rest) and not _ASKS_LEFT.search(question))
  )
  unknown = _unknown(rest, question)
  most = 2 if is_result or is_conclusion else 0
  # "15.6 litres of fuel"
  unit = re.match(r"\s*\w+ of (\w+)", head[one.end :])
  is_unit = unit is not None and unknown == {unit[1].lower()}
  is_known = len(unknown) <= most or is_unit
  return one.value if is_said and is_known else None


def _goes_on(text: str, value: Fraction, told: set[Fraction]) -> bool:
  """Whether it comes to another number: ", and after 4 get on there are 26"."""
  is_later = re.match(r",?\s+(?:after|when|while)\b", text, re.IGNORECASE)
  values = {one.value for one in find(text)}
  return is_later is not None and bool(values - told - {value})


_ASKS_LEFT = re.compile(r"\b(?:left|remain\w*)\b[^.!?]*\?\W*\Z", re.IGNORECASE)
_PAST = re.compile(r"\b(?:was|were|had)\b", re.IGNORECASE)
_SAYS_LEFT = re.compile(r"\b(?:left|remain\w*|over|now|still)\b", re.IGNORECASE)
_MOST_REST = 20  # words of a sentence beside its number
_OPERATOR = re.compile(r"(?:_|\b[a-z])\s*[-+*/×÷]|[-+*/×÷]\s+(?:_|[a-z]\b)")


def _is_open(text: str) -> bool:
  """Whether a sum is left to be worked out: "12 - 4", "x + 19"."""
  return _OPERATOR.search(NUMERAL.sub("_", text)) is not None


# "She has no stamps left", "None of them remain"
_NONE_LEFT = re.compile(
  r"\b(?:none(?: of [\w ]+?)? (?:(?:is|are|will be) (?:left|remaining)"
  r"|remains?)"
  r"|(?:no|n['’]t (?:\w+ )?any|not (?:\w+ )?any) (?:more )?\w+ (?:is |are )?"
  r"(?:left|remaining))\b(?! (?:to|out)\b)(?:[^\d.]*|, (?:as|since"
  r"|because)\b.*)\W*\Z",
  re.IGNORECASE,
)


def _is_none(sentence: str, question: str) -> bool:
  """Whether a sentence says that there is nothing left of what is counted."""
  is_counted = re.search(r"\bhow (?:many|much)\b", question, re.IGNORECASE)
  return bool(is_counted and _NONE_LEFT.search(sentence))


# It holds for the rest of its sentence, too.
_CONDITION = re.compile(
  r"\b(?:if|unless|suppos(?:e|ing)|assuming|imagine|would have)\b",
  re.IGNORECASE,
)


def _asked_out(sentence: str, question: str) -> str:
  """A sentence without the condition that the question itself has."""
  is_asked = _CONDITION.search(question) is not None
  return _CONDITION.sub("", sentence) if is_asked else sentence


_SUMS_UP = re.compile(r"\b(?:total|in all|altogether)\b", re.I)


def _is_risky(text: str, question: str) -> bool:
  """Whether a word makes a number only a part of what is said."""
  asked = question.lower() or "%"
  if re.search(r"%|\bper ?cent|\b(?:rate|share|probability)\b", asked):
    asked += "%"
  return any(
    found.strip().lower() not in asked for found in _RISKY.findall(text)
  )


def _unknown(text: str, question: str) -> set[str]:
  """Words of a text that neither the question has, nor any such sentence."""
  words = set(normalise(text).split()) - _SAFE
  known = stems(question)
  return {word for word in words if not stems(word) <= known}


def _results(sentences: Sequence[str]) -> list[Fraction]:
  found = (right_side(one) for one in sentences)
  return [one for one in found if one is not None]
