"""Settings that depend on the model: its name, batch sizes, learning rate.

A file in configs/ sets the task and the method; to run it with another model,
name one of these presets after a colon:

    s2d pipeline --config=configs/paper/last_letters_rar2.py:smollm2-360m …
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
import runpy
from typing import Any

from ml_collections import ConfigDict

from s2d_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preset:
  """A model, and sizes that suit it.

  Attributes:
    name: of the model, as `config.model.name`.
    sampling_rows: samples decoded at once.
    finetune_rows: packed rows a step.
    learning_rate: the paper's is not published; larger models take less.
    chat: options of the chat template, with which System 1 does not think.
  """

  name: str
  sampling_rows: int
  finetune_rows: int
  learning_rate: float
  chat: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NO_THINKING = {"enable_thinking": False}

PRESETS = {
  "llama-2-70b-chat": Preset("meta-llama/Llama-2-70b-chat-hf", 512, 64, 5e-6),
  "llama-3.2-1b": Preset("meta-llama/Llama-3.2-1B-Instruct", 256, 16, 1e-5),
  "qwen2.5-1.5b": Preset("Qwen/Qwen2.5-1.5B-Instruct", 256, 16, 1e-5),
  "qwen2.5-0.5b": Preset("Qwen/Qwen2.5-0.5B-Instruct", 256, 16, 1e-5),
  "qwen3-0.6b": Preset("Qwen/Qwen3-0.6B", 256, 16, 1e-5, _NO_THINKING),
  "qwen3-1.7b": Preset("Qwen/Qwen3-1.7B", 256, 16, 1e-5, _NO_THINKING),
  "qwen3-4b": Preset("Qwen/Qwen3-4B", 128, 16, 1e-5, _NO_THINKING),
  "qwen3-8b": Preset("Qwen/Qwen3-8B", 128, 32, 1e-5, _NO_THINKING),
  "smollm3-3b": Preset("HuggingFaceTB/SmolLM3-3B", 128, 16, 1e-5, _NO_THINKING),
  "gemma-3-1b": Preset("google/gemma-3-1b-it", 256, 16, 1e-5),
  "smollm2-1.7b": Preset("HuggingFaceTB/SmolLM2-1.7B-Instruct", 256, 16, 1e-5),
  "smollm2-360m": Preset("HuggingFaceTB/SmolLM2-360M-Instruct", 128, 8, 2e-5),
  "smollm2-135m": Preset("smollm2-135m-instruct", 128, 4, 3e-5),
}


def use_model(config: ConfigDict, model: str) -> ConfigDict:
  """Sets what depends on the model; returns the config."""
  if model not in PRESETS:
    raise UserError(
      f"there is no preset for the model {model!r}; there are"
      f" {', '.join(PRESETS)}, and any other goes by --config.model.name"
    )
  preset = PRESETS[model]
  config.model.name = preset.name
  with config.unlocked():
    config.model.chat.update(preset.chat)
  config.sampling.batch_rows = preset.sampling_rows
  config.finetune.batch_rows = preset.finetune_rows
  config.finetune.learning_rate = preset.learning_rate
  return config


def sibling(file: str, name: str) -> Callable[[str], ConfigDict]:
  """The `get_config` of a file beside `file`, to change a little of it."""
  return runpy.run_path(str(pathlib.Path(file).parent / name))["get_config"]
