"""Where replies end, against the text of every prefix by transformers."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  normalizers,
)
from transformers import PreTrainedTokenizerFast

from s2d_jax.generation.stopping import ReplyEnd, StopTable, may_span_tokens
from tests import tiny_chat

END = "<|im_end|>"
TURN = "<|turn|>"


def _byte_level() -> PreTrainedTokenizerFast:
  tokenizer = tiny_chat.tokenizer(words=(" Lima", "a.b", "。）"))
  tokenizer.add_special_tokens({"additional_special_tokens": [TURN]})
  return tokenizer


def _sentencepiece() -> PreTrainedTokenizerFast:
  """As Llama 2's: spaces are letters, bytes stand for unknown ones."""
  pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
  pieces += ["▁", *"abcdQ.:", "▁Q", "▁Q:", "▁a", "b.", "c:"]
  vocab = {piece: index for index, piece in enumerate(pieces)}
  merges = [("▁", "Q"), ("▁Q", ":"), ("▁", "a"), ("b", "."), ("c", ":")]
  fast = Tokenizer(
    models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)
  )
  fast.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  fast.decoder = decoders.Sequence(
    [
      decoders.Replace("▁", " "),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(" ", 1, 0),
    ]
  )
  special = [AddedToken(t, special=True, normalized=False) for t in (END, TURN)]
  fast.add_special_tokens(special)
  return PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END)


TOKENIZERS = {"byte level": _byte_level(), "sentencepiece": _sentencepiece()}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request) -> PreTrainedTokenizerFast:
  return TOKENIZERS[request.param]


def _ends(tokenizer) -> ReplyEnd:
  return ReplyEnd(tokenizer, [tokenizer.eos_token_id], len(tokenizer))


def _tokens(tokenizer, text: str) -> list[int]:
  return tokenizer(text, add_special_tokens=False)["input_ids"]


def _first_over(tokenizer, tokens, stop) -> int | None:
  """The length of the first prefix that has ended, by looking at them all."""
  for length in range(1, len(tokens) + 1):
    texts = [
      tokenizer.decode(tokens[:length], skip_special_tokens=skip)
      for skip in (True, False)
    ]
    if tokens[length - 1] == tokenizer.eos_token_id or any(
      string in text for string in stop for text in texts
    ):
      return length
  return None


TEXTS = (
  "a cab Q: b.d",
  "a b。）c 🙂 d。",
  f"ab{TURN}cd{END}",
  f"a.b{TURN}cd{END}",
  f"b.{END} Q: 。",
  "aaaaaaaaab。",
  "Q: Q:a。🙂",
)
STOPS = (
  (".",),
  (" ",),
  ("Q:",),
  (" Q:",),
  ("。",),
  ("🙂",),
  (END,),
  (TURN,),
  (f"b{TURN}c",),
  ("bc",),
  ("b", "ab"),
  ("。）c", "Q: Q"),
  ("nowhere",),
)


@pytest.mark.parametrize("stop", STOPS, ids="+".join)
@pytest.mark.parametrize("text", TEXTS)
def test_the_first_prefix_that_is_over_is_the_reply(tokenizer, text, stop):
  tokens = _tokens(tokenizer, text)
  length = _first_over(tokenizer, tokens, stop)
  end = _ends(tokenizer).find(tokens, stop)
  assert (end and end.length) == length
  if end is None:
    return
  shown = tokenizer.decode(tokens[:length], skip_special_tokens=True)
  assert shown.startswith(end.text)
  assert not any(string in end.text for string in (*stop, END, TURN))
  # No more is cut off than the stop string and what its last token has behind.
  spelled = tokenizer.decode(tokens[:length])
  starts = [spelled.find(string) for string in stop if string in spelled]
  if starts:
    assert end.text == spelled[: min(starts)].replace(TURN, "")
  elif tokens[length - 1] == tokenizer.eos_token_id:
    assert end.text == shown


@pytest.mark.parametrize("stop", STOPS, ids="+".join)
@pytest.mark.parametrize("text", TEXTS)
def test_it_does_not_matter_how_far_the_host_looks(tokenizer, text, stop):
  """Nor what stands behind the end."""
  tokens = _tokens(tokenizer, text)
  ends = _ends(tokenizer)
  end = ends.find(tokens, stop)
  for length in range(1, len(tokens) + 1):
    over = end is not None and length >= end.length
    assert ends.find(tokens[:length], stop) == (end if over else None)


@pytest.mark.parametrize("stop", STOPS, ids="+".join)
def test_the_device_ends_rows_where_the_rule_does(tokenizer, stop):
  """Whatever stands before a token of the table, and never too early."""
  ends = _ends(tokenizer)
  table = StopTable(ends, len(tokenizer))
  row = table.rows[table.number(stop)]
  letter = _tokens(tokenizer, "d")[-1]
  for token in range(len(tokenizer)):
    for before in ([], [letter], [letter, letter]):
      end = ends.find([*before, token], stop)
      over = end is not None and end.length == len(before) + 1
      assert over >= row[token], (tokenizer.decode([token]), before)
      if before and not may_span_tokens(stop):
        assert over == row[token]
  assert row[tokenizer.eos_token_id] and not row.all()


def test_a_stop_string_of_a_few_bytes_may_span_tokens():
  for string in ("。", "é", "🙂", "ab", " "):
    assert may_span_tokens((string,))
  assert not may_span_tokens(("\n", "."))
  assert not may_span_tokens(())


def test_a_leading_space_is_seen_in_context():
  """Alone, the token " Q" of such a tokenizer is "Q"."""
  tokenizer = TOKENIZERS["sentencepiece"]
  tokens = _tokens(tokenizer, "ab Q: c")
  assert tokenizer.convert_ids_to_tokens(tokens)[:3] == ["▁a", "b", "▁Q:"]
  assert tokenizer.decode(tokens[2]) == "Q:"
  ends = _ends(tokenizer)
  assert ends.find(tokens, (" Q",)) == (3, "ab")
  assert ends.find(_tokens(tokenizer, "Q: c"), (" Q",)) is None


def test_a_line_ends_behind_bytes_that_are_no_text():
  """transformers spells a whole run of bytes as if none were a character."""
  tokenizer = TOKENIZERS["sentencepiece"]
  garbage, line = tokenizer.convert_tokens_to_ids(["<0xFF>", "<0x0A>"])
  assert "\n" not in tokenizer.decode([garbage, line])
  end = _ends(tokenizer).find([garbage, line], ("\n",))
  assert end == (2, tokenizer.decode([garbage]))


def test_a_character_without_its_last_byte_does_not_hide_a_stop_string():
  for tokenizer in TOKENIZERS.values():
    tokens = _tokens(tokenizer, "a。🙂")
    whole = _ends(tokenizer).find(tokens, ("。",))
    assert whole.text == "a"
    for length in range(whole.length, len(tokens)):
      assert _ends(tokenizer).find(tokens[:length], ("。",)) == whole


def test_an_end_token_before_a_stop_string_wins(tokenizer):
  tokens = _tokens(tokenizer, f"ab{END}c.")
  end = _ends(tokenizer).find(tokens, (".",))
  assert end == (tokens.index(tokenizer.eos_token_id) + 1, "ab")


def test_without_stop_strings_nothing_is_decoded():
  class Dumb:
    def decode(self, tokens, **unused):
      raise AssertionError("decoded")

  ends = ReplyEnd(Dumb(), [3], 8)
  assert ends.find([1, 2, 4], ()) is None
  np.testing.assert_array_equal(np.flatnonzero(ends.alone(())), [3])


def test_prefixes_are_searched_by_halves(tokenizer, monkeypatch):
  tokens = _tokens(tokenizer, "a" * 500 + "b.c")
  ends = _ends(tokenizer)
  ends.alone(("a.c",))
  asked = []
  decode = ends._decode

  def counting(tokens, skip_special):
    asked.append(len(tokens))
    return decode(tokens, skip_special)

  monkeypatch.setattr(ends, "_decode", counting)
  assert ends.find(tokens, ("ab",)).text == "a" * 499
  assert len(asked) < 15
