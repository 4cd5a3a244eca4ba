"""The network gives the same logits however it is laid out over devices."""

from __future__ import annotations

import dataclasses

import pytest

from s2d_jax.parallel import mesh as meshes
from tests import fake_devices

# The number of devices is fixed when JAX starts, so this has its own process.
_PROGRAM = """
import json
import jax, jax.numpy as jnp, numpy as np
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel import mesh as meshes
from tests import tiny_chat

model = tiny_chat.model()
llama = Llama(model.config)
tokens = np.random.default_rng(0).integers(0, 256, (8, 16))
steps = np.broadcast_to(np.arange(16), tokens.shape)

def program():
  # A function of its own for each mesh: jit remembers functions.
  @jax.jit
  def logits(params):
    variables = {"params": params}
    hidden, _ = llama.apply(variables, tokens, steps)
    return llama.apply(variables, hidden, method=Llama.logits)
  return logits

expected = np.asarray(program()(model.params))
found = {}
for shape in ((8, 1, 1), (1, 8, 1), (2, 2, 2)):
  mesh = meshes.make_mesh(*shape)
  shardings = meshes.param_shardings(abstract_params(model.config), mesh)
  placed = jax.device_put(model.params, shardings)
  with meshes.use(mesh):
    compiled = program().lower(placed).compile()
  actual = compiled(placed)
  kernel = placed["layers"]["mlp"]["gate"]["kernel"]
  found[str(shape)] = {
    "error": float(np.abs(np.asarray(actual) - expected).max()),
    "devices": len(actual.sharding.device_set),
    "sums": "all-reduce" in compiled.as_text(),
    "parts": kernel.size // kernel.addressable_shards[0].data.size,
  }
print(json.dumps({"scale": float(np.abs(expected).max()), **found}))
"""


@pytest.fixture(scope="module")
def found() -> dict:
  return fake_devices.run(_PROGRAM)


@pytest.mark.parametrize(
  "shape, parts", [((8, 1, 1), 1), ((1, 8, 1), 8), ((2, 2, 2), 4)]
)
def test_logits_do_not_depend_on_the_mesh(found, shape, parts):
  """Kernels are parted over fsdp and tensor, and copied over data."""
  assert found[str(shape)]["parts"] == parts
  assert found[str(shape)]["devices"] == 8
  # Heads and mlp parted over the axis tensor: their products are summed up.
  assert found[str(shape)]["sums"] or shape[2] == 1
  # Sums in another order: single precision, relative to the largest logit.
  assert found[str(shape)]["error"] < 1e-5 * max(1.0, found["scale"])


@dataclasses.dataclass(frozen=True)
class _Chip:
  id: int
  coords: tuple[int, int, int]
  platform: str = "tpu"
  device_kind: str = "TPU v5 lite"
  process_index: int = 0
  core_on_chip: int = 0


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8])
def test_some_chips_of_a_slice_make_a_mesh(count):
  """Also those that are no block of it, which have no links to go by."""
  places = [(x, y, 0) for y in range(2) for x in range(4)]
  chips = [_Chip(id, place) for id, place in enumerate(places)]
  grid = meshes._grid((1, count, 1, 1), chips[:count])
  assert grid.shape == (1, count, 1, 1)
  assert {chip.id for chip in grid.flat} == set(range(count))
