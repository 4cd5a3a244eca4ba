"""What a reply says, and what in it is marked as the answer."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import html
import re

from s2d_jax.answers.corrections import CORRECTION, SETTLES
from s2d_jax.answers.words import normalise

_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad)>")

# *word*, **word**, __word__, `word`; but not 9*2*3 or snake_case_name.
_EMPHASIS = re.compile(
  r"(?<![\w*])(\*{1,3}|_{1,3}|`)(?=\S)([^\n]*?\S)\1(?![\w*])"
)
_TAG = re.compile(r"</?[a-z][a-z_-]*\s*/?>|\[/?INST\]", re.IGNORECASE)
_FENCE = re.compile(r"^[^\S\n]*```.*$", re.MULTILINE)
_STRUCK = re.compile(r"~~[^~\n]+~~")
_HEADING = re.compile(r"^[^\S\n]*#{1,6}[^\S\n]+(?=\D)", re.MULTILINE)
_UPRIGHT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mathbf)\s*\{([^{}]*)\}")

# A small model goes on with a question and answer of its own, or a prompt.
_NEXT_TURN = re.compile(
  r"(?<=\S)\s*\n[\s*_#>-]*(?:(?:(?:Next |New |Another )?(?:Question|Problem)"
  r"|Q|User|Human|Instruction|Example|Exercise|Input|Prompt)\s*\d*[*_\s]*:"
  r"|\[(?:User|The Start)\b"
  r"|[^\n:]*\banother (?:problem|question|example)\b[^\n:]*:"
  r"|[A-Z][^\n]*\?\s*\n\W*A[.)]\s"
  r"|Take the (?:first|last) letters of the words in\b"
  r"|A coin is heads up\. \w)",
  re.IGNORECASE,
)
# The question, asked again and answered.
_ASKED_AGAIN = re.compile(
  r"\A\s*(?:Q|Question|User)\s*:.*?\n\s*(?:A|Answer|Assistant)\s*:\s*",
  re.IGNORECASE | re.DOTALL,
)
# The instruction, repeated.
_INSTRUCTION = re.compile(
  r"^\W*(?:please\s+)?(?:(?:answer|respond|reply)\s+(?:with|in)\s+"
  r"(?:an?|the|one|\d|.*\b(?:only|or|just))\b|think step by step\b).*$",
  re.IGNORECASE | re.MULTILINE,
)


# Cut off: nothing stands behind the mark.
_UNANSWERED = re.compile(r"^\W*(?:\w+\s+)?answer(?:\s+is)?\W*\Z", re.I | re.M)


def between_special_tokens(text: str) -> str:
  """The first stretch between special tokens that says something."""
  return next(filter(str.strip, _SPECIAL.split(text)), "")


def without_thinking(reply: str) -> str:
  """What stands behind thinking in tags; nothing of thinking without an end."""
  _, closed, after = reply.rpartition("</think>")
  return after if closed else reply.partition("<think>")[0]


def first_turn(text: str) -> str:
  """A text up to the next question, or prompt, that a model has made up."""
  return _NEXT_TURN.split(text, maxsplit=1)[0]


def said(reply: str) -> str:
  """A reply as it is meant to be read.

  Without thinking in tags, special tokens written out, markup, the instruction
  repeated, and turns that the model has made up.
  """
  reply = without_thinking(html.unescape(reply))
  reply = _TAG.sub("", between_special_tokens(reply))
  reply = _STRUCK.sub("", _FENCE.sub("", reply))
  reply = _HEADING.sub("", _UPRIGHT.sub(r"\1", reply))
  for _ in range(2):  # bold in italics
    reply = _EMPHASIS.sub(r"\2", reply)
  reply = first_turn(_ASKED_AGAIN.sub("", reply))
  return _UNANSWERED.sub("", _INSTRUCTION.sub("", reply)).strip()


def is_unanswered(reply: str) -> bool:
  """Whether a reply ends where its answer should begin."""
  return _UNANSWERED.search(reply) is not None


_IS = r"(?:is|are|(?:will|would|should|must)(?:\s+always)?\s+be)\b\s*:?"
# What follows one of these is meant as the answer.
_MARKER = re.compile(
  r"####|(?<!\bthis )\b(?:answer|(?:correct|right|best|my) (?:option|choice))"
  r"(?:\s+to\s+(?:this|the|your)\b[^.:\n]{0,40}?)?"
  rf"[^\S\n]*(?:[:：=→]|{_IS})"
  r"|^[^\S\n]*(?:\w+[^\S\n]+)?answer[^\S\n]*$",
  re.IGNORECASE | re.MULTILINE,
)
# Steps have results and totals too: these count only in the last sentence, and
# where there is no other.
_WEAK_MARKER = re.compile(
  rf"\b(?:result|output|verdict|conclusion|solution|total(?: \w+)?)[^\S\n]*"
  rf"(?:[:：=→]|{_IS})",
  re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_QUOTED_MARKER = re.compile(r"[\"“'`]answer\s*:?\s*[\"”'`]", re.IGNORECASE)
_LIST = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")


_SUPPOSED = re.compile(r"\bif\b[^.!?]*\bwould\b|\bwould\b[^.!?]*\bif\b", re.I)


def is_supposed(text: str) -> bool:
  """Whether a text says only what would be, if something were."""
  return _SUPPOSED.search(text) is not None


def marked(text: str) -> list[str]:
  """What stands behind each marker, up to the end of its line, the last first.

  A marker at the end of its line marks the next line, unless a list begins
  there: those are steps towards the answer. Nothing is marked where a
  correction follows the last marker.

  Args:
    text: a reply as `said` returns it.
  """
  # A sentence about "Answer:" marks nothing.
  text = _QUOTED_MARKER.sub("\0", text)
  text = _BOXED.sub(r"\nAnswer: \1\n", text)
  found = _behind(_MARKER, text)
  if found:
    after = text[text.rfind(found[0]) :]
    return [] if CORRECTION.search(after) else found
  return _behind(_WEAK_MARKER, "".join(sentences(text)[-1:]))


def _behind(marker: re.Pattern[str], text: str) -> list[str]:
  lines = text.splitlines()
  found = []
  for number, line in enumerate(lines):
    for match in marker.finditer(line):
      if is_supposed(line):
        continue
      said = line[match.end() :]
      if not said.strip(" *_$\t"):
        said = next(filter(str.strip, lines[number + 1 :]), "")
        said = "" if _LIST.match(said) else said
      if said.strip(" *_$\t") and "\0" not in said:
        found.append(said.strip())
  return found[::-1]


_REFUSAL = re.compile(
  r"\b(?:I|we|one)(?:\s+\w+)?\s+(?:can(?:no|['’])t|can not|(?:am|are)"
  r" (?:unable|not able))\b"
  r"|\bI(?:['’]m| am) (?:(?:\w+ )?not (?:\w+ )?(?:sure|certain|aware|familiar)"
  r"|unable|sorry|afraid)|^\W*(?:I\s+)?(?:don['’]t|do not) (?:know|have)\b"
  r"|\bI (?:don['’]t|do not) (?:know|have|understand)\b"
  r"|^\W*(?:sorry|my apologies|apologies|I apologi[sz]e)\b"
  r"|\bas an? (?:AI|artificial|(?:large )?language model)\b"
  r"|\b(?:can(?:no|['’])t|can not|could not|impossible to|no way to"
  r"|not possible to)\s+(?:be\s+)?(?:answer|determin|know|tell|sa(?:y|id)"
  r"|find|found)"
  r"|\bno (?:information|answer|idea)\b|\bnot enough information\b"
  r"|^\W*(?:N/A|none|(?:it is )?unknown(?: \w+)?|see above|same as \w+"
  r"|no answer|not (?:specified|given|available|sure))"
  r"\W*$",
  re.IGNORECASE,
)  # fmt: skip


def refuses(text: str) -> bool:
  """Whether a text declines to answer."""
  return _REFUSAL.search(text) is not None


# "Dr. Who" and "J. R. R. Tolkien" go on; "U.S.A." is one word.
SENTENCE_END = re.compile(
  r"(?<!\b[A-Z]\.)(?<!\b(?:Dr|Mr|Ms|St|Mt|vs)\.)(?<!\b(?:Mrs|e\.g|i\.e|etc)\.)"
  r"(?<!\bapprox\.)"
  r"(?<=[.!?。！？])[\"”')]*(?:\s+|(?<=[。！？]))|\n+"
)
_COURTESY = re.compile(
  r"^\W*(?:(?:sure|certainly|of course|absolutely|okay|ok|great|hello|hi)"
  r"(?:\W*|[,!:.][^.!?\n]*)[.!?:]?"
  r"|(?:(?:an?|the|that['’]s|what) )?(?:\w+ ){0,2}"
  r"(?:question|one|riddle|puzzle)!"
  r"|(?:great|good) question\W*"
  r"|(?:interesting|fascinating|well|wow|easy|ah|oh|aha|indeed|exactly|right"
  r"|perfect|excellent|awesome|nice|alright|surprise|hmm|haha)\W*!\W*"
  r"|confidence\W+\w+"
  r"|(?:great|good|nice) (?:work|job)\b[^.!?\n]*[.!]?|well done\W*"
  r"|(?:thanks?\b|I hope\b|I(?:['’]d|['’]m| would| am) (?:be )?(?:happy|glad)\b"
  r"|let me know\b|no problem\b|you(?:['’]re| are) welcome\b|feel free\b"
  r"|if you (?:have|need|want|would)\b"
  r"|that(?:['’]s| is) an? \w+ question\b)[^.!?:\n]*)[.!?:]?\W*$",
  re.IGNORECASE,
)


_MISTAKEN = re.compile(
  r"\b(?:first|previous|initial|earlier|original) \w+ (?:was|is) (?:wrong"
  r"|incorrect|a mistake)\b|\bI made (?:a mistake|an error)\b"
  r"(?!.*(?:answer|\bcorrect(?:ed)? \w+ is\b))",
  re.IGNORECASE | re.DOTALL,
)
_ANSWER_IS = re.compile(
  r"\banswer(?:\s+is|\s*:)\s*[*_$(\"]*(?:(?:answer:|still|now|indeed|also)\s*)?"
  r"(\w+)\b(?!\s*[-+*/×=])",  # not the steps of a calculation
  re.IGNORECASE,
)
_BUT = re.compile(r"\n\W*but\b", re.IGNORECASE)
_OTHER_MARKER = re.compile(r"\\boxed|####", re.IGNORECASE)


def contradicts(text: str) -> bool:
  """Whether a text gives different answers, and none of them as the last word.

  The last word corrects the others, concludes from them, or is of another form.
  """
  if _MISTAKEN.search(text):
    return True
  given = list(_ANSWER_IS.finditer(text))
  for one, other in zip(given[::-1][1:], given[::-1], strict=False):
    if one[1].lower() != other[1].lower():
      between = text[one.end() : other.start()]
      is_settled = (
        _BUT.search(between)
        or SETTLES.search(between)
        or _OTHER_MARKER.search(text, one.end())
      )
      return not is_settled
  return False


def is_polite(sentence: str) -> bool:
  """Whether a sentence is only polite, or an exclamation."""
  return _COURTESY.match(sentence) is not None


def sentences(text: str) -> list[str]:
  """The sentences of a text, without those that are only polite."""
  found = [s.strip() for s in SENTENCE_END.split(text) if s.strip()]
  return [s for s in found if not is_polite(s)] or found[:1]


def is_cut_off(text: str) -> bool:
  """Whether a text ends amid a sentence."""
  return not re.search(r"[.!?。！？:)\"”'’\]}>*`|$]\W*\Z", text)


def bare(text: str) -> str:
  """What a short reply says, in one spelling; may be empty."""
  return normalise(said(text))


def most_frequent(texts: Sequence[str]) -> int:
  """The place of the first reply that says what most say."""
  said = [bare(text) for text in texts]
  counts = collections.Counter(filter(None, said))
  return max(range(len(texts)), key=lambda place: counts[said[place]])
