"""The same weights for every contender, as a Hugging Face folder."""

from __future__ import annotations

import os
import pathlib
import re

from s2d_jax.checkpoints import hf, pretrained
from s2d_jax.conversation import ChatTemplate
from s2d_jax.parallel.mesh import make_mesh


def cache() -> pathlib.Path:
  """Where converted weights are kept, and the peers by default."""
  home = os.environ.get("S2D_CACHE", os.path.expanduser("~/.cache/s2d_jax"))
  return pathlib.Path(home)


def folder(name: str) -> pathlib.Path:
  """A float32 folder of the model `name`, written at its first use."""
  path = cache() / "benchmarks" / re.sub(r"[^\w.-]+", "_", name)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, pretrained.load(name, make_mesh()))
  return path


def write(path: pathlib.Path, model: pretrained.Pretrained) -> None:
  chat = ChatTemplate(model.tokenizer, end_tokens=model.end_tokens)
  hf.write(
    path,
    model.config,
    model.params,
    model.tokenizer,
    generation_config=model.generation_config,
    end_tokens=chat.end_tokens,
  )
