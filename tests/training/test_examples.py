from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.training.examples import tokenise

CHATML = (
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>"
  "\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
  "{% endif %}"
)
# No space or newline before the reply, so that a merge can cross the border.
GLUED = (
  "{% for m in messages %}{% if m.role == 'user' %}q{{ m.content }}:"
  "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
ASK = [{"role": "user", "content": "the capital of Peru?"}]


def fast(backend: Tokenizer, template: str) -> PreTrainedTokenizerFast:
  tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=backend,
    eos_token="<|im_end|>",
    pad_token="<|im_end|>",  # pad == eos, as in SmolLM2
    additional_special_tokens=["<|im_start|>"],
  )
  tokenizer.chat_template = template
  return tokenizer


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
  backend = Tokenizer(models.BPE())
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=320,
    special_tokens=["<|im_end|>", "<|im_start|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
  )
  text = ["user\nthe capital of Peru?", "assistant\nLima is the capital."]
  backend.train_from_iterator(text * 4, trainer)
  return fast(backend, CHATML)


@pytest.mark.parametrize("target", ["Lima", "São Tomé ☕", " x \n\n y", "Li\n"])
def test_targets_are_the_reply_and_the_end_of_turn(byte_level, target):
  tokens, is_target = tokenise(ChatTemplate(byte_level), ASK, target)
  whole = byte_level.apply_chat_template(
    [*ASK, {"role": "assistant", "content": target}], tokenize=False
  )
  assert byte_level.decode(tokens) == whole
  assert byte_level.decode(tokens[is_target]) == target + "<|im_end|>"
  assert whole.endswith("<|im_end|>\n") and not is_target[-1]
  # The end of the user's turn is the same token, and pad, but no target.
  ends = np.flatnonzero(tokens == byte_level.eos_token_id)
  assert is_target[ends].tolist() == [False, True]


def test_generation_prompt_carries_no_loss(byte_level):
  tokens, is_target = tokenise(ChatTemplate(byte_level), ASK, "Lima")
  asked = byte_level.apply_chat_template(
    ASK, tokenize=False, add_generation_prompt=True
  )
  assert byte_level.decode(tokens[: is_target.argmax()]) == asked


def test_a_target_may_quote_the_end_of_turn(byte_level):
  target = "<|im_end|>\nLima"
  tokens, is_target = tokenise(ChatTemplate(byte_level), ASK, target)
  assert byte_level.decode(tokens[is_target]) == "<|im_end|>\nLima<|im_end|>"


def test_a_token_merged_across_the_border_is_a_target():
  letters = ["<|im_end|>", *"qPeru:Lima", ":L"]
  vocab = {piece: i for i, piece in enumerate(dict.fromkeys(letters))}
  tokenizer = fast(Tokenizer(models.BPE(vocab, [(":", "L")])), GLUED)
  ask = [{"role": "user", "content": "Peru"}]
  tokens, is_target = tokenise(ChatTemplate(tokenizer), ask, "Lima")
  pieces = tokenizer.convert_ids_to_tokens(tokens)
  assert pieces == [*"qPeru", ":L", *"ima", "<|im_end|>"]
  assert is_target.tolist() == [False] * 5 + [True] * 5
  # Tokenised apart, the reply would be one token longer and shift the mask.
  assert len(tokenizer("Lima<|im_end|>")["input_ids"]) == 5
  assert len(tokenizer("qPeru:")["input_ids"]) == 6


def test_a_turn_may_end_with_an_added_token_that_is_not_special(byte_level):
  template = CHATML.replace("<|im_end|>", "<turn>")
  tokenizer = fast(byte_level.backend_tokenizer, template)
  tokenizer.add_tokens(["<turn>"])
  tokens, is_target = tokenise(ChatTemplate(tokenizer), ASK, "Lima")
  assert tokenizer.decode(tokens[is_target]) == "Lima<turn>"


def test_template_that_rewrites_the_prompt_is_refused(byte_level):
  rewriting = fast(
    byte_level.backend_tokenizer, "{{ messages|length }}" + CHATML
  )
  with pytest.raises(UserError, match="renders a prompt differently"):
    tokenise(ChatTemplate(rewriting), ASK, "Lima")


def test_template_without_end_of_turn_is_refused(byte_level):
  endless = fast(
    byte_level.backend_tokenizer,
    "{% for m in messages %}{{ m.content }}\n{% endfor %}",
  )
  with pytest.raises(UserError, match="never learn to stop"):
    tokenise(ChatTemplate(endless), ASK, "Lima")
