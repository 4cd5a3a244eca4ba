"""Tokenizers of GGUF files, in and out.

A GGUF file names its tokenizer (`tokenizer.ggml.model`) and the rule that cuts
text into words (`tokenizer.ggml.pre`) and holds the vocabulary. The conversion
in transformers needs PyTorch and does not know SmolLM's rule, so it is done
here. What is written is read back, and both have to give the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import re
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

from s2d_jax.errors import UserError

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase

_PREFIX = "tokenizer.ggml."
# tokenizer.ggml.token_type
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
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
# tokenizer.ggml.pre → words; None: GPT-2's.
_CUTS = {
  "smollm": None,  # after single digits
  "refact": None,  # the same, of Granite 3
  "gpt-2": None,
  "llama-bpe": _WORDS % "{1,3}",
  "smaug-bpe": _WORDS % "{1,3}",  # of SmolLM3
  "dbrx": _WORDS % "{1,3}",  # of OLMo 2
  "qwen2": _WORDS % "",
}
# The vocabulary of Llama 3 has whole words that no merges lead to.
_WHOLE_WORDS = ("llama-bpe", "smaug-bpe")
# A reply ends at these whatever keys there are: converters left out the keys of
# most, so llama.cpp knows them by name, in `llama_vocab::impl::load`
# (src/llama-vocab.cpp).
END_NAMES = (
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<end_of_turn>",
)
_UNMERGED = -10_000.0  # score of what is no merge
# Texts that every two rules cut in different ways.
_TEXTS = (
  "It's 1234567 o'clock, ISN'T it?  We'll see…\n\n  naïve e\u0301t\tТы 東京 🙂",
  "x = [1,2];\r\n    return f(x)!?\n\n\n\tend   ",
)


def import_transformers():
  # Without this it prints that PyTorch is missing.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers

  return transformers


def read(
  path: epath.PathLike, fields: Mapping[str, Any]
) -> PreTrainedTokenizerBase:
  """The tokenizer that the fields of the GGUF file at `path` describe.

  Raises:
    UserError: it is of a kind, or cuts text by a rule, that is not known here.
  """
  fields = {
    key.removeprefix(_PREFIX): value
    for key, value in fields.items()
    if key.startswith("tokenizer.")
  }
  kind = fields.get("model")
  if kind not in ("gpt2", "llama") or "tokens" not in fields:
    raise UserError(
      f"{path}: tokenizer.ggml.model is {kind!r}; only gpt2 and llama"
      " tokenizers can be read from GGUF, take the Hugging Face folder"
    )
  needed = "merges" if kind == "gpt2" else "scores"
  if needed not in fields:
    raise UserError(
      f"{path}: tokenizer.ggml.{needed} is missing; take the Hugging Face"
      " folder"
    )
  if kind == "gpt2":
    tokenizer = _byte_level(path, fields)
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
  return import_transformers().PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    chat_template=fields.get("tokenizer.chat_template"),
    clean_up_tokenization_spaces=False,
    **special,
  )


def _byte_level(path: epath.PathLike, fields: dict[str, Any]) -> Tokenizer:
  """BPE over bytes spelled as letters, after text is cut into words."""
  pre = fields.get("pre")
  if pre not in _CUTS:
    raise UserError(
      f"{path}: tokenizer.ggml.pre is {pre!r}; only"
      f" {', '.join(_CUTS)} can be read from GGUF, take the Hugging Face"
      " folder"
    )
  tokenizer = Tokenizer(
    models.BPE(
      vocab={token: i for i, token in enumerate(fields["tokens"])},
      merges=[tuple(merge.split(" ")) for merge in fields["merges"]],
      ignore_merges=pre in _WHOLE_WORDS,
    )
  )
  tokenizer.normalizer, tokenizer.pre_tokenizer = _cut(pre)
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _cut(
  pre: str,
) -> tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]:
  """What the rule `pre` does to a text before its bytes are merged."""
  words = _CUTS[pre]
  steps = [
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
  ]
  if words is not None:
    steps.insert(0, pre_tokenizers.Split(Regex(words), "isolated"))
  if pre in ("smollm", "refact"):
    steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
  normalizer = normalizers.NFC() if pre == "qwen2" else None
  return normalizer, pre_tokenizers.Sequence(steps)


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


def write(
  tokenizer: PreTrainedTokenizerBase,
  vocab_size: int,
  end_tokens: Sequence[int] = (),
) -> dict[str, Any]:
  """The fields by which a GGUF file describes a tokenizer.

  Args:
    tokenizer: with its chat template.
    vocab_size: rows of the embedding; ids without a token are unused ones.
    end_tokens: those that end a reply.

  Raises:
    UserError: read back, it would give other tokens, or it has more ends of a
      reply than there are keys.
  """
  state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
  fields = _vocabulary(tokenizer, vocab_size, state)
  fields |= _special_tokens(tokenizer, fields[_PREFIX + "tokens"], end_tokens)
  # llama.cpp reads no vocabulary without merges, and GGUF has no empty list.
  merges = state["type"] == "BPE" and state["merges"]
  for own in _candidates(tokenizer, state, fields) if merges else ():
    if _gives_the_same(fields | own, tokenizer):
      return fields | own
  raise UserError(
    "no tokenizer that GGUF has a name for gives the tokens of this model's"
    " own; leave out --gguf"
  )


def _candidates(
  tokenizer: PreTrainedTokenizerBase, state: dict, fields: dict[str, Any]
) -> Iterator[dict[str, Any]]:
  """What may stand for the kind of the tokenizer, the rule and the merges."""
  merges = [
    tuple(one.split(" ")) if isinstance(one, str) else tuple(one)
    for one in state["merges"]
  ]
  named = lambda values: {_PREFIX + key: v for key, v in values.items()}
  if state.get("byte_fallback"):
    scores = _scores(fields[_PREFIX + "tokens"], merges)
    for begins in (True, False):
      values = {"model": "llama", "pre": "default", "scores": scores}
      yield named(values | {"add_space_prefix": begins})
    return
  cut = _words(tokenizer.backend_tokenizer)
  for pre in _CUTS:
    other = Tokenizer(models.BPE())
    other.normalizer, other.pre_tokenizer = _cut(pre)
    whole = bool(state.get("ignore_merges"))
    if _words(other) == cut and whole == (pre in _WHOLE_WORDS):
      joined = [" ".join(merge) for merge in merges]
      values = {"model": "gpt2", "pre": pre, "merges": joined}
      yield named(values | {"add_space_prefix": False})


def _words(tokenizer: Tokenizer) -> list[list[str]]:
  """How it cuts texts, spelled as its vocabulary spells bytes."""
  normalizer, cutter = tokenizer.normalizer, tokenizer.pre_tokenizer
  if cutter is None:
    return []
  normal = lambda text: normalizer.normalize_str(text) if normalizer else text
  return [
    [word for word, _ in cutter.pre_tokenize_str(normal(text))]
    for text in _TEXTS
  ]


def _scores(
  tokens: list[str], merges: Sequence[tuple[str, str]]
) -> list[float]:
  """Of SentencePiece: the earlier a token is merged, the higher."""
  made = dict.fromkeys("".join(merge) for merge in merges)
  ranks = {token: rank for rank, token in enumerate(made)}
  return [
    float(-ranks[token]) if token in ranks else _UNMERGED for token in tokens
  ]


def _vocabulary(
  tokenizer: PreTrainedTokenizerBase, vocab_size: int, state: dict
) -> dict[str, Any]:
  added = tokenizer.added_tokens_decoder
  by_id = {index: token for token, index in tokenizer.get_vocab().items()}
  has_letters = state.get("byte_fallback")

  def kind(index: int) -> int:
    token = by_id.get(index)
    if token is None:
      return _UNUSED
    if has_letters and token == state["unk_token"]:
      return _UNKNOWN
    if index in added:
      return _CONTROL if added[index].special else _USER_DEFINED
    if has_letters and re.fullmatch("<0x[0-9A-F]{2}>", token):
      return _BYTE
    return _NORMAL

  ids = range(vocab_size)
  return {
    _PREFIX + "tokens": [by_id.get(index, f"[PAD{index}]") for index in ids],
    _PREFIX + "token_type": [kind(index) for index in ids],
  }


def _special_tokens(
  tokenizer: PreTrainedTokenizerBase,
  tokens: list[str],
  end_tokens: Sequence[int],
) -> dict[str, Any]:
  found = {
    key: getattr(tokenizer, f"{name}_id") for name, key in _SPECIAL.items()
  }
  ends = [end for end in end_tokens if end != tokenizer.eos_token_id]
  if found["eos_token_id"] is None and ends:
    found["eos_token_id"] = ends.pop(0)
  unnamed = [end for end in ends if tokens[end] not in END_NAMES]
  if found["eos_token_id"] is None or len(unnamed) > 2:
    raise UserError(
      f"the replies of this model end by {len(end_tokens)} tokens, and GGUF has"
      " keys for one to three; leave out --gguf"
    )
  found |= dict(zip(("eot_token_id", "eom_token_id"), unnamed, strict=False))
  found = {key: index for key, index in found.items() if index is not None}
  first = tokenizer("a")["input_ids"][:1]
  found["add_bos_token"] = first == [tokenizer.bos_token_id]
  fields = {_PREFIX + key: value for key, value in found.items()}
  template = tokenizer.chat_template
  if isinstance(template, Mapping):
    template = template.get("default")
  return fields | ({"tokenizer.chat_template": template} if template else {})


def _gives_the_same(
  fields: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> bool:
  again = read("the GGUF file", fields)
  spelled = "".join(f"a {token}" for token in tokenizer.all_special_tokens)
  return all(
    again(text)["input_ids"] == tokenizer(text)["input_ids"]
    for text in (*_TEXTS, spelled)
  )
