"""Completions do not depend on the devices that they are drawn on.

Sums over a mesh come in another order, so logits differ in their last bits. A
token would differ where two tokens are equally likely to that precision, or a
random number lies that near the border between two: of some four hundred
tokens over 304 candidates none is expected to.
"""

from __future__ import annotations

import pytest

from tests import fake_devices

_SHAPES = ({"data": 8}, {"data": 4, "tensor": 2}, {"data": 2, "tensor": 4})
_PROGRAM = """
import json
from tests.generation import mesh_program as program

found = []
for shape in SHAPES:
  before = program.compilations()
  drawn = program.draw(shape)
  found.append({"drawn": drawn, "compiled": program.compilations() - before})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> list[dict]:
  """One device first, then the meshes."""
  return fake_devices.run(f"SHAPES = {({}, *_SHAPES)!r}\n{_PROGRAM}")


def test_one_device_draws_everything(found):
  drawn = found[0]["drawn"]
  assert len(drawn) == 40
  assert sum(map(len, drawn.values())) > 200
  assert any(drawn["4/1"] != drawn[f"4/{sample}"] for sample in (2, 3))


@pytest.mark.parametrize("number", range(len(_SHAPES)))
def test_a_mesh_draws_the_same_tokens(found, number):
  assert found[1 + number]["drawn"] == found[0]["drawn"]


@pytest.mark.parametrize("number", range(1 + len(_SHAPES)))
def test_decode_is_compiled_once_a_mesh_and_prompt_length(found, number):
  """Prompts of two lengths: the batch is lengthened at most once."""
  assert found[number]["compiled"] <= 2
