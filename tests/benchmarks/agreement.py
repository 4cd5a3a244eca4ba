"""Whether two contenders compute the same model."""

from __future__ import annotations

from typing import NamedTuple

from s2d_jax.errors import UserError

# Of the greedy tokens in float32: the rest may be lost to ties, after which a
# text goes another way.
_SHARE = 0.9


class Agreement(NamedTuple):
  """Greedy tokens before the first difference of each text, and all."""

  same: int
  tokens: int

  @property
  def share(self) -> float:
    return self.same / max(self.tokens, 1)

  def __str__(self) -> str:
    return f"{self.same}/{self.tokens}"


def of_texts(ours: list[list[int]], theirs: list[list[int]]) -> Agreement:
  """How far the greedy texts are the same."""
  if len(ours) != len(theirs):
    return Agreement(0, sum(map(len, ours)))
  pairs = list(zip(ours, theirs, strict=True))
  same = sum(_common(*pair) for pair in pairs)
  return Agreement(same, sum(max(map(len, pair)) for pair in pairs))


def _common(a: list[int], b: list[int]) -> int:
  pairs = zip(a, b, strict=False)
  return next(
    (i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b))
  )


def check_texts(name: str, found: Agreement, dtype: str) -> None:
  """Refuses a contender that computes something else.

  Of bfloat16 roundings the agreement is only reported.
  """
  if dtype == "float32" and found.share < _SHARE:
    raise UserError(
      f"{name} does not compute the same model: only {found} greedy tokens"
      " agree with ours, so its speed is not reported"
    )


def check_losses(name: str, ours: float, theirs: float, dtype: str) -> None:
  """Refuses a contender whose loss, before training, is another."""
  allowed = {"float32": 1e-3, "bfloat16": 5e-2}[dtype]
  if not abs(theirs - ours) <= allowed * ours:
    raise UserError(
      f"{name} does not learn the same: its loss before training is"
      f" {theirs:.5f}, ours {ours:.5f}, so its speed is not reported"
    )
