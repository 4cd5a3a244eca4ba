"""Where a reply gives its answer, and whether it stands by it to the end.

A reply is read as a list of statements, one a sentence. A parser says what a
statement gives, and accounts for all of its words: whatever it does not know,
it does not read. What is read counts only as the last word: nothing behind it
may give another answer, or take it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import re
from typing import NamedTuple

from s2d_jax.answers import reply as replies
from s2d_jax.answers.stance import is_firm

_TAKES_BACK = (
  r"oops|correction|wait|hmm|hold on|I meant|scratch that|on (?:a )?second"
  r" (?:thought|look|reading)|sorry|apolog(?:y|i[sz]e|ies)|let me|let['’]?s"
  r" (?:re)?check|re-?check\w*|reconsider\w*|re-?read\w*|mis(?:take|read"
  r"|count|calculat|understood|took)\w*|error|wrong|incorrect|instead"
  r"|(?:or|but) rather|rather,|no,"
)
# A sentence that turns from what was said.
TURNED = re.compile(
  rf"\b(?:{_TAKES_BACK}|however)\b|(?:^|[,.;:!…]\W*)actually\b|^\W*(?:but|no)\b",
  re.IGNORECASE,
)
# Behind one of these an answer is another one than before.
CORRECTION = re.compile(
  rf"\b(?:{_TAKES_BACK}|actually|at first|initially|but|final(?:ly)?|revised"
  rf"|corrected|updated)\b"
  r"|(?:^|[.!?…\n]\s*)no\b",
  re.IGNORECASE,
)
_NOUN = (
  r"(?:answer|antwort|respuesta|réponse|risposta|(?:correct|right|best|my"
  r"|final|better) (?:option|choice|letter|one)|(?:correct|right|true|final"
  r"|revised|corrected) (?:count|number|value|result|total|amount|figure|sum)"
  r"|option|choice)"
)
_KIND = (
  r"(?:(?:final|correct|right|best|bonne|correcta|richtige|short|overall|good|actual|true|exact|simple|only|given"
  r"|text|one-word|direct|revised|corrected|updated|boxed|simplified|rounded"
  r"|required|requested|calculated|combined|concatenated|detailed)\s+)*"
)
_TO_WHAT = (
  r"(?:\s+(?:to|for|of|here|in) (?:this|the|your|that)\b(?! (?:previous|other"
  r"|last"
  r"|next|first|opposite))[^.:\n,]{0,60}?)?"
)
_IS = (
  r"\b(?:is|was|are|ist|lautet|es|est|è|(?:would|will|should|must"
  r"|has to)(?: always)? be|remains)\b"
)
_STILL = (
  r"(?:\s+(?:indeed|still|therefore|thus|then|hence|clearly|definitely|simply"
  r"|just|now|also|actually|of course|most likely|really))?"
)
MARK = re.compile(
  rf"(?<!this )(?:\bthe (?:letter|number|name) (?:of|for) )?(?:\b(?:the"
  rf"|my|our|an?"
  rf"|die|la)\s+)?\b(?<!this ){_KIND}{_NOUN}{_TO_WHAT}[^\S\n]*"
  rf"(?:{_STILL}\s*{_IS}{_STILL}(?:\s*:)?|[:：=→]|(?=[*_ ]*(?:\n|\Z)))"
  r"|####|\\boxed(?=\{)",
  re.IGNORECASE,
)
# Most sentences mark nothing, and this is told sooner.
_MAY_MARK = re.compile(
  r"answer|option|choice|letter|\bone\b|####|boxed|antwort|respuesta|réponse"
  r"|risposta|count|number|value|result|total|amount|figure|sum",
  re.IGNORECASE,
)
# What may stand before the mark in its sentence, and says nothing.
_LEAD_WORDS = (
  r"(?:so|therefore|thus|hence|and|then|finally|ok(?:ay)?|well|now|yes|sure"
  r"|indeed|in conclusion|in summary|in short|overall|as a result|consequently"
  r"|accordingly|for this reason|of course|certainly|I (?:think|believe"
  r"|conclude|would say|am confident|know)(?: that)?|we (?:get|have|find"
  r"|conclude|know|see)(?: that)?|this means(?: that)?|that means(?: that)?"
  r"|which means(?: that)?|it follows(?: that)?|here(?: is|['’]s)?(?: an?|"
  r" the| one)?(?: possible)?|this is"
  r"|clearly|to conclude|to summari[sz]e|to sum up|altogether|correction|wait"
  r"|no|sorry|oops|actually|hmm|but|answer|step \d+|q|a|my"
  r"|because of (?:this|that)|based on (?:this|that|the above))"
)
_LEAD = re.compile(
  rf"[\W_]*(?:{_LEAD_WORDS}\b[\W_]*)*\Z|.*(?:[,;:—–]|\.\.\.|…|\s-|\b(?:so|thus"
  r"|therefore|hence|and|that|but|yet))(?:\s+(?:and|so|that|then|thus|hence|therefore"
  r"|I (?:think|believe)|I['’]d say))*[\s:$\\(*]*\Z",
  re.IGNORECASE | re.DOTALL,
)


class Statement(NamedTuple):
  """A sentence, in which something may be marked as the answer.

  Attributes:
    text: the sentence; all of it, or what stands behind the mark.
    lead: what stands before the mark.
  """

  text: str
  lead: str = ""
  is_marked: bool = False


_JOIN = re.compile(
  rf"({MARK.pattern})([^\S\n]*[*_]*[:：]?[*_]*[^\S\n]*)\n\s*"
  r"(?!\s*(?:[-*•]|\d+[.)])\s)(?=\S)",
  re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_QUOTED = re.compile(r"[\"“'`]answer\s*:?\s*[\"”'`]", re.IGNORECASE)
_OPENING = re.compile(r"^[\s*_:：=→\"“'‘`(]+(?=\w)|^[\s*_:：=→]+")


_FEW_WORDS = 4


def statements(text: str) -> list[Statement]:
  """The sentences of a text (as `reply.said` returns it) that say something.

  A mark at the end of a line marks the next line, unless a list begins there:
  those are steps towards the answer.
  """
  if "\n" in text and _MAY_MARK.search(text):
    text = _JOIN.sub(r"\1: ", text)
  said = replies.sentences(text)
  # A small model repeats itself until it is cut off.
  while (
    len(said) > 1
    and len(said[-1].split()) >= _FEW_WORDS
    and replies.is_cut_off(said[-1])
  ):
    if not any(one.startswith(said[-1]) for one in said[:-1]):
      break
    del said[-1]
  return [one for sentence in said for one in _marked(sentence)]


# "The answer is correct", "The answer must be a short phrase" give none.
_JUDGED = re.compile(
  r"(?:not )?(?:correct|right|wrong|incorrect|starting|given|found|below"
  r"|above)\b|(?:an?|one|only|just) (?:\w+ ){0,2}"
  r"(?:phrase|word|number|letter|name|sentence|integer|value)s?\W*\Z",
  re.IGNORECASE,
)


def _marked(sentence: str) -> list[Statement]:
  """A sentence, split where something is marked in it."""
  if not _MAY_MARK.search(sentence):
    return [Statement(sentence)]
  boxed = list(_BOXED.finditer(sentence))
  if boxed:
    last = boxed[-1]
    lead = sentence[: boxed[0].start()].replace("\\[", "")
    lead = MARK.sub("", lead) + ":"
    behind = sentence[last.end() :]
    if is_firm(behind):
      behind = ""
    return [
      Statement(one[1] + (behind if one is last else ""), lead, True)
      for one in boxed
    ]
  # A sentence about "Answer:" marks nothing.
  masked = _QUOTED.sub(lambda quoted: "\0" * len(quoted[0]), sentence)
  match = MARK.search(masked)
  if not match:
    return [Statement(sentence)]
  rest = sentence[match.end() :]
  if again := MARK.match(rest.lstrip(" :*")):  # "The answer is: Answer: 5"
    rest = rest.lstrip(" :*")[again.end() :]
  given = _OPENING.sub("", rest) if rest.strip(" *_:") else ""
  if not given or _JUDGED.match(given):
    return [Statement(sentence)]
  return [Statement(rest.strip(" *_:：=→\t"), sentence[: match.start()], True)]


def is_own(lead: str) -> bool:
  """Whether what precedes a mark leaves it the reply's own word."""
  turns = re.split(
    r"\b(?:so|therefore|thus|hence|wait|actually|no|but)\b", lead, flags=re.I
  )
  return _LEAD.match(lead) is not None and is_firm(turns[-1])


# "Do not write\nAnswer: 5"
_BEGUN = re.compile(
  r"\A\W*(?:do not|don['’]t|never|if|not)\b(?!.*[.!?)\]$])", re.IGNORECASE
)


def last_word(
  said: Sequence[Statement],
  read: Callable[[Statement], str | None],
  keeps: Callable[[Sequence[str], str], bool],
) -> tuple[str, int] | None:
  """The answer that is marked in a reply, and which statement gives it.

  None where nothing is marked, where the last mark cannot be read or is not the
  reply's own, where an earlier one differs and is not corrected, or where what
  follows does not keep to the answer.

  Args:
    said: all statements of a reply.
    read: what a statement gives, if all of it is accounted for.
    keeps: whether the sentences behind an answer leave it as it is.
  """
  places = [n for n, one in enumerate(said) if one.is_marked]
  if not places:
    return None
  last = places[-1]
  before = said[last - 1].text if last else ""
  is_told = before.endswith(":") and not is_firm(before)
  is_told = is_told or _BEGUN.search(before)
  is_given = is_own(said[last].lead) and not is_told
  answer = read(said[last]) if is_given else None
  if answer is None:
    return None
  for place in places[:-1]:
    if not is_own(said[place].lead) or read(said[place]) == answer:
      continue
    between = [said[n].text for n in range(place + 1, last)]
    between.append(said[last].lead)
    between.append(said[place].text)
    if not any(map(CORRECTION.search, between)):
      return None
  behind = [one.text for one in said[last + 1 :]]
  if not keeps(behind, answer):
    return None
  return answer, last
