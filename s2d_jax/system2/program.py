"""System 2 methods: generators of model calls, and the templates of those.

A method is a generator. It yields a `ModelCall`, or a list of calls that may
run together, receives the completion or completions, and returns the reply:

    def rephrase_then_respond(fields, prompts):
      restated = yield prompts["rephrase"].ask(**fields)
      return (yield prompts["respond"].ask(**fields, restated=restated.text))

A call with `n` > 1 receives a list of completions. A method returns its reply
to the user, without the thinking: a completion, a text of its own making, or a
list of completions: several answers to one thought.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
import dataclasses
import os
import string
from typing import Any, NamedTuple

from s2d_jax.conversation import ChatTemplate, Message
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion
from s2d_jax.prompt_frames import Frame


@dataclasses.dataclass(frozen=True)
class ModelCall:
  """A conversation for the model to continue, and where the reply ends.

  Attributes:
    messages: the conversation.
    max_new_tokens: most tokens of the reply.
    stop: strings at which the reply ends, or one.
    n: number of replies; more than one are received as a list.
    is_shared: whether all variants of an example draw the same reply. The
      prompt must then be the same for all of them.
    chat: options of the chat template, in place of those of the run.
    begun: what stands of the reply already, for the model to go on with.
  """

  messages: tuple[Message, ...]
  max_new_tokens: int
  stop: tuple[str, ...] = ()
  n: int = 1
  is_shared: bool = False
  chat: Mapping[str, Any] | None = None
  begun: str = ""

  def __post_init__(self):
    object.__setattr__(self, "stop", _texts(self.stop))  # frozen

  def prompt(self, chat: ChatTemplate) -> str:
    """What the model reads, in a chat with the options of the run."""
    prompt = chat.with_options(self.chat).prompt(self.messages)
    return prompt + self.begun


@dataclasses.dataclass(frozen=True)
class Template:
  """A conversation with placeholders, replaceable from a config.

  Attributes:
    user: the last user message, with `{placeholders}`.
    system: the system message; empty means the chat template's own default.
    shots: worked examples before it, as pairs of user message and reply.
    max_new_tokens: most tokens of the reply.
    stop: strings at which the reply ends, or one.
    n: replies to draw; more than one for the last step of a method, to draw
      several answers to each thought, and for a step whose replies have a vote.
    chat: options of the chat template, in place of those of the run.
  """

  user: str
  max_new_tokens: int
  system: str = ""
  shots: tuple[tuple[str, str], ...] = ()
  stop: tuple[str, ...] = ()
  n: int = 1
  chat: Mapping[str, Any] | None = None

  def __post_init__(self):
    object.__setattr__(self, "stop", _texts(self.stop))  # frozen

  def for_chat(self, chat: ChatTemplate) -> Template:
    """The same with what only the model's chat template tells.

    Raises:
      UserError: it cannot be asked in this chat.
    """
    del chat
    return self

  @property
  def placeholders(self) -> list[str]:
    """Names in braces."""
    parsed = string.Formatter().parse(self.user)
    return [name for _, name, _, _ in parsed if name is not None]

  def messages(self, **values: str) -> tuple[Message, ...]:
    """The conversation with its placeholders filled; others are ignored."""
    messages = []
    if self.system:
      messages.append({"role": "system", "content": self.system})
    for user, reply in self.shots:
      messages.append({"role": "user", "content": user})
      messages.append({"role": "assistant", "content": reply})
    missing = [name for name in self.placeholders if name not in values]
    if missing:
      raise UserError(
        f"a prompt has the placeholder {{{missing[0]}}}, but there are only"
        f" {', '.join(sorted(values))}; fix config.prompts ({self.user!r})"
      )
    # One pass over the template: braces in a value are left alone.
    content = "".join(
      literal + (values[name] if name is not None else "")
      for literal, name, _, _ in string.Formatter().parse(self.user)
    )
    return (*messages, {"role": "user", "content": content})

  def ask(self, *, is_shared: bool = False, **values: str) -> ModelCall:
    """A call with this conversation; for `is_shared` see `ModelCall`."""
    messages = self.messages(**values)
    return ModelCall(
      messages, self.max_new_tokens, self.stop, self.n, is_shared, self.chat
    )


def _texts(stop: Any) -> tuple[str, ...]:
  """Stop strings; one may stand alone."""
  stop = (stop,) if isinstance(stop, str) else stop
  if not isinstance(stop, (list, tuple)) or not all(
    isinstance(text, str) and text for text in stop
  ):
    raise UserError(
      f"stop={stop!r} of a prompt must be a text, or a list of texts that are"
      " not empty"
    )
  return tuple(stop)


class Unended(NamedTuple):
  """A reply to a thought that did not end by itself; empty if it got none."""

  text: str


# Values of placeholders: "text" is the whole question, and a task adds the
# parts of it that its methods use one by one.
Fields = Mapping[str, str]
Prompts = Mapping[str, Template]
Reply = Completion | list[Completion] | str | Unended
Steps = Generator[ModelCall | list[ModelCall], Any, Reply]


@dataclasses.dataclass(frozen=True)
class Method:
  """A System 2 method.

  Attributes:
    think: the generator function.
    prompts: its templates; None for one that every task has to bring.
    final_prompt: the template whose replies are returned as they are, so that
      it may draw more than one; None if every reply is processed.
    thinks_aloud: whether what it returns may still hold thinking, of which
      only a statement of the answer may be taught.
    voted_prompt: a template whose replies have a vote inside the method, so
      that it may draw more than one, too.
  """

  think: Callable[[Fields, Prompts], Steps]
  prompts: Mapping[str, Template | None]
  final_prompt: str | None = None
  thinks_aloud: bool = False
  voted_prompt: str | None = None

  def first_calls(self, fields: Fields, prompts: Prompts) -> list[ModelCall]:
    """Those that depend on no reply."""
    calls = next(self.think(fields, prompts))
    return [calls] if isinstance(calls, ModelCall) else list(calls)

  def prompts_for(self, task: str, tailored: Prompts) -> Prompts:
    """Its templates: the task's own if it has one, else the general one."""
    chosen = {name: tailored.get(name, p) for name, p in self.prompts.items()}
    for name, template in chosen.items():
      if template is None:
        raise UserError(
          f"the task {task} has no prompt {name!r}, which this method needs;"
          " choose another method"
        )
    return chosen

  def replies(self, prompts: Prompts) -> int:
    """How many it returns a sample."""
    return prompts[self.final_prompt].n if self.final_prompt else 1

  def check_counts(self, prompts: Prompts) -> None:
    """Raises UserError if a step that needs one reply draws several."""
    several = [n for n in (self.final_prompt, self.voted_prompt) if n]
    for name in self.prompts:
      if prompts[name].n > 1 and name not in several:
        where = f"; prompts.{several[0]}.n may" if several else ""
        raise UserError(
          f"prompts.{name}.n={prompts[name].n} cannot be: the method works on"
          f" one reply there{where}"
        )


def frame_of(template: Template, chat: ChatTemplate) -> Frame:
  """What stands around the values of placeholders in all of its prompts."""
  prompts = [
    template.ask(**dict.fromkeys(template.placeholders, filler)).prompt(chat)
    for filler in ("Alpha", "9 zebras")
  ]
  before = os.path.commonprefix(prompts)
  rest = [prompt[len(before) :][::-1] for prompt in prompts]
  return Frame(before, os.path.commonprefix(rest)[::-1])


def for_chat(prompts: Prompts, chat: ChatTemplate) -> Prompts:
  """Each as it is asked in this chat."""
  return {name: one.for_chat(chat) for name, one in prompts.items()}


def are_shots(shots: Any) -> bool:
  """Whether these are worked examples: pairs of user message and reply."""
  return isinstance(shots, (list, tuple)) and all(
    isinstance(shot, (list, tuple))
    and len(shot) == 2
    and all(isinstance(text, str) for text in shot)
    for shot in shots
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
    known = {field.name for field in dataclasses.fields(prompts[name])}
    unknown = set(fields) - known
    if unknown:
      raise UserError(
        f"prompts.{name}.{min(unknown)} is unknown; a prompt has"
        f" {', '.join(sorted(known))}"
      )
    values = dict(fields)
    for key in ("user", "system", "open", "close"):
      if not isinstance(values.get(key, ""), str):
        raise UserError(f"prompts.{name}.{key}={values[key]!r} must be a text")
    if not isinstance(values.get("chat", {}), Mapping):
      raise UserError(
        f"prompts.{name}.chat={values['chat']!r} must be options of the chat"
        ' template, as {"enable_thinking": True}'
      )
    if not isinstance(values.get("budget_forcing", False), bool):
      raise UserError(
        f"prompts.{name}.budget_forcing={values['budget_forcing']!r} must be"
        " True or False"
      )
    if "shots" in values:
      if not are_shots(values["shots"]):
        raise UserError(
          f"prompts.{name}.shots={values['shots']!r} must be pairs of a user"
          " message and its reply"
        )
      values["shots"] = tuple(map(tuple, values["shots"]))
    prompts[name] = dataclasses.replace(prompts[name], **values)
    for key in ("max_new_tokens", "n", "answer_tokens"):
      number = getattr(prompts[name], key, 1)
      if not isinstance(number, int) or number < 1:
        raise UserError(
          f"prompts.{name}.{key}={number!r} must be a whole number, 1 or more"
        )
  return prompts
