"""Conversations as text and tokens, by the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import copy
import datetime
import functools
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes

from s2d_jax.errors import UserError

if TYPE_CHECKING:
  import tokenizers

Message = dict[str, str]  # {"role", "content"}
_LONGEST_SPACE = 3  # bytes
# A conversation to see what a template does.
_QUESTION = {"role": "user", "content": "Capital of Peru?"}
# Options by which templates let a model think before it answers.
_THINKING = ("enable_thinking", "thinking")
# What a template reads besides its options.
_GIVEN = frozenset(
  (
    "messages", "add_generation_prompt", "raise_exception", "strftime_now",
    "bos_token", "eos_token", "unk_token", "pad_token",
  )
)  # fmt: skip


class Answered(NamedTuple):
  """A conversation with its reply; text[start:stop] is what the model writes.

  That is the reply, up to and including the end of the turn.
  """

  text: str
  start: int
  stop: int


class ChatTemplate:
  """The chat template of a tokenizer, with all that goes into it.

  Where the template refuses system messages or leaves them out, they stand in
  front of the user's text, with an empty line between. Where it refuses two
  turns of one role in a row, they are one turn, put together in the same way.

  Args:
    tokenizer: a Hugging Face tokenizer.
    options: variables of the template, such as {"enable_thinking": False};
      "chat_template" names one where the tokenizer has several, and is the
      template itself where it has one.
    date: what the template takes for today; default: today.
    end_tokens: those of the model itself (`Pretrained.end_tokens`).
  """

  def __init__(
    self,
    tokenizer,
    options: Mapping[str, Any] | None = None,
    date: datetime.date | None = None,
    end_tokens: Sequence[int] = (),
  ):
    self.tokenizer = tokenizer
    self.options = dict(options or {})
    self._date = date or today()
    self._model_ends = tuple(end_tokens)
    self._changed: dict[str, ChatTemplate] = {}

  @classmethod
  def from_settings(
    cls,
    tokenizer,
    settings: Mapping[str, Any],
    end_tokens: Sequence[int] = (),
  ) -> ChatTemplate:
    """By the section `model` of a run's settings: its `chat` and its `date`.

    Raises:
      UserError: the date is none.
    """
    day = settings.get("date", "")
    date = read_date(day) if day else None
    return cls(tokenizer, settings.get("chat"), date, end_tokens)

  def with_options(self, changes: Mapping[str, Any] | None) -> ChatTemplate:
    """The same template, some of whose options are others."""
    if not changes:
      return self
    name = repr(sorted(changes.items()))
    if name not in self._changed:
      self._changed[name] = ChatTemplate(
        self.tokenizer,
        self.options | dict(changes),
        self._date,
        self._model_ends,
      )
    return self._changed[name]

  def as_tokenizer(self):
    """The tokenizer, whose template has these options where none are given.

    So whoever asks the model by other programs asks it as it was taught.
    """
    if not self.options:
      return self.tokenizer
    # The newlines are dropped, and the template begins a line.
    defaults = "".join(
      f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}"
      "{% endif %}\n"
      for name, value in self._checked_options.items()
    )
    tokenizer = copy.deepcopy(self.tokenizer)
    tokenizer.chat_template = defaults + self.source
    return tokenizer

  def prompt(self, messages: Sequence[Message]) -> str:
    """The conversation as the model reads it, up to where its reply begins."""
    return self._render(messages, add_generation_prompt=True)

  def answered(self, messages: Sequence[Message], reply: str) -> Answered:
    """The conversation with its reply, as the model reads and writes it.

    It is the prompt, the reply, and what the template writes behind one. How
    the template renders an answered turn of the past does not matter: it may
    leave out a thought that the prompt opens, or trim the reply.

    Raises:
      UserError: the template refuses the conversation, or ends a turn by no
        token that a model could learn to stop by.
    """
    prompt, (behind, end) = self.prompt(messages), self._turn_end
    if end is None:
      raise UserError(
        f"the chat template of {self.tokenizer.name_or_path} does not end the"
        " assistant's turn with a special token, so a model would never learn"
        " to stop; add one to the template"
      )
    content = self.tokenizer.added_tokens_decoder[end].content
    length = behind.index(content) + len(content)
    start = len(prompt)
    return Answered(prompt + reply + behind, start, start + len(reply) + length)

  def conversation(self, messages: Sequence[Message]) -> str:
    """All of it, as the template renders what is past."""
    return self._render(messages)

  def unfinished(self, messages: Sequence[Message]) -> str:
    """The conversation up to within its last message, to be gone on with.

    A reply stands behind the prompt, as the model would have written it.
    """
    *before, last = messages
    if before and last["role"] == "assistant":
      return self.prompt(before) + last["content"]
    return self._render(messages, continue_final_message=True)

  def encode(self, text: str) -> tuple[int, ...]:
    """Tokens of a rendered conversation; special ones are spelled out there."""
    return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

  def lengths(self, texts: Sequence[str]) -> list[int]:
    """Tokens of rendered conversations; many at once are fast."""
    if not self.tokenizer.is_fast:
      return [len(self.encode(text)) for text in texts]
    encode = self._backend.encode_batch_fast  # which knows no offsets
    return list(map(len, encode(list(texts), add_special_tokens=False)))

  def most_tokens(self, text: str) -> int:
    """As many as a rendered conversation has, or more; its bytes tell that.

    A token stands for a byte at least of what the tokenizer makes of the text,
    but in front of what stands between added tokens there may be a space more,
    of three bytes where it is "▁".
    """
    if not self.tokenizer.is_fast:
      return len(self.encode(text))
    size = len(text.encode())
    if self._normalizer is not None:
      size = max(size, len(self._normalizer.normalize_str(text).encode()))
    return math.ceil(self._tokens_of_a_byte * size) + _LONGEST_SPACE

  @functools.cached_property
  def _normalizer(self) -> tokenizers.normalizers.Normalizer | None:
    return self.tokenizer.backend_tokenizer.normalizer

  @functools.cached_property
  def _tokens_of_a_byte(self) -> float:
    """The most: one, where an added token makes up for the space behind it."""
    added = self.tokenizer.added_tokens_decoder.values()
    whole = 1 + _LONGEST_SPACE  # an added token, and the space
    shortest = min((len(one.content.encode()) for one in added), default=whole)
    return max(1.0, whole / shortest)

  def encodings(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
    """Rendered conversations with the letters that each token stands for.

    Raises:
      UserError: the tokenizer does not know them.
    """
    if not self.tokenizer.is_fast:
      raise UserError(
        f"the tokenizer {self.tokenizer.name_or_path} has no tokenizer.json,"
        " which is needed to tell the reply's tokens from the prompt's"
      )
    return self._backend.encode_batch(list(texts), add_special_tokens=False)

  @property
  def _backend(self) -> tokenizers.Tokenizer:
    """What makes lists of texts to tokens, each as long as it is."""
    backend = self.tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend

  @functools.cached_property
  def end_tokens(self) -> tuple[int, ...]:
    """Tokens that end a reply.

    Those of the model itself, the tokenizer's end of text, and the template's
    end of turn.
    """
    _, end = self._turn_end
    ends = {self.tokenizer.eos_token_id, end, *self._model_ends}
    return tuple(sorted(ends - {None}))

  @functools.cached_property
  def _turn_end(self) -> tuple[str, int | None]:
    """What is written behind a reply, and the first added token of that.

    The token may be special or not; without one the turn has no end.
    """
    if self._template is None:
      return "", None
    turn = {"role": "assistant", "content": "Lima"}
    # The answered conversation need not begin with the prompt, which may open
    # a thought, say.
    _, reply, behind = self.conversation([_QUESTION, turn]).rpartition("Lima")
    if not reply:
      return "", None
    added = self.tokenizer.added_tokens_decoder
    # Some tokenizers have added runs of spaces.
    ends = (
      token
      for token in self.encode(behind)
      if token in added and not added[token].content.isspace()
    )
    return behind, next(ends, None)

  @functools.cached_property
  def has_system_role(self) -> bool:
    """Whether a system message is in the prompt of a conversation with one."""
    prompt = self._try([{"role": "system", "content": "Rhyme"}, _QUESTION])
    return prompt is not None and "Rhyme" in prompt

  @functools.cached_property
  def _takes_turns_in_a_row(self) -> bool:
    """Whether one role may have two messages, one behind the other."""
    return self._try([_QUESTION, _QUESTION]) is not None

  def _try(self, messages: Sequence[Message]) -> str | None:
    """The prompt; None if the template refuses it.

    Raises:
      UserError: the template does not read one of the options.
    """
    options = self._checked_options
    try:
      return self._fill(messages, options, add_generation_prompt=True)
    except UserError:
      return None

  @functools.cached_property
  def option_names(self) -> tuple[str, ...]:
    """Variables that the template reads, besides the conversation itself.

    What it sets in a branch is an option only if it asks whether that is there.

    Raises:
      UserError: there is no template, or it is no Jinja.
    """
    environment = jinja2.Environment(
      extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    try:
      parsed = environment.parse(self.source)
    except jinja2.TemplateSyntaxError as error:
      raise _refused(error) from None
    read = jinja2.meta.find_undeclared_variables(parsed)
    names = list(parsed.find_all(jinja2.nodes.Name))
    own = {one.name for one in names if one.ctx == "store"}
    asked_for = {
      asked.node.name
      for asked in parsed.find_all((jinja2.nodes.Test, jinja2.nodes.Filter))
      if asked.name in ("defined", "undefined", "default", "d")
      and isinstance(asked.node, jinja2.nodes.Name)
    }
    return tuple(sorted(read - (own - asked_for) - _GIVEN))

  @property
  def thinking_switch(self) -> str | None:
    """The option by which the model thinks or does not; None: it has none."""
    return next((n for n in _THINKING if n in self.option_names), None)

  @functools.cached_property
  def source(self) -> str:
    """The template itself, in Jinja.

    Raises:
      UserError: there is none.
    """
    template = self._template
    if template is None:
      self._refuse()
    return template

  @functools.cached_property
  def _checked_options(self) -> dict[str, Any]:
    """Those for the template, which reads them all."""
    options = self.options.copy()
    options.pop("chat_template", None)
    if unknown := sorted(options.keys() - set(options and self.option_names)):
      known = ", ".join(self.option_names)
      raise UserError(
        f"the chat template does not read {unknown[0]!r}, which config.model"
        ".chat or the chat of a prompt sets; it reads"
        f" {known or 'no options at all'}"
      )
    return options

  @property
  def _template(self) -> str | None:
    known = self.tokenizer.chat_template
    name = self.options.get("chat_template")
    if isinstance(known, Mapping):
      return known.get(name or "default")
    return name or known

  def _render(self, messages: Sequence[Message], **how: bool) -> str:
    """As the template has it, with turns as it can have them."""
    roles = [message["role"] for message in messages[:2]]
    if roles == ["system", "user"] and not self.has_system_role:
      messages = [_joined(*messages[:2]), *messages[2:]]
    if not self._takes_turns_in_a_row:
      messages = _alternating(messages)
    return self._fill(messages, self._checked_options, **how)

  def _fill(
    self,
    messages: Sequence[Message],
    options: Mapping[str, Any],
    **how: bool,
  ) -> str:
    source = self.source
    try:
      return self.tokenizer.apply_chat_template(
        list(messages),
        chat_template=_with_date(source, self._date),
        tokenize=False,
        **options,
        **how,
      )
    except Exception as error:  # whatever a template does
      raise _refused(error) from None

  def _refuse(self) -> NoReturn:
    known = self.tokenizer.chat_template
    if known:
      raise UserError(
        f"this model's tokenizer has the chat templates {', '.join(known)}, but"
        f" none called {self.options.get('chat_template') or 'default'};"
        " choose one:"
        ' config.model.chat = {"chat_template": "…"}'
      )
    raise UserError(
      "this model's tokenizer has no chat template; use an instruct or chat"
      " model"
    )


class _Generation(jinja2.ext.Extension):
  """Lets a template mark what the model writes, as transformers does."""

  tags = {"generation"}

  def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _literal(value: Any) -> str:
  """In Jinja, which has the truth values of both Python and JSON."""
  return "none" if value is None else repr(value)


def _refused(error: Exception) -> UserError:
  reason = " ".join(str(error).split())
  return UserError(
    f"the chat template refuses this conversation ({reason}); change its"
    " messages, config.model.chat, or the model"
  )


def _joined(first: Message, second: Message) -> Message:
  """Two messages as one of the second's role."""
  return {**second, "content": f"{first['content']}\n\n{second['content']}"}


def _alternating(messages: Sequence[Message]) -> list[Message]:
  """Messages of one role that follow each other are one."""
  turns: list[Message] = []
  for message in messages:
    if turns and turns[-1]["role"] == message["role"]:
      message = _joined(turns.pop(), message)
    turns.append(message)
  return turns


def today() -> datetime.date:
  return datetime.date.today()


def read_date(text: str) -> datetime.date:
  """The day that is written as 2024-07-26."""
  try:
    return datetime.date.fromisoformat(text)
  except ValueError:
    raise UserError(
      f"model.date={text!r} must be a day as 2024-07-26, or empty for the day"
      " on which the run begins"
    ) from None


def special_tokens(tokenizer) -> frozenset[int]:
  """Those that are no text, such as the end of a turn."""
  # Not all_special_ids: that leaves out Llama 3's end of turn.
  added = tokenizer.added_tokens_decoder
  return frozenset(index for index, token in added.items() if token.special)


def _with_date(template: str, date: datetime.date) -> str:
  """The template with a clock of its own, which stands at `date`.

  `strftime_now` becomes a macro: a template is given no functions as variables.
  """
  if "strftime_now" not in template:
    return template
  said = "format"
  for directive in sorted(set(re.findall(r"%[-_^0#]?[a-zA-Z]", template))):
    said += f"|replace({directive!r}, {date.strftime(directive)!r})"
  # The newline is dropped, and the template stands at the beginning of a line.
  return (
    f"{{% macro strftime_now(format) %}}{{{{ {said} }}}}{{% endmacro %}}\n"
    + template
  )
