"""`s2d convert` as its users call it."""

from __future__ import annotations

import errno
import importlib
import sys

from absl import flags
from absl.testing import flagsaver
import pytest

from s2d_jax import cli
from s2d_jax.checkpoints import hf, pretrained
from tests import tiny_chat
from tests.checkpoints import test_gguf_writer, test_peft

_MODULE = "s2d_jax.stages.convert"
_FLAGS = ("model", "out", "dtype", "gguf", "adapter")


def _take_flags() -> dict[str, flags.Flag]:
  """Those of these names, which are defined no more."""
  found = {name: flags.FLAGS[name] for name in _FLAGS if name in flags.FLAGS}
  for name in found:
    delattr(flags.FLAGS, name)
  return found


@pytest.fixture(scope="module", autouse=True)
def own_flags():
  """Other programs, which other tests have imported, have some of these."""
  others = _take_flags()
  sys.modules.pop(_MODULE, None)
  importlib.import_module(_MODULE)
  yield
  _take_flags()
  del sys.modules[_MODULE]
  for name, flag in others.items():
    flags.FLAGS[name] = flag


@pytest.fixture
def convert(monkeypatch, capfd):
  """Runs the command in this process: (exit status, stdout, stderr)."""

  def run(*arguments) -> tuple[int, str, str]:
    given = ["s2d", "convert", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", given)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      cli.main()
    said = capfd.readouterr()
    return stopped.value.code or 0, said.out, said.err

  return run


def test_adapters_alone(convert, tmp_path):
  run, out = tmp_path / "run", tmp_path / "adapter"
  test_peft.write_run(run, test_peft.BASE)
  status, said, _ = convert(f"--model={run}", f"--out={out}", "--adapter")
  assert status == 0 and said.endswith(f"{out}: adapters of 1,632 parameters\n")
  assert (out / "adapter_model.safetensors").exists()


def test_one_file_for_llama_cpp(convert, tiny, tmp_path):
  model, out = tmp_path / "model", tmp_path / "m.gguf"
  tokenizer = test_gguf_writer.tokenizer()
  tokenizer.chat_template = "{{ messages[0]['content'] }}"
  hf.write(model, *tiny, tokenizer)
  status, said, _ = convert(f"--model={model}", f"--out={out}", "--gguf=f16")
  count = tiny.config.num_params
  assert status == 0 and said == f"wrote {out}: {count:,} parameters\n"
  ours, theirs = map(pretrained.load_without_weights, (out, model))
  assert ours.config == theirs.config
  text = "This is it</s> 12!"
  assert ours.tokenizer(text) == theirs.tokenizer(text)
  assert ours.tokenizer.chat_template == theirs.tokenizer.chat_template
  assert ours.end_tokens == theirs.end_tokens


@pytest.mark.parametrize(
  "flags, said",
  [
    (["--out=m", "--gguf=f16"], "--out=m is no name of a GGUF file"),
    (["--out=m.gguf", "--gguf=f16", "--adapter"], "or --gguf, not both"),
    (["--gguf=f16"], "give --model=NAME and --out=FOLDER"),
  ],
)
def test_mistakes(convert, flags, said):
  status, _, error = convert("--model=smollm2-135m-instruct", *flags)
  assert status == 1 and said in error


def test_a_full_disk(convert, tmp_path, monkeypatch):
  def full(*unused):
    raise OSError(errno.ENOSPC, "No space left on device")

  model = tiny_chat.write(tmp_path / "model")
  monkeypatch.setattr(hf.layout, "extract", full)
  status, _, said = convert(f"--model={model}", f"--out={tmp_path / 'out'}")
  assert status == 1
  assert f"error: too little room is left on the disk of {tmp_path}" in said
  assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_has_no_adapters(convert, tmp_path):
  out, model = tmp_path / "adapter", tiny_chat.write(tmp_path / "model")
  status, _, said = convert(f"--model={model}", f"--out={out}", "--adapter")
  assert status == 1 and f"error: {model} has no adapters" in said
  assert not out.exists()
