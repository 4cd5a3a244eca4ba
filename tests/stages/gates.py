"""Gates that are put together by hand, for runs that are too small for one."""

from __future__ import annotations

from collections.abc import Collection
import json
import shutil

from etils import epath

from s2d_jax import records
from s2d_jax.gate.gate import Gate


def give(run: epath.Path, folder: epath.Path, gate: Gate) -> epath.Path:
  """A copy of the run with this gate in it."""
  copy = epath.Path(shutil.copytree(run, folder))
  found = {"gate": gate.to_record(), "target": {"agreement": 0.5}}
  records.write_text(copy / "gate.json", json.dumps(found))
  return copy


def make(
  confidences: Collection[float],
  signal: str = "logprob",
  least: float | None = None,
) -> Gate:
  """That has seen such confidences; by default half of them do not stand."""
  ranked = tuple(sorted(confidences))
  share = 1 / len(ranked)
  return Gate(
    signal=signal,
    confidences=ranked,
    probabilities=tuple(share * place for place in range(len(ranked))),
    fast_tokens=(4.0,) * len(ranked),
    slow_tokens=(20.0,) * len(ranked),
    least=ranked[len(ranked) // 2] if least is None else least,
  )
