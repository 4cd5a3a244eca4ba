"""Fingerprints of a model's files: alike where a model is the same.

A run keeps them, so that it does not go on with another model under the same
name: a Hub id whose files have changed, a short name that means one file here
and another there.
"""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import json
from typing import TYPE_CHECKING

from etils import epath

if TYPE_CHECKING:  # importing transformers takes seconds
  from transformers import PreTrainedTokenizerBase

_HEAD = 1 << 20  # bytes; names and shapes of tensors stand at the beginning
_BLOCK, _BLOCKS = 1 << 16, 48  # of what comes behind


def of_files(files: Sequence[epath.Path]) -> str:
  """Of weights, from their sizes and a sample of their bytes.

  Of a file of more than 4 MiB the first MiB is read and 48 blocks of 64 KiB,
  evenly spread up to its end, since hundreds of gigabytes cannot be read at
  every start. Training or quantising anew changes nearly all bytes and is seen;
  a change of a few bytes between the blocks is not. The same weights cut into
  other files have another fingerprint; names and folders of files do not count.
  """
  digest = hashlib.sha256()
  for file in files:
    size = file.stat().length
    digest.update(f"{size}\n".encode())
    with file.open("rb") as opened:
      for start, length in _sampled(size):
        opened.seek(start)
        digest.update(opened.read(length))
  return _short(digest)


def _sampled(size: int) -> list[tuple[int, int]]:
  """Where in a file of so many bytes it is read, and how many bytes there."""
  if size <= _HEAD + _BLOCK * _BLOCKS:
    return [(0, size)]
  step, last = (size - _BLOCK - _HEAD) / (_BLOCKS - 1), size - _BLOCK
  spread = [_HEAD + int(step * block) for block in range(_BLOCKS - 1)]
  return [(0, _HEAD), *((start, _BLOCK) for start in [*spread, last])]


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
  """Of all that decides which tokens a text is, and which end it."""
  if tokenizer.is_fast:
    rules = tokenizer.backend_tokenizer.to_str()
  else:
    rules = json.dumps(sorted(tokenizer.get_vocab().items()))
  special = tokenizer.bos_token_id, tokenizer.eos_token_id
  return of_text(json.dumps(special) + rules)


def of_text(text: str) -> str:
  # Half a surrogate, which a template may hold, is no UTF-8.
  return _short(hashlib.sha256(text.encode(errors="surrogatepass")))


def _short(digest) -> str:
  return digest.hexdigest()[:16]
