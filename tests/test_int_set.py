from __future__ import annotations

import random

import pytest

from s2d_jax import int_set
from s2d_jax.int_set import IntSet


@pytest.mark.parametrize("few", [1, 16, 1 << 14])
def test_it_is_a_set(few, monkeypatch):
  monkeypatch.setattr(int_set, "_FEW", few)
  rng, own, wanted = random.Random(0), IntSet(), set()
  limits = [-(2**63), 2**63 - 1, 0, -1]
  numbers = [rng.randrange(-500, 500) for _ in range(3000)] + limits
  for number in numbers:
    assert own.add(number) == (number not in wanted)
    wanted.add(number)
    assert len(own) == len(wanted)
