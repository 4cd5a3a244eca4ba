"""Conversions of what would not fit into memory."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.checkpoints import lazy_conversion

_ROOT = pathlib.Path(__file__).parents[2]


def _start(*arguments: str) -> str:
  ended = subprocess.run(
    [sys.executable, "-m", "tests.checkpoints.lazy_conversion", *arguments],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  return ended.stdout.splitlines()[-1] if ended.stdout else ""


@pytest.mark.slow
def test_the_memory_is_a_fraction_of_the_weights(tmp_path):
  """Most of it is the same for all models: the tokenizer, Orbax, XLA."""
  weights = 4 * lazy_conversion.CONFIG.num_params
  assert weights > 600e6
  try:
    _start("make", str(tmp_path))
    for name in ("base", "lora", "whole"):
      for out, kind in (("out", ()), ("out.gguf", ("--gguf=q8_0",))):
        out = tmp_path / out
        flags = [f"--model={tmp_path / name}", f"--out={out}", *kind]
        assert int(_start("measure", *flags)) < weights / 3, (name, out)
        shutil.rmtree(out) if out.is_dir() else out.unlink()
  finally:
    shutil.rmtree(tmp_path)
