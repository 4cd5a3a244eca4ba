"""Rows of a run that never was, made from how often each way is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from s2d_jax.curation.vote import vote
from s2d_jax.records import Record

N = 5  # samples


class Skill(NamedTuple):
  """Whoever knows a share of the inputs answers them rightly by a chance.

  What is wrong is named by no other sample, so that a vote finds what is known
  even if most samples are wrong.
  """

  knows: float
  chance: float = 1.0


def rows(
  skills: Mapping[str, Skill],
  n: int = 200,
  form: str = "suggests_wrong",
  seed: int = 0,
  size: int = 1,
  samples: int = N,
  greedy: bool = True,
) -> list[Record]:
  """By the contract of eval/; all know the same inputs first.

  Args:
    skills: of each method.
    n: inputs.
    form: the variant.
    seed: of all draws.
    size: of a cluster: inputs that are known, or not, together.
    samples: of each input; their vote, if there are several.
    greedy: whether there are greedy replies.
  """
  rng = np.random.default_rng(seed)
  levels = np.repeat(rng.random(-(-n // size)), size)[:n]
  found = []
  for method, skill in skills.items():
    for index, level in enumerate(levels):
      hits = (level < skill.knows) & (rng.random(samples + 1) < skill.chance)
      answers = ["right" if hit else f"wrong {i}" for i, hit in enumerate(hits)]
      drawn = [_reply(answer) for answer in answers]
      row = {
        "example_id": f"{index}",
        "cluster": f"{index // size}",
        "variant": form,
        "method": method,
        "passes": [{k: one[k] for k in _REPLY} for one in drawn[:samples]],
        "metrics": {"accuracy": float(np.mean(hits[:samples]))},
      }
      if greedy:
        row["greedy"] = drawn[samples]
      if samples > 1:
        row["vote"] = _reply(vote(answers[:samples]).winner, samples)
      found.append(row)
  return found


_REPLY = ("text", "answer", "tier", "tokens", "prompt_tokens")


def _reply(answer: str | None, replies: int = 1) -> Record:
  return {
    "text": "t",
    "answer": answer,
    "tier": "strict",
    "margin": 1.0,
    "tokens": 9 * replies,
    "prompt_tokens": 40 * replies,
    "metrics": {"accuracy": float(answer == "right")},
  }
