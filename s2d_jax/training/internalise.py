"""How much of a thought each stage of an internalisation teaches.

Deng, Choi and Shieber 2024, "From Explicit CoT to Implicit CoT: Learning to
Internalize CoT Step by Step": tokens are removed from the left, a few more at
each stage, until none is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIRECT = "direct"  # the control, which is taught no thought from the beginning
# Of the thoughts; the few that are longer would make the first stages idle.
_LONG = 0.95


def long_thought(lengths: Sequence[int]) -> int:
  """Tokens that 19 of 20 thoughts do not exceed."""
  return int(np.quantile(lengths, _LONG, method="higher"))


def last_tokens(longest: int, stages: int, stage: int) -> int:
  """How many tokens of each thought a stage teaches, its last ones.

  Evenly spaced from all to none; a thought that is shorter is taught whole.

  Args:
    longest: tokens of a long thought.
    stages: after the first, which teaches all.
    stage: 0 to `stages`.
  """
  return round(longest * (1 - stage / stages))
