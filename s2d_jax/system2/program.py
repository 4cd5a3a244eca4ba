"""What a System 2 method is made of: asks, and templates to make them from.

A method is a generator. It yields an `Ask`, or a list of asks that may run
together, receives the completion or completions, and returns the reply:

    def rephrase_then_respond(text, prompts):
      restated = yield prompts["rephrase"].ask(text=text)
      reply = yield prompts["respond"].ask(text=text, restated=restated.text)
      return reply
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
import dataclasses
import string
from typing import Any

from s2d_jax.errors import UserError
from s2d_jax.generation.chat import Message
from s2d_jax.generation.engine import Completion


@dataclasses.dataclass(frozen=True)
class Ask:
  """One question to the model: a conversation, and where the reply ends."""

  messages: tuple[Message, ...]
  max_new_tokens: int
  stop: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Template:
  """A conversation with gaps, replaceable from a config.

  Attributes:
    user: the last user message, with `{names}` to fill in.
    system: the system message; empty means the chat template's own default.
    shots: worked examples before it, as pairs of user message and reply.
    max_new_tokens: where the reply is cut at the latest.
    stop: strings at which the reply ends.
  """

  user: str
  max_new_tokens: int
  system: str = ""
  shots: tuple[tuple[str, str], ...] = ()
  stop: tuple[str, ...] = ()

  @property
  def gaps(self) -> list[str]:
    """Names that stand in braces."""
    parsed = string.Formatter().parse(self.user)
    return [name for _, name, _, _ in parsed if name is not None]

  def messages(self, **values: str) -> tuple[Message, ...]:
    """The conversation with its gaps filled."""
    messages = []
    if self.system:
      messages.append({"role": "system", "content": self.system})
    for user, reply in self.shots:
      messages.append({"role": "user", "content": user})
      messages.append({"role": "assistant", "content": reply})
    # One pass over the template: braces in a value are left alone.
    content = "".join(
      literal + (values[name] if name is not None else "")
      for literal, name, _, _ in string.Formatter().parse(self.user)
    )
    return (*messages, {"role": "user", "content": content})

  def ask(self, **values: str) -> Ask:
    return Ask(self.messages(**values), self.max_new_tokens, self.stop)


Prompts = Mapping[str, Template]
Steps = Generator[Ask | list[Ask], Any, Completion]
Method = Callable[[str, Prompts], Steps]


def override(defaults: Prompts, changes: Mapping[str, Mapping]) -> Prompts:
  """`defaults` with the fields that a config's `prompts` section replaces."""
  prompts = dict(defaults)
  for name, fields in changes.items():
    if name not in prompts:
      raise UserError(
        f"prompts.{name} is not a prompt of this task and method; there are:"
        f" {', '.join(sorted(prompts))}"
      )
    known = {field.name for field in dataclasses.fields(Template)}
    unknown = set(fields) - known
    if unknown:
      raise UserError(
        f"prompts.{name}.{min(unknown)} is unknown; a prompt has"
        f" {', '.join(sorted(known))}"
      )
    values = dict(fields)
    for key in ("shots", "stop"):
      if key in values:
        values[key] = tuple(
          tuple(item) if isinstance(item, (list, tuple)) else item
          for item in values[key]
        )
    changed = dataclasses.replace(prompts[name], **values)
    if not set(changed.gaps) <= set(prompts[name].gaps):
      raise UserError(
        f"prompts.{name}.user has gaps {changed.gaps}; this prompt is given"
        f" {prompts[name].gaps}"
      )
    if not isinstance(changed.max_new_tokens, int):
      raise UserError(
        f"prompts.{name}.max_new_tokens={changed.max_new_tokens!r} must be a"
        " whole number"
      )
    prompts[name] = changed
  return prompts
