"""`s2d convert` as its users call it."""

from __future__ import annotations

import sys

from absl.testing import flagsaver
import pytest

from s2d_jax import cli
from s2d_jax.stages import convert as program  # noqa: F401  has its flags
from tests import tiny_chat
from tests.checkpoints import test_peft


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


def test_a_model_has_no_adapters(convert, tmp_path):
  out, model = tmp_path / "adapter", tiny_chat.write(tmp_path / "model")
  status, _, said = convert(f"--model={model}", f"--out={out}", "--adapter")
  assert status == 1 and said.startswith(f"error: {model} has no adapters")
  assert not out.exists()
