"""Which answers to believe, without labels: votes that other wordings share.

Self-consistency: an input is kept if its passes agree clearly (the margin of
the vote). Consistency under perturbation: and if the same example, put in its
other variants, wins with the same answer (the agreement). What was thought on
the way is thrown away; the reply that speaks best for the winner is the target.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
import re

from s2d_jax.curation.vote import Vote, vote
from s2d_jax.errors import UserError
from s2d_jax.records import Record

Messages = list[dict[str, str]]

_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad)>")


def curate(
  samples: Iterable[Record],
  example_ids: Sequence[str],
  prompt: Callable[[str, str], Messages],
  min_margin: float,
  min_agreement: float,
) -> tuple[list[Record], list[Record]]:
  """Parts the inputs that were sampled into accepted and rejected ones.

  The reason of a rejected record is the first of: "unparsable" (nobody voted),
  "tie", "margin" (below `min_margin`), "disagrees" (agreement below
  `min_agreement`).

  Args:
    samples: one record a pass, in any order.
    example_ids: examples in the order of the output, each with its variants by
      name.
    prompt: (example id, variant) → messages that the student is trained on.
    min_margin: least margin of the vote, as a share of the samples.
    min_agreement: least share of the example's variants whose winner is this
      winner, the variant itself included.

  Returns:
    Records of distill/: accepted, and rejected with a reason.

  Raises:
    UserError: a pass is there twice, is of an unknown example, or an example
      has none.
  """
  groups = _grouped(samples, example_ids)
  accepted, rejected = [], []
  for example_id in example_ids:
    variants = dict(sorted(groups[example_id].items()))
    votes = {variant: _vote(group) for variant, group in variants.items()}
    passes = [sample for group in variants.values() for sample in group]
    for variant, own in votes.items():
      agreement = _agreement(own, list(votes.values()))
      record = {
        "example_id": example_id,
        "variant": variant,
        "prompt": prompt(example_id, variant),
        "target": None if own.winner is None else _target(passes, own.winner),
        "votes": dict(own.counts),
        "samples": own.samples,
        "winner": own.winner,
        "margin": own.margin,
        "agreement": agreement,
      }
      reason = _reason(own, agreement, min_margin, min_agreement)
      if reason is None:
        accepted.append(record)
      else:
        rejected.append(record | {"reason": reason})
  return accepted, rejected


def clean(text: str) -> str:
  """One line: the first stretch of text between special tokens."""
  stretches = (" ".join(part.split()) for part in _SPECIAL.split(text))
  return next(filter(None, stretches), "")


def _grouped(
  samples: Iterable[Record], example_ids: Sequence[str]
) -> Mapping[str, Mapping[str, list[Record]]]:
  """Samples by example and variant; each list in the order of its passes."""
  groups = {example_id: {} for example_id in example_ids}
  seen = set()
  for sample in samples:
    example_id, variant = sample["example_id"], sample["variant"]
    name = example_id, variant, sample["sample"]
    if example_id not in groups:
      raise UserError(
        f"the samples hold an example {example_id!r} that was not asked for;"
        " sample into a new workdir"
      )
    if name in seen:
      raise UserError(
        f"the samples hold pass {sample['sample']} of {example_id!r}"
        f" ({variant}) twice; delete one of the two lines"
      )
    seen.add(name)
    groups[example_id].setdefault(variant, []).append(sample)
  empty = [example_id for example_id in example_ids if not groups[example_id]]
  if empty:
    raise UserError(
      f"{len(empty)} examples have no samples, the first is {empty[0]!r}; run"
      " the sample stage to its end"
    )
  return groups


def _reply(sample: Record) -> str:
  return clean(sample["steps"][-1]["text"])


def _vote(group: Sequence[Record]) -> Vote:
  """A reply of nothing but special tokens could not be taught: no vote."""
  return vote([s["answer"] if _reply(s) else None for s in group])


def _agreement(own: Vote, votes: Sequence[Vote]) -> float:
  if own.winner is None:
    return 0.0
  return sum(other.winner == own.winner for other in votes) / len(votes)


def _reason(
  own: Vote, agreement: float, min_margin: float, min_agreement: float
) -> str | None:
  if not own.counts:
    return "unparsable"
  if own.winner is None:
    return "tie"
  if own.margin < min_margin:
    return "margin"
  if agreement < min_agreement:
    return "disagrees"
  return None


def _target(passes: Sequence[Record], winner: str) -> str:
  """The most frequent wording; then the likeliest a token; then by text.

  The passes are those of all variants: their answer is to be the same, and so
  is the wording that speaks for it.

  A reply that was cut off at the token limit is taken only if all were: the
  student would learn to stop in the middle of a sentence.
  """
  for_winner = [s for s in passes if _reply(s) and s["answer"] == winner]
  whole = [s for s in for_winner if s["steps"][-1].get("finish") != "length"]
  wordings = collections.defaultdict(list)
  for sample in whole or for_winner:
    last = sample["steps"][-1]
    likelihood = last["logprob"] / max(last["tokens"], 1)
    wordings[_reply(sample)].append(likelihood)
  return min(
    wordings,
    key=lambda text: (-len(wordings[text]), -max(wordings[text]), text),
  )
