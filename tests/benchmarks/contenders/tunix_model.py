"""google-tunix's Llama with our weights, made to compute the same model.

The attention of google-tunix 0.1.7 calls `apply_rope` without the theta of its
own configuration, so that every model has that function's default of 1000000.
Here the function is bound to the theta of the model.
"""

from __future__ import annotations

import functools
import json
import pathlib

import jax.numpy as jnp
from tunix.models.llama3 import model as llama3, params

from tests.benchmarks.contenders import race


def load(job: race.Job) -> llama3.Llama3:
  """The model of the job's folder, in the job's number type."""
  config = json.loads(
    (pathlib.Path(job["weights"]) / "config.json").read_text()
  )
  theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
  if not isinstance(llama3.apply_rope, functools.partial):
    llama3.apply_rope = functools.partial(llama3.apply_rope, rope_theta=theta)
  heads = config["num_attention_heads"]
  return params.create_model_from_safe_tensors(
    job["weights"],
    llama3.ModelConfig(
      num_layers=config["num_hidden_layers"],
      vocab_size=config["vocab_size"],
      embed_dim=config["hidden_size"],
      hidden_dim=config["intermediate_size"],
      num_heads=heads,
      head_dim=config.get("head_dim") or config["hidden_size"] // heads,
      num_kv_heads=config["num_key_value_heads"],
      rope_theta=theta,
      norm_eps=config["rms_norm_eps"],
      weight_tying=config["tie_word_embeddings"],
    ),
    dtype=jnp.dtype(job["dtype"]),
  )
