"""A tiny random chat model whose replies are names of capitals."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  pre_tokenizers,
)
from transformers import PreTrainedTokenizerFast

from s2d_jax.checkpoints import hf
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.models.config import ModelConfig, alike
from tests import chat_templates
from tests.random_model import random_params

END = "<|im_end|>"
WORDS = (" Lima", " Quito", " Paris", " Oslo")


def tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
  """Single bytes, the end of a turn, and a few whole words."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {letter: index for index, letter in enumerate(alphabet)}
  fast = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  fast.decoder = decoders.ByteLevel()
  fast.add_special_tokens([AddedToken(END, special=True, normalized=False)])
  fast.add_tokens([AddedToken(word, normalized=False) for word in words])
  wrapped = PreTrainedTokenizerFast(
    tokenizer_object=fast, eos_token=END, pad_token=END
  )
  wrapped.chat_template = (
    "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}"
    + END
    + "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
  )
  return wrapped


def model(words: tuple[str, ...] = WORDS, window: int = 512) -> Pretrained:
  """Two random layers over a window of so many tokens, which are bytes.

  The head knows the words and the end of a turn only, so most replies are
  answers; the others of its columns are zero.
  """
  tokens = tokenizer(words)
  config = ModelConfig(
    vocab_size=300,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    max_context=window,
    pattern=alike(10000.0),
    rms_eps=1e-5,
    tie_embeddings=False,
  )

  params = jax.tree.map(np.asarray, random_params(config))
  scale = np.zeros(config.vocab_size, np.float32)
  scale[tokens.convert_tokens_to_ids(list(words))] = 6.0
  scale[tokens.eos_token_id] = 1.0
  params["head"] = {"kernel": params["head"]["kernel"] * scale}
  return Pretrained(config, params, tokens)


def write(folder: pathlib.Path, **options) -> pathlib.Path:
  """Saves the model as a Hugging Face folder."""
  tiny = model(**options)
  hf.write(folder, tiny.config, tiny.params, tiny.tokenizer)
  return folder


def write_thinking(folder: pathlib.Path) -> pathlib.Path:
  """Saves a model that may think first, as Qwen 3 does.

  It ends a thought as often as it says Lima, and a turn nearly as often as it
  says Paris.
  """
  markers = "<think>", "</think>"
  tiny = model(WORDS + markers)
  kernel = tiny.params["head"]["kernel"]
  lima, paris, close, end = tiny.tokenizer.convert_tokens_to_ids(
    [" Lima", " Paris", "</think>", END]
  )
  kernel[:, close] = kernel[:, lima]
  kernel[:, end] = 0.8 * kernel[:, paris]
  tiny.tokenizer.chat_template = chat_templates.SWITCHED
  hf.write(folder, tiny.config, tiny.params, tiny.tokenizer)
  return folder
