"""Tokenizers out of GGUF against the libraries they come from."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import gguf as gguf_library
import pytest

from s2d_jax.checkpoints.tokenizer import check_fits, load_tokenizer
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


def test_smollm_cuts_digits_apart(tmp_path):
  tokenizer = byte_level(tmp_path / "t.gguf", "smollm")
  words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12's")
  assert [word for word, _ in words] == ["a", "Ġ", "1", "2", "'s"]


def test_sentencepiece_is_that_of_its_library(tmp_path):
  golden = GOLDEN["sentencepiece"]
  path = write_gguf(
    tmp_path / "t.gguf",
    "llama",
    **{key: golden[key] for key in ("tokens", "scores", "types")},
  )
  tokenizer = load_tokenizer(path)
  for text, ids in zip(GOLDEN["texts"], golden["ids"], strict=True):
    assert tokenizer(text)["input_ids"] == ids, text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


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
