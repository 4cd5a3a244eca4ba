"""One chat example as tokens, and which of them carry the loss."""

from __future__ import annotations

from collections.abc import Sequence
import itertools
from typing import NamedTuple

from jaxtyping import Bool, Int
import numpy as np
from tokenizers import Encoding

from s2d_jax.conversation import Answered, ChatTemplate, Message

WHOLE = -1  # of a thought


class Tokenised(NamedTuple):
  """A whole conversation; `is_target` marks the tokens to be learned."""

  tokens: Int[np.ndarray, " T"]
  is_target: Bool[np.ndarray, " T"]


def reply_of(target: str, thought: str) -> str:
  """What a student is taught to say: the answer, behind a thought if any."""
  return f"{thought}\n{target}" if thought else target


class Taught(NamedTuple):
  """What is learnt from: a conversation so far, what answers it, and why."""

  prompt: Sequence[Message]
  target: str
  thought: str = ""


def tokenise(
  chat: ChatTemplate,
  prompt: Sequence[Message],
  target: str,
  thought: str = "",
  keep: int = WHOLE,
) -> Tokenised:
  """Tokens of `prompt` answered by `target`, in a chat template.

  The conversation is tokenised whole, so the tokens are those of the text
  itself, whatever is merged across the border between prompt and reply. A
  token is a target if any of its characters lies behind that border, up to and
  including the end of the turn; what the template writes after the end of the
  turn (a newline, as a rule) is not.

  A thought is on the lines before the target. Where less than all of it is
  kept, tokens are taken from its beginning, as in stepwise internalisation
  (Deng et al. 2024); those that are left do not change.

  Args:
    chat: the template.
    prompt: the conversation so far.
    target: the answer.
    thought: what is said before the answer.
    keep: how many tokens of the thought, its last ones; WHOLE: all.

  Raises:
    UserError: the template refuses the conversation, or does not end a turn
      with a token that ends replies.
  """
  [found] = tokenise_all(chat, [Taught(prompt, target, thought)], keep)
  return found


def tokenise_all(
  chat: ChatTemplate, examples: Sequence[Taught], keep: int = WHOLE
) -> list[Tokenised]:
  """The same of many, which is faster than one after another."""
  if keep == 0:
    examples = [one._replace(thought="") for one in examples]
  answered = [
    chat.answered(one.prompt, reply_of(one.target, one.thought))
    for one in examples
  ]
  encodings = chat.encodings([one.text for one in answered])
  return [
    _marked(*one, keep)
    for one in zip(examples, answered, encodings, strict=True)
  ]


def _marked(
  example: Taught, answered: Answered, encoding: Encoding, keep: int
) -> Tokenised:
  """One of them, its targets told from the prompt."""
  tokens = np.array(encoding.ids, np.int32)
  borders = itertools.chain.from_iterable(encoding.offsets)
  begins, ends = np.fromiter(borders, np.int64).reshape(-1, 2).T
  # Some ends of a turn swallow the newline behind them.
  is_target = (ends > answered.start) & (begins < answered.stop)
  if example.thought and keep != WHOLE:
    border = answered.start + len(example.thought) + 1
    of_thought = np.flatnonzero(is_target & (begins < border))
    gone = of_thought[: max(len(of_thought) - keep, 0)]
    tokens, is_target = np.delete(tokens, gone), np.delete(is_target, gone)
  return Tokenised(tokens, is_target)
