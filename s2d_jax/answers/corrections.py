"""Words that take back what was said before them, or conclude from it."""

from __future__ import annotations

import re

_CORRECTION = (
  r"oops|correction|wait|I meant|scratch that|on (?:a )?second (?:thought|look"
  r"|reading)|sorry(?! for)|let me (?:re)?check|actually,? no|rather(?! than)"
  r"|(?<=[.!?…]\s)no, (?:it|that|the)(?: is|['’]s)?"
)
_CONCLUSION = r"so|therefore|thus|hence|finally|final|in conclusion|overall"

CORRECTION = re.compile(
  rf"\b(?:{_CORRECTION})\b|\bactually,|(?:\.\.|…)\s*actually\b", re.IGNORECASE
)
# What stands behind one of these is the last word.
SETTLING = rf"\b(?:{_CORRECTION}|{_CONCLUSION}|actually)\b"
SETTLES = re.compile(rf"{SETTLING}|\b(?:no|however|check)\b", re.IGNORECASE)


def behind(text: str) -> str:
  """What a text says behind its last correction; all of it without one."""
  *before, last = CORRECTION.split(text)
  return re.sub(r"^\W*(?:no\b\W*)?", "", last, flags=re.I) if before else text
