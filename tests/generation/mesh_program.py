"""Draws the same completions on one device and on meshes of several.

Run in processes of its own, because the number of devices is fixed when JAX
starts. Prints, for each mesh, the tokens of every completion.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from unittest import mock

import jax
import numpy as np

from s2d_jax.generation import programs, shapes
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from tests import tiny_chat
from tests.random_model import RICH, random_params

CONFIG = dataclasses.replace(
  RICH,
  vocab_size=304,
  num_heads=8,
  num_kv_heads=4,
  head_dim=8,
  mlp_dim=64,
  max_context=256,
)
_PREFIX = tuple(range(40, 60))


def draw(shape: Mapping[str, int]) -> dict[str, list[int]]:
  """Ten prompts, some behind a common prefix, three samples and one greedy."""
  mesh = meshes.make_mesh(**shape)
  shardings = meshes.param_shardings(abstract_params(CONFIG), mesh)
  params = jax.tree.map(np.asarray, random_params(CONFIG))
  with mock.patch.object(shapes, "_PAGE", 8):  # on a mesh, two a reply
    engine = Engine(
      Llama(CONFIG),
      jax.device_put(params, shardings),
      tiny_chat.tokenizer(),
      (7,),
      slots=8,
      rows=16,
      max_new_tokens=16,
      mesh=mesh,
    )
  engine.share_prefix(_PREFIX)
  rng = np.random.default_rng(0)
  for number in range(10):
    body = tuple(map(int, rng.integers(32, 256, 3 + 3 * number)))
    prompt = _PREFIX + body if number % 2 else body
    for sample in range(4):
      sampling = Sampling(
        temperature=0.8 if sample else 0.0, max_new_tokens=4 + number
      )
      name = f"{number}/{sample}"
      engine.submit(Request(prompt, random_key(0, name), sampling, name))
  drawn = {}
  while engine.busy:
    drawn |= {name: list(c.tokens) for name, c in engine.step()}
  return drawn


def compilations() -> int:
  """Of the decode program, so far."""
  return programs._decode._cache_size()
