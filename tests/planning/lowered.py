"""The programs of Llama-2-7B as JAX lowers them for a TPU of eight chips.

    python -m tests.planning.lowered --out=build/lowered/before  # at one commit
    python -m tests.planning.lowered --out=build/lowered/after   # at another
    diff -r build/lowered/before build/lowered/after

A change that only moves code leaves them byte for byte what they were. Names of
results are left out: they say what fields are called. Without the compiler of
TPUs (`pip install -e '.[tpu]'`) they are lowered for eight devices of the CPU.
"""

from __future__ import annotations

import os
import pathlib
import re
from types import SimpleNamespace
from unittest import mock

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import app, flags  # noqa: E402
import jax  # noqa: E402

from s2d_jax.config import default  # noqa: E402
from s2d_jax.errors import UserError  # noqa: E402
from s2d_jax.parallel import mesh as meshes, topology  # noqa: E402
from s2d_jax.planning import models, programs  # noqa: E402

_OUT = flags.DEFINE_string(
  "out", "build/lowered", "Folder for a text a program."
)

_TRAINING = {
  "full": {},
  "lora": {"lora": {"rank": 8}},
  "accumulated": {"accumulate": 2},
}
_SAMPLING = ("float", "int8")
_BATCH = programs.Batch(16, 4, 256, 128)  # slots, rows, prompt and own tokens


def main(_) -> None:
  folder = pathlib.Path(_OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  model, chips = models.model_config("llama-2-7b"), _chips()
  for label, changes in _TRAINING.items():
    config = default()
    config.finetune.update({"batch_rows": 16, "row_length": 512} | changes)
    with _written_instead_of_compiled(folder, label):
      programs.train_step(config, model, chips)
  for label in _SAMPLING:
    config = default()
    config.sampling.weights = label
    with _written_instead_of_compiled(folder, label):
      programs.sampler(config, model, chips, _BATCH)


def _written_instead_of_compiled(folder: pathlib.Path, label: str):
  def write(name, _, mesh, function, args, *kept, training=False, **figures):
    with meshes.use(mesh, training=training):
      text = function.lower(*args).as_text()
    text = re.sub(r' ?jax\.result_info = "[^"]*",?', "", text)
    path = folder / f"{label}-{name.replace(' ', '-')}.txt"
    path.write_text(text)
    print(path, len(text), flush=True)

  return mock.patch.object(programs, "_compile", write)


def _chips():
  described = topology.parse("v5e:2x4")
  try:
    described.devices()
  except UserError:
    return SimpleNamespace(devices=jax.devices, chip=described.chip)
  return described


if __name__ == "__main__":
  app.run(main)
