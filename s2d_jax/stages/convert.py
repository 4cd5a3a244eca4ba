"""Exports a model, or the distilled model of a run, as a Hugging Face folder.

s2d convert --model=runs/quickstart --out=distilled
"""

from __future__ import annotations

import math

from absl import flags
import jax

from s2d_jax.checkpoints import hf, pretrained
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.stages import program

_MODEL = flags.DEFINE_string(
  "model", None, "A name, a Hub id, a folder, a .gguf file or a run's folder."
)
_OUT = flags.DEFINE_string(
  "out", None, "Local folder to write; must not exist yet."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "Of the weights in the folder."
)


def convert(argv) -> None:
  del argv
  if not _MODEL.value or not _OUT.value:
    raise UserError("give --model=NAME and --out=FOLDER")
  hf.check_folder(_OUT.value)
  # One copy over all devices, in the dtype that is written.
  devices = jax.local_devices()
  embed_dim = pretrained.read_config(_MODEL.value).embed_dim
  mesh = make_mesh(fsdp=math.gcd(embed_dim, len(devices)), devices=devices)
  model = pretrained.load(_MODEL.value, mesh, _DTYPE.value)
  settings = pretrained.settings_of(_MODEL.value)
  chat = ChatTemplate.from_settings(model.tokenizer, settings, model.end_tokens)
  hf.write(
    _OUT.value,
    model.config,
    model.params,
    chat.as_tokenizer(),
    _DTYPE.value,
    generation_config=model.generation_config,
    end_tokens=chat.end_tokens,
  )
  print(f"wrote {_OUT.value}: {model.config.num_params:,} parameters")


def main() -> None:
  program.run_program(convert, __doc__, ("model", "out", "dtype"))


if __name__ == "__main__":
  main()
