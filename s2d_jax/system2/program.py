"""What a System 2 method is made of: asks, and templates to make them from.

A method is a generator. It yields an `Ask`, or a list of asks that may run
together, receives the completion or completions, and returns the reply:

    def rephrase_then_respond(fields, prompts):
      restated = yield prompts["rephrase"].ask(**fields)
      return (yield prompts["respond"].ask(**fields, restated=restated.text))

An ask for several replies (`n` > 1) receives a list of them. What a method
returns is what it would say to the user, without the thinking: a completion, a
text of its own making, or a list of completions: several answers to one
thought.
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
  """One question to the model: a conversation, and where the reply ends.

  Attributes:
    messages: the conversation.
    max_new_tokens: where the reply is cut at the latest.
    stop: strings at which the reply ends.
    n: replies wanted; more than one are received as a list.
  """

  messages: tuple[Message, ...]
  max_new_tokens: int
  stop: tuple[str, ...] = ()
  n: int = 1


@dataclasses.dataclass(frozen=True)
class Template:
  """A conversation with gaps, replaceable from a config.

  Attributes:
    user: the last user message, with `{names}` to fill in.
    system: the system message; empty means the chat template's own default.
    shots: worked examples before it, as pairs of user message and reply.
    max_new_tokens: where the reply is cut at the latest.
    stop: strings at which the reply ends.
    n: replies to draw; for the last step of a method, where more than one
      answer to each thought is wanted.
  """

  user: str
  max_new_tokens: int
  system: str = ""
  shots: tuple[tuple[str, str], ...] = ()
  stop: tuple[str, ...] = ()
  n: int = 1

  @property
  def gaps(self) -> list[str]:
    """Names that stand in braces."""
    parsed = string.Formatter().parse(self.user)
    return [name for _, name, _, _ in parsed if name is not None]

  def messages(self, **values: str) -> tuple[Message, ...]:
    """The conversation with its gaps filled; other values are not used."""
    messages = []
    if self.system:
      messages.append({"role": "system", "content": self.system})
    for user, reply in self.shots:
      messages.append({"role": "user", "content": user})
      messages.append({"role": "assistant", "content": reply})
    missing = [name for name in self.gaps if name not in values]
    if missing:
      raise UserError(
        f"a prompt has the gap {{{missing[0]}}}, but is given"
        f" {', '.join(sorted(values))}; fix config.prompts ({self.user!r})"
      )
    # One pass over the template: braces in a value are left alone.
    content = "".join(
      literal + (values[name] if name is not None else "")
      for literal, name, _, _ in string.Formatter().parse(self.user)
    )
    return (*messages, {"role": "user", "content": content})

  def ask(self, **values: str) -> Ask:
    messages = self.messages(**values)
    return Ask(messages, self.max_new_tokens, self.stop, self.n)


# What the gaps of a prompt may be filled with: "text" is what the user says,
# and a task adds the parts of it that its methods ask about one by one.
Fields = Mapping[str, str]
Prompts = Mapping[str, Template]
Reply = Completion | list[Completion] | str
Steps = Generator[Ask | list[Ask], Any, Reply]


@dataclasses.dataclass(frozen=True)
class Method:
  """A way of coming to a reply.

  Attributes:
    think: the generator function.
    prompts: the templates it asks with; None where only the task can know.
    several: the template whose replies it returns as they are, so that it may
      draw more than one; None where every reply is worked on.
  """

  think: Callable[[Fields, Prompts], Steps]
  prompts: Mapping[str, Template | None]
  several: str | None = None

  def prompts_for(self, task: str, tailored: Prompts) -> Prompts:
    """Its templates: the task's own where it has one, else the general one."""
    chosen = {name: tailored.get(name, p) for name, p in self.prompts.items()}
    for name, template in chosen.items():
      if template is None:
        raise UserError(
          f"the task {task} has no prompt {name!r}, which this method asks"
          " with; choose another method"
        )
    return chosen

  def check_counts(self, prompts: Prompts) -> None:
    """Raises UserError if a step that must be one is drawn several times."""
    for name in self.prompts:
      if prompts[name].n > 1 and name != self.several:
        where = f"; prompts.{self.several}.n may" if self.several else ""
        raise UserError(
          f"prompts.{name}.n={prompts[name].n} cannot be: the method works on"
          f" one reply there{where}"
        )


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
    prompts[name] = dataclasses.replace(prompts[name], **values)
    for key in ("max_new_tokens", "n"):
      number = getattr(prompts[name], key)
      if not isinstance(number, int) or number < 1:
        raise UserError(
          f"prompts.{name}.{key}={number!r} must be a whole number, 1 or more"
        )
  return prompts
