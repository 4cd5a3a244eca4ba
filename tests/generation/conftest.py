"""A tokenizer of single characters for the tiny random model."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

EOS = 3


@pytest.fixture(scope="session")
def characters() -> PreTrainedTokenizerFast:
  """Token i is the character chr(i); 3 ends a text."""
  vocab = {chr(index): index for index in range(128)}
  del vocab[chr(EOS)]
  vocab["<end>"] = EOS
  tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<end>"))
  tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
  tokenizer.decoder = decoders.Fuse()
  fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>"
  )
  fast.chat_template = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
  )
  return fast
