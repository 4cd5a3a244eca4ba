"""Tokenizers: of a Hugging Face folder, or rebuilt from a GGUF file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from etils import epath

from s2d_jax.checkpoints import gguf_tokenizer
from s2d_jax.checkpoints.gguf_file import GGUFFile
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase


def load_tokenizer(path: epath.PathLike) -> PreTrainedTokenizerBase:
  """The tokenizer of a model folder or a GGUF file; no code of theirs runs.

  Where the folder has a tokenizer.json, that alone says which tokens a text is,
  whatever class tokenizer_config.json names.

  Raises:
    UserError: there is none, or none that can be read.
  """
  path = epath.Path(path)
  if path.suffix == ".gguf":
    return gguf_tokenizer.read(path, GGUFFile(path).fields)
  transformers = gguf_tokenizer.import_transformers()
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
