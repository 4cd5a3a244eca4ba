"""Conversations as text and tokens, by the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import datetime
import functools
import re
from typing import Any, NoReturn

from s2d_jax.errors import UserError

Message = dict[str, str]  # {"role", "content"}


class ChatTemplate:
  """The chat template of a tokenizer, with all that goes into it.

  Args:
    tokenizer: a Hugging Face tokenizer.
    options: variables of the template, such as {"enable_thinking": False};
      "chat_template" names one where the tokenizer has several.
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
    self._options = dict(options or {})
    self._name = self._options.pop("chat_template", None)
    self._date = date or today()
    self._model_ends = tuple(end_tokens)

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

  def prompt(self, messages: Sequence[Message]) -> str:
    """The conversation as the model reads it, up to where its reply begins."""
    return self._render(messages, add_generation_prompt=True)

  def answered(self, messages: Sequence[Message], reply: str) -> str:
    """The conversation with its reply, and what the template ends a turn by."""
    return self._render([*messages, {"role": "assistant", "content": reply}])

  def unfinished(self, messages: Sequence[Message]) -> str:
    """The conversation up to within its last message, to be gone on with."""
    return self._render(messages, continue_final_message=True)

  def encode(self, text: str) -> tuple[int, ...]:
    """Tokens of a rendered conversation; special ones are spelled out there."""
    return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

  def lengths(self, texts: Sequence[str]) -> list[int]:
    """Tokens of rendered conversations; many at once are fast."""
    found = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return list(map(len, found))

  @functools.cached_property
  def end_tokens(self) -> tuple[int, ...]:
    """Tokens that end a reply.

    Those of the model itself, the tokenizer's end of text, and the template's
    end of turn.
    """
    ends = {self.tokenizer.eos_token_id, self._end_of_turn(), *self._model_ends}
    return tuple(sorted(ends - {None}))

  def _end_of_turn(self) -> int | None:
    """The first added token behind a reply, special or not."""
    if self._template is None:
      return None
    asked = [{"role": "user", "content": "Capital of Peru?"}]
    # The answered conversation need not begin with the prompt, which may open
    # a thought, say.
    _, reply, behind = self.answered(asked, "Lima").rpartition("Lima")
    if not reply:
      return None
    added = self.tokenizer.added_tokens_decoder
    # Some tokenizers have added runs of spaces.
    return next(
      (
        token
        for token in self.encode(behind)
        if token in added and not added[token].content.isspace()
      ),
      None,
    )

  @property
  def _template(self) -> str | None:
    """The template itself, in Jinja."""
    known = self.tokenizer.chat_template
    if isinstance(known, Mapping):
      return known.get(self._name or "default")
    return self._name or known

  def _render(self, messages: Sequence[Message], **how: bool) -> str:
    template = self._template
    if template is None:
      self._refuse()
    try:
      return self.tokenizer.apply_chat_template(
        list(messages),
        chat_template=_with_date(template, self._date),
        tokenize=False,
        **self._options,
        **how,
      )
    except Exception as error:  # whatever a template does
      reason = " ".join(str(error).split())
      raise UserError(
        f"the chat template refuses this conversation ({reason}); change its"
        " messages, config.model.chat, or the model"
      ) from None

  def _refuse(self) -> NoReturn:
    known = self.tokenizer.chat_template
    if known:
      raise UserError(
        f"this model's tokenizer has the chat templates {', '.join(known)}, but"
        f" none called {self._name or 'default'}; choose one:"
        ' config.model.chat = {"chat_template": "…"}'
      )
    raise UserError(
      "this model's tokenizer has no chat template; use an instruct or chat"
      " model"
    )


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
