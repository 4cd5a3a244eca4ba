"""What a reply says: without thinking, markup, echoes and courtesies."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import html
import re

from s2d_jax.answers.words import normalise

_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad)>")

# *word*, **word**, __word__, `word`; but not 9*2*3 or snake_case_name.
_EMPHASIS = re.compile(
  r"(?<![\w*])(\*{1,3}|_{1,3}|`)(?=\S)([^\n]*?\S)\1(?![\w*])"
)
_TAG = re.compile(r"</?[a-z][a-z_-]*\s*/?>|\[/?INST\]", re.IGNORECASE)
_FENCE = re.compile(r"^[^\S\n]*```.*$", re.MULTILINE)
_QUOTE = re.compile(r"^[^\S\n]*>[^\S\n]", re.MULTILINE)
_STRUCK = re.compile(r"~~[^~\n]+~~")
_HEADING = re.compile(r"^[^\S\n]*#{1,6}[^\S\n]+(?=\D|\d+[.)]\s)", re.MULTILINE)
_UPRIGHT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mathbf)\s*\{([^{}]*)\}")

# A small model goes on with a question and answer of its own, or a prompt.
_NEXT_TURN = re.compile(
  r"(?<=\S)\s*\n[\s*_#>-]*(?:(?:(?:Next |New |Another )?(?:Question|Problem)|Q"
  r"|User|Human|Instruction|Example|Exercise|Input|Prompt|Text"
  r"|Review)\s*\d*[*_\s]*:|(?:Problem|Question|Exercise|Example"
  r"|Task)\s+\d+[*_\s]*(?=\n)|\[(?:User|The Start)\b"
  r"|[^\n:]*\banother (?:problem|question|example)\b[^\n:]*:"
  r"|[A-Z][^\n]*\?\s*\n\W*A[.)]\s|Take the (?:first"
  r"|last) letters of the words in\b|A coin is heads up\. \w)",
  re.IGNORECASE,
)
# A short answer, and then another question.
_THEN_ASKED = re.compile(
  r"\A(\s*\S+(?: \S+){0,5})\s*\n\s*(?:Which|What|Who|Whose|Where|When|How)"
  r"(?: [^\s?]+){3,}\?.*",
  re.DOTALL,
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
  return _THEN_ASKED.sub(r"\1", _NEXT_TURN.split(text, maxsplit=1)[0])


def said(reply: str) -> str:
  """A reply as it is meant to be read.

  Without thinking in tags, special tokens written out, markup, the instruction
  repeated, and turns that the model has made up.
  """
  reply = without_thinking(html.unescape(reply))
  reply = _TAG.sub("", between_special_tokens(reply))
  reply = _STRUCK.sub("", _QUOTE.sub("", _FENCE.sub("", reply)))
  reply = _HEADING.sub("", _UPRIGHT.sub(r"\1", reply))
  for _ in range(2):  # bold in italics
    reply = _EMPHASIS.sub(r"\2", reply)
  reply = first_turn(_ASKED_AGAIN.sub("", reply))
  return _UNANSWERED.sub("", _INSTRUCTION.sub("", reply)).strip()


def is_unanswered(reply: str) -> bool:
  """Whether a reply ends where its answer should begin."""
  return _UNANSWERED.search(reply) is not None


_REFUSAL = re.compile(
  r"\b(?:I|we|one)(?:\s+\w+)?\s+(?:can(?:no|['’])t|can not|(?:am"
  r"|are) (?:unable|not able))\b|\bI(?:['’]m"
  r"| am) (?:(?:\w+ )?not (?:\w+ )?(?:sure|certain|aware|familiar)|unable"
  r"|sorry|afraid)|^\W*(?:I\s+)?(?:don['’]t|do not) (?:know|have)\b"
  r"|\bI (?:don['’]t|do not) (?:know|have|understand|remember|recall)\b"
  r"|^\W*(?:sorry|my apologies|apologies|I apologi[sz]e)\b|\bas an? (?:AI"
  r"|artificial|(?:large )?language model)\b|\b(?:can(?:no|['’])t|can not"
  r"|could not|impossible to|no way to|not possible to)\s+(?:be\s+)?(?:answer"
  r"|determin|know|tell|sa(?:y|id)|find|found)|\bno (?:information|answer"
  r"|idea)\b|\bnot enough information\b|^\W*(?:N/A|none"
  r"|(?:it is )?unknown(?: \w+)?|see above|same as \w+|no answer"
  r"|not (?:specified|given|available|sure))\W*$",
  re.IGNORECASE,
)  # fmt: skip


def refuses(text: str) -> bool:
  """Whether a text declines to answer."""
  return _REFUSAL.search(text) is not None


# "Dr. Who" and "J. R. R. Tolkien" go on; "U.S.A." is one word.
SENTENCE_END = re.compile(
  r"(?:(?<!\b[A-Z]\.)|(?<=\A[A-H]\.)(?=\s+(?:Actually|Wait|No|But|Hmm"
  r"|Sorry|Because)\b)|(?<=(?:is|so|be) [A-H]\.)(?=\s+(?:Actually|Wait"
  r"|No|But|So"
  r"|The|It|This|That|Option|Because|I|Let|Hmm|Hope|Sorry|In|They|We|While)\b))"
  r"(?<!\b(?:Dr|Mr|Ms|St|Mt|vs)\.)(?<!\b(?:Mrs|e\.g|i\.e|etc)\.)"
  r"(?<!\bapprox\.)(?<!\A\d\.)(?<!\A\d\d\.)(?<!\n\d\.)(?<!\n\d\d\.)"
  r"(?<=[.!?。！？])[\"”')]*(?:\s+|(?<=[。！？]))|\n+"
)
_COURTESY = re.compile(
  r"^\W*(?:(?:sure|certainly|of course|absolutely|okay|ok|great|hello"
  r"|hi)(?:\W*|[,!:.][^.!?\n]*)[.!?:]?|(?:(?:an?|the|that['’]s"
  r"|what) )?(?:\w+ ){0,2}(?:question|one|riddle|puzzle)!|(?:great"
  r"|good) question\W*|(?:interesting|fascinating|well|wow|easy|ah|oh|aha"
  r"|indeed|exactly|right|perfect|excellent|awesome|nice|alright|surprise|hmm"
  r"|haha)\W*!\W*|confidence\W+\w+|(?:great|good|nice) (?:work"
  r"|job)\b[^.!?\n]*[.!]?|well done\W*|(?:thanks?\b|I hope\b|I(?:['’]d|['’]m"
  r"| would| am) (?:be )?(?:happy|glad)\b|let me know\b|no problem\b"
  r"|you(?:['’]re| are) welcome\b|feel free\b|if you (?:have|need|want"
  r"|would)\b|here['’]?s why\b|that(?:['’]s"
  r"| is) an? \w+ question\b)[^.!?:\n]*)[.!?:]?\W*$",
  re.IGNORECASE,
)


# A question to the reader.
_OFFER = re.compile(
  r"\W*(?:(?:would you like|is there anything|do you (?:want|need|have)"
  r"|did you know|want"
  r" (?:to|me)|need anything|shall I|anything else|isn['’]t that)\b[^.!?\n]*\?"
  r"|fun fact:?)\W*$",
  re.IGNORECASE,
)


def is_polite(sentence: str) -> bool:
  """Whether a sentence is only polite, or an exclamation."""
  return bool(_COURTESY.match(sentence) or _OFFER.match(sentence))


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
