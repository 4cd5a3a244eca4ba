"""Files and tokenizers with the same fingerprint are the same, and not else."""

from __future__ import annotations

from etils import epath
import numpy as np
import pytest
from tokenizers import AddedToken

from s2d_jax.checkpoints import fingerprint
from tests import tiny_chat

_MEGABYTE = 1 << 20


def _of(tmp_path, *contents: bytes) -> str:
  files = []
  for number, content in enumerate(contents):
    files.append(epath.Path(tmp_path / f"{number}"))
    files[-1].write_bytes(content)
  return fingerprint.of_files(files)


def test_the_same_bytes_in_other_files_of_that_size_are_the_same(tmp_path):
  first, second = tmp_path / "here", tmp_path / "there"
  for folder, name in ((first, "a.gguf"), (second, "b.gguf")):
    folder.mkdir()
    (folder / name).write_bytes(b"GGUF" * 1000)
  same = {
    fingerprint.of_files([epath.Path(path)])
    for path in (first / "a.gguf", second / "b.gguf")
  }
  assert len(same) == 1
  assert _of(tmp_path, b"ab", b"c") != _of(tmp_path, b"a", b"bc")


@pytest.mark.parametrize("size", [1, 1000, 4 * _MEGABYTE])
def test_of_a_small_file_every_byte_counts(tmp_path, size):
  content = bytearray(np.random.default_rng(0).bytes(size))
  found = {_of(tmp_path, bytes(content))}
  places = {0, size // 3, size // 2, size - 1}
  for place in places:
    content[place] ^= 1
    found.add(_of(tmp_path, bytes(content)))
  assert len(found) == 1 + len(places)


def test_of_a_large_file_its_size_its_ends_and_what_training_changes(tmp_path):
  """Every weight by a little, as of a fine-tune: of a bfloat16 its last bit."""
  content = np.random.default_rng(0).bytes(9 * _MEGABYTE)
  first, last = bytearray(content), bytearray(content)
  first[100] ^= 1
  last[-1] ^= 1
  trained = np.frombuffer(content, np.uint16).copy()
  # One weight of fifty, and none of the header.
  trained[_MEGABYTE::50] ^= 1
  others = (first, last, trained.tobytes(), content[:-1], content + b"\0")
  found = {_of(tmp_path, bytes(other)) for other in (content, *others)}
  assert len(found) == 1 + len(others)


@pytest.mark.parametrize("size", [5_000_000, 10**9, 5 * 10**12])
def test_little_is_read_of_a_large_file(size):
  parts = fingerprint._sampled(size)
  ends = [start + length for start, length in parts]
  assert parts[0][0] == 0 and ends[-1] == size
  assert all(
    end <= start for end, (start, _) in zip(ends[:-1], parts[1:], strict=True)
  )
  assert sum(length for _, length in parts) <= 4 * _MEGABYTE
  gaps = np.diff([start for start, _ in parts[1:]])
  assert gaps.max() - gaps.min() <= 1


def test_all_that_makes_tokens_counts(tmp_path):
  def changed(edit):
    tokenizer = tiny_chat.tokenizer()
    edit(tokenizer)
    return fingerprint.of_tokenizer(tokenizer)

  edits = (
    lambda t: None,
    lambda t: t.add_tokens(["<turn>"]),
    lambda t: t.add_tokens([AddedToken("<turn>", rstrip=True)]),
    lambda t: setattr(t, "bos_token", tiny_chat.END),
    lambda t: setattr(t.backend_tokenizer.pre_tokenizer, "use_regex", False),
  )
  assert len({changed(edit) for edit in edits}) == len(edits)
  assert changed(lambda t: None) == changed(lambda t: None)
  same = changed(lambda t: setattr(t, "chat_template", "{{ 1 }}"))
  assert same == changed(lambda t: None)
