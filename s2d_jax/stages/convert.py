"""Exports a model, or the distilled model of a run, for other programs.

s2d convert --model=runs/quickstart --out=distilled
s2d convert --model=runs/quickstart --out=distilled.gguf --gguf=q8_0
s2d convert --model=runs/lora --out=adapter --adapter
"""

from __future__ import annotations

from absl import flags
from etils import epath
import jax

from s2d_jax import full_disk
from s2d_jax.checkpoints import gguf_writer, hf, peft, pretrained
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.stages import program

_MODEL = flags.DEFINE_string(
  "model", None, "A name, a Hub id, a folder, a .gguf file or a run's folder."
)
_OUT = flags.DEFINE_string(
  "out", None, "Local folder or file to write; must not exist yet."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "Of the weights in the folder."
)

_GGUF = flags.DEFINE_enum(
  "gguf",
  None,
  gguf_writer.KINDS,
  "Writes one GGUF file for llama.cpp instead of a folder: its matrices as f16,"
  " or as q8_0, about a byte a weight.",
)
_ADAPTER = flags.DEFINE_boolean(
  "adapter",
  False,
  "Writes only the LoRA adapters that a run has trained, for PEFT.",
)


def convert(argv) -> None:
  del argv
  if not _MODEL.value or not _OUT.value:
    raise UserError("give --model=NAME and --out=FOLDER")
  if _ADAPTER.value and _GGUF.value:
    raise UserError("give --adapter or --gguf, not both")
  with full_disk.mistakes(epath.Path(_OUT.value).parent):
    if _ADAPTER.value:
      _write_adapters()
    else:
      _write_model()


def _write_model() -> None:
  if _GGUF.value and not _OUT.value.endswith(".gguf"):
    raise UserError(
      f"--out={_OUT.value} is no name of a GGUF file; it ends in .gguf"
    )
  dtype = "float32" if _GGUF.value else _DTYPE.value
  model = pretrained.load_lazily(_MODEL.value, dtype)
  settings = pretrained.settings_of(_MODEL.value)
  chat = ChatTemplate.from_settings(model.tokenizer, settings, model.end_tokens)
  tokenizer, ends = chat.as_tokenizer(), chat.end_tokens
  if _GGUF.value:
    gguf_writer.write(
      _OUT.value, model.config, model.params, tokenizer, _GGUF.value, ends
    )
  else:
    hf.write(
      _OUT.value,
      model.config,
      model.params,
      tokenizer,
      dtype,
      generation_config=model.generation_config,
      end_tokens=ends,
    )
  print(f"wrote {_OUT.value}: {model.config.num_params:,} parameters")


def _write_adapters() -> None:
  adapters = pretrained.load_adapters(_MODEL.value)
  peft.write(_OUT.value, adapters, _DTYPE.value)
  count = sum(leaf.size for leaf in jax.tree.leaves(adapters.params))
  print(f"wrote {_OUT.value}: adapters of {count:,} parameters")


def main() -> None:
  program.run_program(
    convert, __doc__, ("model", "out", "dtype", "gguf", "adapter")
  )


if __name__ == "__main__":
  main()
