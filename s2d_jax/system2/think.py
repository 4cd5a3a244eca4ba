"""The model's own thinking: its chat template has it think before it answers.

The student is asked with the same template and thinking off. Models write a
thought between two markers, such as <think> and </think>, and the answer behind
it. That a thought is closed by force where it has spent its budget, and the
answer asked for, is budget forcing (Muennighoff et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import re
from typing import NamedTuple, NoReturn

from s2d_jax.conversation import ChatTemplate, Message, special_tokens
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Prompts, Steps, Template, Unended

_QUESTION = {"role": "user", "content": "Capital of Peru?"}
_THOUGHT, _ANSWER = "It is by the sea.", "Lima"


class Markers(NamedTuple):
  """What begins a thought, and what ends it."""

  open: str
  close: str


@dataclasses.dataclass(frozen=True)
class ThoughtTemplate(Template):
  """A question that is thought about; `max_new_tokens` are for both together.

  Attributes:
    open, close: the markers of a thought; empty: those of the model.
    budget_forcing: whether a thought that has not ended within max_new_tokens
      is closed, and the answer asked for; else it has none.
    answer_tokens: most tokens of that answer.
  """

  open: str = ""
  close: str = ""
  budget_forcing: bool = False
  answer_tokens: int = 256

  def for_chat(self, chat: ChatTemplate) -> ThoughtTemplate:
    """With thinking on, and the markers as they stand in replies.

    `open` is empty where the prompt opens the thought. Where `close` is a
    special token, of which replies have no text, they stop at it.

    Raises:
      UserError: the template has no thinking, or the run's own chat has it on,
        or nothing tells the markers.
    """
    switch = chat.thinking_switch
    options = {switch: True} if switch else {}
    options |= self.chat or {}
    thinking = chat.with_options(options)
    open, close = next(_markers(thinking, chat), Markers("", ""))
    open, close = self.open or open, self.close or close
    prompt = thinking.prompt([_QUESTION])
    has_opened = bool(open) and prompt.rstrip().endswith(open)
    if prompt == chat.prompt([_QUESTION]):
      _refuse(switch, has_opened)
    if not close:
      raise UserError(
        "neither the chat template nor the tokenizer tells what begins and what"
        ' ends a thought; name both, as config.prompts.think = {"open":'
        ' "<think>", "close": "</think>"}'
      )
    special = special_tokens(chat.tokenizer)
    is_hidden = not special.isdisjoint(chat.encode(close))
    stop = dict.fromkeys((*self.stop, close) if is_hidden else self.stop)
    return dataclasses.replace(
      self,
      chat=options,
      open="" if has_opened else open,
      close=close,
      stop=tuple(stop),
    )


PROMPTS = {
  "think": ThoughtTemplate(
    "{text}\n\nAnswer with {format} only.", max_new_tokens=4096
  )
}


def think(fields: Fields, prompts: Prompts) -> Steps:
  """Thinks as the model does by itself; returns what stands behind the thought.

  A reply that ends without having begun a thought is an answer.
  """
  asked = prompts["think"]
  call = asked.ask(**fields)
  reply = yield call
  thought, end, answer = reply.text.partition(asked.close)
  if end:
    return answer.strip()
  is_over = reply.finish_reason == "stop"
  is_hidden = asked.close in asked.stop
  if is_hidden:
    thought = asked.open + thought
  if is_over and not thought.lstrip().startswith(asked.open):
    return thought
  has_ended = is_over and is_hidden
  if not (has_ended or asked.budget_forcing):
    return Unended("")
  last = yield dataclasses.replace(
    call,
    max_new_tokens=min(asked.answer_tokens, asked.max_new_tokens),
    begun=f"{thought.rstrip()}\n{asked.close}\n\n",
  )
  return last.text if has_ended else Unended(last.text)


def _markers(thinking: ChatTemplate, chat: ChatTemplate) -> Iterator[Markers]:
  """By what the template writes, else by their names."""
  yield from _around_a_thought(thinking)
  yield from _empty_thought(thinking, chat)
  yield from _by_name(thinking)


def _around_a_thought(thinking: ChatTemplate) -> Iterator[Markers]:
  """Of a reply whose thought the template is given by itself."""
  reply: Message = {
    "role": "assistant",
    "content": _ANSWER,
    "reasoning_content": _THOUGHT,
  }
  text = thinking.conversation([_QUESTION, reply])
  before, thought, behind = text.partition(_THOUGHT)
  prompt = thinking.prompt([_QUESTION])
  close, answer, _ = behind.partition(_ANSWER)
  if thought and answer and before.startswith(prompt):
    yield from _pair(before.removeprefix(prompt), close)


def _empty_thought(
  thinking: ChatTemplate, chat: ChatTemplate
) -> Iterator[Markers]:
  """Which the template writes for the model when it is not to think."""
  on, off = (one.prompt([_QUESTION]) for one in (thinking, chat))
  words = off.removeprefix(on).split() if off.startswith(on) else []
  if len(words) == 2:
    yield from _pair(*words)


def _pair(open: str, close: str) -> Iterator[Markers]:
  if open.strip() and close.strip():
    yield Markers(open.strip(), close.strip())


# </think>, </thought>, </seed:think>, [/THINK] …
_CLOSE = re.compile(
  r"<(/)[\w:.-]*(?:think|thought|reason)[\w:.-]*>|\[(/)think\]", re.IGNORECASE
)


def _by_name(thinking: ChatTemplate) -> Iterator[Markers]:
  """Which the template mentions, or the tokenizer has as tokens."""
  added = thinking.tokenizer.added_tokens_decoder.values()
  for text in (thinking.source, *(token.content for token in added)):
    for found in _CLOSE.finditer(text):
      yield Markers(found[0].replace("/", "", 1), found[0])


def _refuse(switch: str | None, has_opened: bool) -> NoReturn:
  """Says why the run's own chat is no other than that of thinking."""
  if switch:
    raise UserError(
      "method='think' compares with answers without thinking, but"
      f" {switch} is on for them, too; set config.model.chat ="
      f' {{"{switch}": False}}'
    )
  if has_opened:
    raise UserError(
      "method='think' compares with answers without thinking, but this model's"
      " chat template opens a thought in every prompt; give one that closes it"
      " to config.model.chat.chat_template, and set config.prompts.think.chat ="
      ' {"chat_template": ""}'
    )
  raise UserError(
    "method='think' needs a model that thinks, but this one's chat template has"
    " no option for it; take another model, or another method, such as cot"
  )
