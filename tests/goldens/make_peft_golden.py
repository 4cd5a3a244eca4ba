"""Makes tests/goldens/peft: adapters as PEFT writes them, and their logits.

Nothing of s2d_jax is used here. It stands apart from make_goldens.py as PEFT is
needed for it alone:

  pip install torch transformers peft
  python tests/goldens/make_peft_golden.py
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
from peft import LoraConfig, PeftModel, get_peft_model
import torch
from transformers import AutoModelForCausalLM, set_seed

HERE = pathlib.Path(__file__).parent
BASE = "llama3_gqa"


def main() -> None:
  base = AutoModelForCausalLM.from_pretrained(HERE / BASE, dtype=torch.float32)
  base.name_or_path = BASE
  targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
  settings = LoraConfig(
    r=3, lora_alpha=6.0, target_modules=targets, task_type="CAUSAL_LM"
  )
  model = get_peft_model(base, settings)
  set_seed(0)
  with torch.no_grad():
    for key, value in model.named_parameters():
      if "lora_" in key:
        value.copy_(0.2 * torch.randn_like(value))
  folder = HERE / "peft"
  model.save_pretrained(folder)
  (folder / "README.md").unlink(missing_ok=True)
  path = folder / "adapter_config.json"
  values = json.loads(path.read_text())
  values["target_modules"] = sorted(targets)  # it writes a set
  path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
  tokens = np.load(HERE / BASE / "logits.npz")["tokens"]
  golden = logits(folder, tokens)
  np.savez_compressed(folder / "adapted.npz", logits=golden)


def logits(folder: pathlib.Path, tokens: np.ndarray) -> np.ndarray:
  """Of the adapters in `folder`, beside the base model of the golden."""
  base = AutoModelForCausalLM.from_pretrained(HERE / BASE, dtype=torch.float32)
  model = PeftModel.from_pretrained(base, folder)
  with torch.no_grad():
    return model(torch.from_numpy(tokens).long()).logits.numpy()


if __name__ == "__main__":
  main()
