"""Tokenizers: of a Hugging Face folder, or rebuilt from a GGUF file.

A GGUF file names its tokenizer (`tokenizer.ggml.model`) and the rule that cuts
text into words (`tokenizer.ggml.pre`) and holds the vocabulary. The conversion
in transformers needs PyTorch and does not know SmolLM's rule, so it is done
here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from etils import epath
from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase

_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type
_SPECIAL = {
  "bos_token": "bos_token_id",
  "eos_token": "eos_token_id",
  "unk_token": "unknown_token_id",
  "pad_token": "padding_token_id",
}
# How the merges of a vocabulary were learned: the words of Llama 3 and Qwen 2.
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def load_tokenizer(path: epath.PathLike) -> PreTrainedTokenizerBase:
  """The tokenizer of a model folder or a GGUF file; no code of theirs runs.

  Where the folder has a tokenizer.json, that alone says which tokens a text is,
  whatever class tokenizer_config.json names.

  Raises:
    UserError: there is none, or none that can be read.
  """
  path = epath.Path(path)
  if path.suffix == ".gguf":
    return _from_gguf(GGUFFile(path))
  transformers = _transformers()
  # By the class that the folder names, transformers would take the vocabulary
  # alone from tokenizer.json, and cut text into words as that class does.
  has_file = (path / "tokenizer.json").exists()
  kind = (
    transformers.PreTrainedTokenizerFast
    if has_file
    else transformers.AutoTokenizer
  )
  try:
    return kind.from_pretrained(
      os.fspath(path), trust_remote_code=False, local_files_only=True
    )
  # A damaged tokenizer.json raises a bare Exception.
  except Exception as error:
    reason = str(error).strip().partition("\n")[0]
    raise UserError(f"{path} holds no usable tokenizer ({reason})") from None


def check_fits(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
  """Refuses a tokenizer with ids for which the model has no embedding."""
  largest = max([len(tokenizer) - 1, *tokenizer.all_special_ids])
  if largest >= config.vocab_size:
    raise UserError(
      f"the tokenizer has token ids up to {largest}, but the model has only"
      f" {config.vocab_size} embeddings; they do not belong together"
    )


def _transformers():
  # Without this it prints that PyTorch is missing.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers

  return transformers


def _from_gguf(file: GGUFFile) -> PreTrainedTokenizerBase:
  fields = {
    key.removeprefix("tokenizer.ggml."): value
    for key, value in file.fields.items()
    if key.startswith("tokenizer.")
  }
  kind = fields.get("model")
  if kind not in ("gpt2", "llama") or "tokens" not in fields:
    raise UserError(
      f"{file.path}: tokenizer.ggml.model is {kind!r}; only gpt2 and llama"
      " tokenizers can be read from GGUF, take the Hugging Face folder"
    )
  needed = "merges" if kind == "gpt2" else "scores"
  if needed not in fields:
    raise UserError(
      f"{file.path}: tokenizer.ggml.{needed} is missing; take the Hugging Face"
      " folder"
    )
  if kind == "gpt2":
    tokenizer = _byte_level(file, fields)
  else:
    tokenizer = _sentencepiece(fields)
  tokens = fields["tokens"]
  for token, type_ in zip(tokens, fields.get("token_type", ()), strict=False):
    if type_ in (_CONTROL, _USER_DEFINED):
      added = AddedToken(token, normalized=False, special=type_ == _CONTROL)
      tokenizer.add_tokens([added])
  special = {
    name: tokens[fields[key]]
    for name, key in _SPECIAL.items()
    if fields.get(key, len(tokens)) < len(tokens)
  }
  # As in llama.cpp where the key is missing: `llama_vocab::impl::load` in
  # src/llama-vocab.cpp.
  begins = kind == "llama" or fields.get("pre") == "llama-bpe"
  if fields.get("add_bos_token", begins) and "bos_token" in special:
    bos = special["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
      single=f"{bos} $A",
      pair=f"{bos} $A {bos} $B",
      special_tokens=[(bos, fields["bos_token_id"])],
    )
  return _transformers().PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    chat_template=fields.get("tokenizer.chat_template"),
    clean_up_tokenization_spaces=False,
    **special,
  )


def _byte_level(file: GGUFFile, fields: dict[str, Any]) -> Tokenizer:
  """BPE over bytes spelled as letters, after text is cut into words."""
  words = {
    "smollm": None,  # GPT-2's, after single digits
    "refact": None,  # the same, of Granite 3
    "gpt-2": None,
    "llama-bpe": _WORDS % "{1,3}",
    "smaug-bpe": _WORDS % "{1,3}",  # of SmolLM3
    "dbrx": _WORDS % "{1,3}",  # of OLMo 2
    "qwen2": _WORDS % "",
  }
  pre = fields.get("pre")
  if pre not in words:
    raise UserError(
      f"{file.path}: tokenizer.ggml.pre is {pre!r}; only"
      f" {', '.join(words)} can be read from GGUF, take the Hugging Face"
      " folder"
    )
  tokenizer = Tokenizer(
    models.BPE(
      vocab={token: i for i, token in enumerate(fields["tokens"])},
      merges=[tuple(merge.split(" ")) for merge in fields["merges"]],
      # The vocabulary of Llama 3 has whole words that no merges lead to.
      ignore_merges=pre in ("llama-bpe", "smaug-bpe"),
    )
  )
  steps = [
    pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=words[pre] is None
    )
  ]
  if words[pre] is not None:
    steps.insert(0, pre_tokenizers.Split(Regex(words[pre]), "isolated"))
  if pre in ("smollm", "refact"):
    steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
  if pre == "qwen2":
    tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _sentencepiece(fields: dict[str, Any]) -> Tokenizer:
  """Llama 2's BPE: spaces are letters too, unknown text falls to bytes.

  SentencePiece keeps no list of merges: every token that two others make is a
  merge, and the token's score is its rank.
  """
  vocab = {token: i for i, token in enumerate(fields["tokens"])}
  scores = fields["scores"]
  merges = []
  for token, i in vocab.items():
    splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
    parts = [(a, b) for a, b in splits if a in vocab and b in vocab]
    parts.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    merges += [(-scores[i], pair) for pair in parts]
  merges.sort(key=lambda merge: merge[0])
  tokenizer = Tokenizer(
    models.BPE(
      vocab=vocab,
      merges=[pair for _, pair in merges],
      unk_token=fields["tokens"][fields.get("unknown_token_id", 0)],
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  steps = [normalizers.Replace(" ", "▁")]
  decode = [decoders.Replace("▁", " ")]
  decode += [decoders.ByteFallback(), decoders.Fuse()]
  if fields.get("add_space_prefix", True):
    steps.insert(0, normalizers.Prepend("▁"))
    decode.append(decoders.Strip(" ", 1, 0))
  tokenizer.normalizer = normalizers.Sequence(steps)
  tokenizer.decoder = decoders.Sequence(decode)
  return tokenizer
