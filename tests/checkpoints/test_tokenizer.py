"""Tokenizers out of GGUF against the libraries they come from."""

from __future__ import annotations

from collections.abc import Iterator
import functools
import json
import pathlib
import random
import subprocess
import sys

import gguf as gguf_library
import pytest
from tokenizers import (
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)
from transformers import PreTrainedTokenizerFast

from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
GOLDEN = json.loads((GOLDENS / "tokenizers.json").read_text())


def write_gguf(path, model, tokens, **lists):
  writer = gguf_library.GGUFWriter(path, "llama")
  writer.add_tokenizer_model(model)
  writer.add_token_list(tokens)
  writer.add_bos_token_id(1)
  writer.add_eos_token_id(2)
  writer.add_chat_template("{{ messages[0]['content'] }}")
  if "pre" in lists:
    writer.add_tokenizer_pre(lists["pre"])
  if "types" in lists:
    writer.add_token_types(lists["types"])
  if "add_bos" in lists:
    writer.add_add_bos_token(lists["add_bos"])
  if "merges" in lists:
    writer.add_token_merges(lists["merges"])
  if "scores" in lists:
    writer.add_token_scores(lists["scores"])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def byte_level(path, pre, **more):
  golden = GOLDEN["byte_level"]
  types = [3] * 3 + [1] * (len(golden["tokens"]) - 3)
  write_gguf(
    path,
    "gpt2",
    golden["tokens"],
    merges=golden["merges"],
    types=types,
    pre=pre,
    **more,
  )
  return load_tokenizer(path)


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "gpt-2"])
def test_byte_level_is_that_of_transformers(pre, tmp_path):
  tokenizer = byte_level(tmp_path / "t.gguf", pre)
  for text, ids in zip(
    GOLDEN["texts"], GOLDEN["byte_level"]["ids"][pre], strict=True
  ):
    beginning = [1] if pre == "llama-bpe" else []
    assert tokenizer(text)["input_ids"] == beginning + ids
    assert tokenizer.decode(ids) == text
  assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
  assert tokenizer.chat_template == "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
  "pre, begins",
  [("llama-bpe", True), ("qwen2", False), ("gpt-2", False), ("smollm", False)],
)
def test_a_text_begins_as_in_llama_cpp(pre, begins, tmp_path):
  """Its default for each rule, unless the file has the key."""
  for key, expected in (({}, begins), (True, True), (False, False)):
    more = {} if key == {} else {"add_bos": key}
    tokenizer = byte_level(tmp_path / "t.gguf", pre, **more)
    assert (tokenizer("a")["input_ids"][0] == 1) == expected
    spelled_out = tokenizer("a", add_special_tokens=False)["input_ids"]
    assert spelled_out[0] != 1


@pytest.mark.parametrize("pre", ["smaug-bpe", "dbrx"])
def test_other_names_of_the_words_of_llama_3(pre, tmp_path):
  """As in `llm_tokenizer_bpe` of llama.cpp; they begin with nothing."""
  tokenizer = byte_level(tmp_path / "t.gguf", pre)
  ids = GOLDEN["byte_level"]["ids"]["llama-bpe"]
  for text, wanted in zip(GOLDEN["texts"], ids, strict=True):
    assert tokenizer(text)["input_ids"] == wanted


@pytest.mark.parametrize("pre", ["smollm", "refact"])
def test_smollm_cuts_digits_apart(pre, tmp_path):
  tokenizer = byte_level(tmp_path / "t.gguf", pre)
  words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12's")
  assert [word for word, _ in words] == ["a", "Ġ", "1", "2", "'s"]


def sentencepiece(path):
  golden = GOLDEN["sentencepiece"]
  told = {key: golden[key] for key in ("tokens", "scores", "types")}
  return load_tokenizer(write_gguf(path, "llama", **told))


def test_sentencepiece_is_that_of_its_library(tmp_path):
  golden = GOLDEN["sentencepiece"]
  tokenizer = sentencepiece(tmp_path / "t.gguf")
  for text, ids in zip(GOLDEN["texts"], golden["ids"], strict=True):
    assert tokenizer(text)["input_ids"] == ids, text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def _texts(rng: random.Random) -> Iterator[str]:
  """Many that are made of what takes many tokens."""
  parts = [
    "<s>",
    "<|im_end|>",
    " ",
    "  ",
    "a",
    "é",
    "e\u0301",
    "\ufdfa",
    "🙂",
    "7",
  ]
  yield from GOLDEN["texts"]
  for _ in range(200):
    yield "".join(rng.choices(parts, k=rng.randint(0, 30)))


def test_no_text_has_more_tokens_than_its_bytes_tell(smollm2, tmp_path):
  chats = [smollm2.tokenizer, sentencepiece(tmp_path / "t.gguf")]
  for pre in ("llama-bpe", "qwen2"):
    chats.append(byte_level(tmp_path / "t.gguf", pre))
  for kind, backend in _backends().items():
    for normalizer in (
      normalizers.NFC(),
      normalizers.NFKD(),
      backend.normalizer,
    ):
      backend.normalizer = normalizer
      chats.append(PreTrainedTokenizerFast(tokenizer_object=backend))
      if kind == "letters":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(
          prepend_scheme="always"
        )
        chats.append(PreTrainedTokenizerFast(tokenizer_object=backend))
  for chat in map(ChatTemplate, chats):
    for text in _texts(random.Random(0)):
      assert len(chat.encode(text)) <= chat.most_tokens(text), text
  # And not many more.
  chat, text = ChatTemplate(smollm2.tokenizer), "Which?<|im_end|>"
  assert chat.most_tokens(text) == len(text) + 3


def test_real_tokenizer(smollm2):
  tokenizer = smollm2.tokenizer
  assert len(tokenizer) == smollm2.config.vocab_size == 49152
  assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
  text = "It's  12345\n\nnaïve – 東京 🙂 <|im_end|>"
  assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_saved_tokenizer_is_the_same(tmp_path):
  tokenizer = byte_level(tmp_path / "t.gguf", "llama-bpe")
  tokenizer.save_pretrained(tmp_path / "folder")
  again = load_tokenizer(tmp_path / "folder")
  for text in GOLDEN["texts"]:
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


_CLASSES = (
  *("LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast"),
  *("GPT2Tokenizer", "Qwen2TokenizerFast", "TokenizersBackend", None),
)


def _backends() -> dict[str, Tokenizer]:
  """As Llama 3 and SmolLM cut bytes into words, and Llama 2 letters."""
  golden = GOLDEN["byte_level"]
  vocab = {token: i for i, token in enumerate(golden["tokens"])}
  merges = [tuple(merge.split(" ")) for merge in golden["merges"]]
  byte_level = functools.partial(
    pre_tokenizers.ByteLevel, add_prefix_space=False
  )
  words = pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?\p{L}+"), "isolated")
  digits = pre_tokenizers.Digits(individual_digits=True)
  found = {}
  for name, steps in (
    ("words", [words, byte_level(use_regex=False)]),
    ("digits", [digits, byte_level()]),
  ):
    found[name] = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    found[name].pre_tokenizer = pre_tokenizers.Sequence(steps)
    found[name].decoder = decoders.ByteLevel()
  letters = {f"<0x{byte:02X}>": byte for byte in range(256)}
  letters |= {letter: 256 + i for i, letter in enumerate("▁atHe")} | {"▁a": 270}
  found["letters"] = Tokenizer(
    models.BPE(vocab=letters, merges=[("▁", "a")], byte_fallback=True)
  )
  found["letters"].normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  for backend in found.values():
    backend.add_special_tokens(["<s>", "<|im_end|>"])
    backend.post_processor = processors.TemplateProcessing(
      single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
  return found


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("kind", ["words", "digits", "letters"])
def test_a_folder_s_tokens_are_those_of_its_tokenizer_json(
  kind, family, tmp_path
):
  """Whatever class its config names, as the library of tokenizers has it."""
  _backends()[kind].save(str(tmp_path / "tokenizer.json"))
  file = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  texts = [*GOLDEN["texts"], "  a  He ", "a 12345's\n\nat", "He<|im_end|>\nat"]
  (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
  for name in _CLASSES:
    config = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    if name is not None:
      config["tokenizer_class"] = name
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    for text in texts:
      assert tokenizer(text)["input_ids"] == file.encode(text).ids, name
      plain = file.encode(text, add_special_tokens=False).ids
      ours = tokenizer(text, add_special_tokens=False)["input_ids"]
      assert ours == plain, name
      decoded = file.decode(plain, skip_special_tokens=False)
      assert tokenizer.decode(plain) == decoded, name
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_tokenizer_does_not_need_a_config_that_transformers_takes(tmp_path):
  byte_level(tmp_path / "t.gguf", "gpt-2").save_pretrained(tmp_path / "folder")
  config = {"model_type": "llama", "rms_norm_eps": None}
  (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
  assert load_tokenizer(tmp_path / "folder").eos_token_id == 2
  (tmp_path / "folder" / "tokenizer_config.json").unlink()
  assert len(load_tokenizer(tmp_path / "folder")) == 500


def test_unknown_kinds_are_named(tmp_path):
  with pytest.raises(UserError, match="tokenizer.ggml.pre is 'tekken'"):
    byte_level(tmp_path / "t.gguf", "tekken")
  write_gguf(tmp_path / "t.gguf", "bert", ["a", "b", "c"])
  with pytest.raises(UserError, match="tokenizer.ggml.model is 'bert'"):
    load_tokenizer(tmp_path / "t.gguf")
  for kind, missing in (("gpt2", "merges"), ("llama", "scores")):
    write_gguf(tmp_path / "t.gguf", kind, ["a", "b", "c"], pre="gpt-2")
    with pytest.raises(UserError, match=f"ggml.{missing} is missing"):
      load_tokenizer(tmp_path / "t.gguf")


def test_folder_without_a_usable_tokenizer(tmp_path):
  with pytest.raises(UserError, match="holds no usable tokenizer"):
    load_tokenizer(tmp_path)
  (tmp_path / "tokenizer.json").write_text("{")
  with pytest.raises(UserError, match="holds no usable tokenizer"):
    load_tokenizer(tmp_path)


def test_code_of_a_folder_never_runs(tmp_path):
  auto_map = {"AutoTokenizer": ["evil.Evil", None]}
  config = {"tokenizer_class": "Evil", "auto_map": auto_map}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  (tmp_path / "config.json").write_text(
    json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}})
  )
  (tmp_path / "evil.py").write_text("open('ran', 'w')\nclass Evil: pass\n")
  with pytest.raises(UserError, match="holds no usable tokenizer"):
    load_tokenizer(tmp_path)


def test_tokenizer_must_fit_the_model(tiny, tmp_path):
  tokenizer = byte_level(tmp_path / "t.gguf", "gpt-2")
  with pytest.raises(UserError, match="ids up to 499.*only 128 embeddings"):
    check_fits(tokenizer, tiny.config)


def test_loading_says_nothing(tmp_path):
  byte_level(tmp_path / "t.gguf", "gpt-2").save_pretrained(tmp_path / "t")
  named = tmp_path / "t" / "tokenizer_config.json"
  config = json.loads(named.read_text())
  named.write_text(json.dumps(config | {"tokenizer_class": "LlamaTokenizer"}))
  code = (
    "from s2d_jax.checkpoints.tokenizer import load_tokenizer as load;"
    "load('t.gguf'); load('t')"
  )
  root = pathlib.Path(__file__).parent.parent.parent
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    env={"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
