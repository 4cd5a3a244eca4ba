"""Conversations to tokens, by the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Sequence

from s2d_jax.errors import UserError

Message = dict[str, str]


def render(tokenizer, messages: Sequence[Message]) -> str:
  """The conversation as the model reads it, up to where its reply begins."""
  if not tokenizer.chat_template:
    raise UserError(
      "this model's tokenizer has no chat template; use an instruct or chat"
      " model"
    )
  return tokenizer.apply_chat_template(
    list(messages), tokenize=False, add_generation_prompt=True
  )


def encode(tokenizer, text: str) -> tuple[int, ...]:
  """Tokens of a rendered conversation, which has its special tokens already."""
  return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def end_tokens(tokenizer) -> tuple[int, ...]:
  """Tokens that end a reply: end of text, and the template's end of turn."""
  ends = {tokenizer.eos_token_id} - {None}
  if tokenizer.chat_template:
    turns = [
      {"role": "user", "content": "A"},
      {"role": "assistant", "content": "B"},
    ]
    asked = render(tokenizer, turns[:1])
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    special = {
      index
      for index, token in tokenizer.added_tokens_decoder.items()
      if token.special
    }
    behind = encode(tokenizer, whole.removeprefix(asked))
    ends.update([token for token in behind if token in special][:1])
  return tuple(sorted(ends))
