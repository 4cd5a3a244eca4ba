from __future__ import annotations

import numpy as np
import pytest
from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  pre_tokenizers,
  trainers,
)
from transformers import PreTrainedTokenizerFast

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.training.examples import reply_of, tokenise

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


# Whatever the template makes of an answered turn of the past.
REWRITING = {
  "counts": "{{ messages|length }}" + CHATML,
  "trims the reply": CHATML.replace("m.content", "m.content | trim"),
  # As the families that think: past thoughts are left out.
  "opens a thought": CHATML.replace("nt\n{%", "nt\n<think>\n{%"),
  "closes a thought": CHATML.replace(
    "nt\n{%", "nt\n{% if not on %}<think>\n\n</think>\n\n{% endif %}{%"
  ),
  "rewrites the past": CHATML.replace(
    "{{ m.content }}",
    "{{ m.content if m.role == 'user' else 'It is: ' ~ m.content }}",
  ),
}


@pytest.mark.parametrize("how", REWRITING)
@pytest.mark.parametrize("target", ["Lima", " Lima\n"])
def test_what_is_learnt_is_what_the_model_reads_and_writes(
  byte_level, how, target
):
  """The very prompt that transformers gives a model, the reply, its end."""
  tokenizer = fast(byte_level.backend_tokenizer, REWRITING[how])
  tokens, is_target = tokenise(ChatTemplate(tokenizer), ASK, target)
  asked = tokenizer.apply_chat_template(
    ASK, tokenize=False, add_generation_prompt=True
  )
  first = is_target.argmax()
  assert tokenizer.decode(tokens[:first]) == asked
  assert tokenizer.decode(tokens[is_target]) == target + "<|im_end|>"
  assert not is_target[-1] and tokenizer.decode(tokens[-1:]) == "\n"


def test_an_end_of_turn_that_swallows_a_newline_is_learnt(byte_level):
  template = CHATML.replace("<|im_end|>", "<end>")
  tokenizer = fast(byte_level.backend_tokenizer, template)
  tokenizer.add_tokens([AddedToken("<end>", rstrip=True, normalized=False)])
  tokens, is_target = tokenise(ChatTemplate(tokenizer), ASK, "Lima")
  assert is_target[-1] and tokenizer.decode(tokens[is_target]) == "Lima<end>"


def test_template_without_end_of_turn_is_refused(byte_level):
  endless = fast(
    byte_level.backend_tokenizer,
    "{% for m in messages %}{{ m.content }}\n{% endfor %}",
  )
  with pytest.raises(UserError, match="never learn to stop"):
    tokenise(ChatTemplate(endless), ASK, "Lima")


def test_a_thought_goes_from_its_beginning(byte_level):
  chat = ChatTemplate(byte_level)
  thought, target = "It is São Tomé\nor Peru", "the capital"
  whole = tokenise(chat, ASK, target, thought)
  learnt = byte_level.decode(whole.tokens[whole.is_target])
  assert learnt == f"{thought}\n{target}<|im_end|>"
  assert reply_of(target, thought) == f"{thought}\n{target}"
  asked = int(whole.is_target.argmax())
  behind = tokenise(chat, ASK, target)
  length = len(whole.tokens) - len(behind.tokens)
  assert length > 8
  for keep in range(1, length + 3):
    tokens, is_target = tokenise(chat, ASK, target, thought, keep)
    gone = max(length - keep, 0)
    # Those that are left are what they were.
    assert tokens[:asked].tolist() == whole.tokens[:asked].tolist()
    assert tokens[asked:].tolist() == whole.tokens[asked + gone :].tolist()
    assert is_target.tolist() == [False] * asked + (
      whole.is_target[asked + gone :].tolist()
    )
  none = tokenise(chat, ASK, target, thought, 0)
  assert none.tokens.tolist() == behind.tokens.tolist()
