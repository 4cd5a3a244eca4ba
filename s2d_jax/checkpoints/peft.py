"""Adapters in the layout of PEFT: its own config and its own names.

PEFT holds the two factors of a kernel's change as matrices [out, in], as
Hugging Face holds kernels: A is [R, in] and B is [out, R], and the change is
lora_alpha / r · B · A. Beside an unchanged model they are loaded by PEFT and by
servers such as vLLM.
"""

from __future__ import annotations

from typing import Any

from etils import epath
from flax import traverse_util
import jax.numpy as jnp
from jaxtyping import DTypeLike
import numpy as np

from s2d_jax.checkpoints import export, layout, safetensors_file
from s2d_jax.checkpoints.pretrained import Adapters
from s2d_jax.errors import UserError
from s2d_jax.models.lora import DOWN, UP

_FUSED = ("qkv_proj", "gate_up_proj")
_PREFIX = "base_model.model."  # of PEFT's two wrappers around the model


def write(
  folder: epath.PathLike, adapters: Adapters, dtype: str = "float32"
) -> None:
  """Writes adapters that PEFT loads, complete or not at all.

  Args:
    folder: a local folder that does not exist yet.
    adapters: of a run.
    dtype: "float32" or "bfloat16".

  Raises:
    UserError: the folder exists, or the model's own files have several of the
      adapted kernels as one.
  """
  modules = _modules(adapters)
  with export.new_folder(folder) as new:
    export.write_json(
      new / "adapter_config.json", _config_values(adapters, modules)
    )
    tensors = _tensors(adapters, modules, jnp.dtype(dtype))
    with safetensors_file.new(
      new / "adapter_model.safetensors",
      {name: tensor.shape for name, tensor in tensors.items()},
      jnp.dtype(dtype),
    ) as append:
      for tensor in tensors.values():
        append(tensor)


def _modules(adapters: Adapters) -> dict[str, list[str]]:
  """Of each kernel with adapters: the path of its module in every layer."""
  flat = traverse_util.flatten_dict(adapters.params, sep="/")
  adapted = {path.rpartition("/")[0] for path in flat}
  found = {}
  for leaf in layout.leaves(adapters.config, adapters.stored):
    kernel, _, name = leaf.path.rpartition("/")
    if name != "kernel" or kernel not in adapted:
      continue
    paths = [tensor.name.removesuffix(".weight") for tensor in leaf.tensors]
    if paths[0].endswith(_FUSED):
      raise UserError(
        f"{adapters.base} holds {paths[0]} for several kernels, and PEFT has no"
        " adapter of one of them alone; leave out --adapter"
      )
    found[kernel] = paths
  return found


def _config_values(
  adapters: Adapters, modules: dict[str, list[str]]
) -> dict[str, Any]:
  names = {paths[0].rpartition(".")[2] for paths in modules.values()}
  return {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": adapters.base,
    "r": adapters.lora.rank,
    "lora_alpha": adapters.lora.alpha,
    "target_modules": sorted(names),
    "lora_dropout": 0.0,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
  }


def _tensors(
  adapters: Adapters, modules: dict[str, list[str]], dtype: DTypeLike
) -> dict[str, np.ndarray]:
  flat = traverse_util.flatten_dict(adapters.params, sep="/")
  rank, found = adapters.lora.rank, {}
  for path, names in modules.items():
    down = np.asarray(flat[f"{path}/{DOWN}"].astype(dtype))
    up = np.asarray(flat[f"{path}/{UP}"].astype(dtype))
    for layer, name in enumerate(names):
      a, b = down[layer].reshape(-1, rank).T, up[layer].reshape(rank, -1).T
      found[f"{_PREFIX}{name}.lora_A.weight"] = a
      found[f"{_PREFIX}{name}.lora_B.weight"] = b
  return found
