"""The thought that led to an answer, as text that can be taught before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import itertools
import re
from typing import NamedTuple

from s2d_jax.answers.reply import most_frequent
from s2d_jax.records import Record

_TAG = re.compile(r"</?think>")


class Thought(NamedTuple):
  """What was thought, and in how many generated tokens."""

  text: str
  tokens: int


def of_steps(
  steps: Sequence[Record], read_last: Callable[[str], str] | None
) -> Thought:
  """A line for each step: its reply, or the most frequent of several.

  Args:
    steps: of a sample, in order; replies to one prompt follow each other.
    read_last: what of the last step is thought; None: that step is the answer.
  """
  asked = []
  for _, group in itertools.groupby(steps, lambda step: step.get("prompt")):
    replies = list(group)
    place = most_frequent([reply["text"] for reply in replies])
    asked.append(replies[place])
  *texts, last = [step["text"] for step in asked]
  tokens = sum(step["tokens"] for step in asked)
  if read_last is None:
    tokens -= asked[-1]["tokens"]
  else:
    texts.append(read_last(last))
  lines = (_TAG.sub("", text).strip() for text in texts)
  return Thought("\n".join(filter(None, lines)), tokens)


def shortest(thoughts: Iterable[Thought]) -> str:
  """Of fewest tokens, then of fewest characters; empty if there is none."""
  key = lambda thought: (thought.tokens, len(thought.text), thought.text)
  return min(thoughts, key=key, default=Thought("", 0)).text
