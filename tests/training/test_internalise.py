"""How much of a thought each stage teaches."""

from __future__ import annotations

import pytest

from s2d_jax.training.internalise import last_tokens, long_thought


@pytest.mark.parametrize(
  ("longest", "stages", "wanted"),
  [
    (27, 3, [27, 18, 9, 0]),
    (7, 3, [7, 5, 2, 0]),
    (5, 2, [5, 2, 0]),
    (4, 4, [4, 3, 2, 1, 0]),
    (1, 1, [1, 0]),
  ],
)
def test_a_thought_is_taken_away_in_even_steps(longest, stages, wanted):
  found = [last_tokens(longest, stages, one) for one in range(stages + 1)]
  assert found == wanted


def test_every_stage_teaches_less_than_the_one_before():
  for longest in range(1, 40):
    for stages in range(1, longest + 1):
      found = [last_tokens(longest, stages, one) for one in range(stages + 1)]
      assert found[0] == longest and found[-1] == 0
      assert sorted(set(found), reverse=True) == found


def test_a_few_thoughts_that_are_much_longer_do_not_count():
  assert long_thought([10] * 96 + [500] * 4) == 10
  assert long_thought([10] * 90 + [12] * 10) == 12
  assert long_thought([3, 9, 5]) == 9
