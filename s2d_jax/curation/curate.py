"""Which answers to train on, without labels: votes that the variants share.

Self-consistency: an input is kept if its samples agree clearly (the margin of
the vote), or with the reply that the model itself finds most consistent with
the others, in whichever order it sees them. Consistency under perturbation: and
if the other variants of the example win with the same answer (the agreement).
The thinking is thrown away.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Literal, NamedTuple

from s2d_jax.answers.answer import has_vote
from s2d_jax.answers.reply import between_special_tokens, without_thinking
from s2d_jax.curation import thoughts
from s2d_jax.curation.choice import choice_vote, survivor
from s2d_jax.curation.long_rows import REASON, is_too_long
from s2d_jax.curation.vote import Thresholds, Vote, vote
from s2d_jax.errors import UserError
from s2d_jax.records import Record

Messages = list[dict[str, str]]
InputId = tuple[str, str]  # example id, variant
Select = Literal["vote", "usc", "first", "label"]
Target = Literal["auto", "own_words", "answer", "shortest_thought"]


@dataclasses.dataclass(frozen=True)
class Filter:
  """Which answer of an input is taken, and when the input is kept.

  Attributes:
    select: how the answer is selected: "vote", the answer with most votes;
      "usc", the reply that the model chose among them (universal
      self-consistency); "first", the first sample that has an answer, with no
      filter at all; "label", the label, for an upper bound.
    thresholds: of the vote; with "usc" the vote of the orders in which the
      model was asked, as replies in free form have no other.
    min_agreement: least share of the example's variants whose winner is this
      winner, the variant itself included; 0: off.
    nested: several answers to one thought cast one vote together, that of
      their majority; else each has its own.
    total: samples of an input that is drawn in full; None: as many as there
      are. Fewer were drawn where the vote was decided early.
    loose_votes: whether answers vote that were read out of sentences, too.
  """

  select: Select = "vote"
  thresholds: Thresholds = Thresholds()
  min_agreement: float = 0.0
  nested: bool = True
  total: int | None = None
  loose_votes: bool = True


@dataclasses.dataclass(frozen=True)
class Formatter:
  """How the student's prompts and targets are written.

  Attributes:
    prompt: (example id, variant) → messages.
    target: (example id, variant, answer) → the answer as the task writes it;
      None where there is no one way to write it.
    own_words: (example id, variant, answer, reply) → what of a reply that has
      this answer may be taught for this variant; None: nothing of it. By
      default all of it may be.
    taught: "answer", what the task writes; "own_words", the most frequent reply
      of the model; "auto", the reply where the task writes nothing. Whatever is
      not there is replaced by the other, by a sentence or by the answer itself.
      "shortest_thought" is as "auto", behind a thought.
    sentence: (example id, variant, answer) → a sentence with the answer; None
      where the task has none.
    thought: a record of samples/ → the thought in it; needed where thoughts are
      taught.
  """

  prompt: Callable[[str, str], Messages]
  target: Callable[[str, str, str], str | None]
  own_words: Callable[[str, str, str, str], str | None] | None = None
  taught: Target = "auto"
  sentence: Callable[[str, str, str], str | None] | None = None
  thought: Callable[[Record], thoughts.Thought] | None = None


class _Outcome(NamedTuple):
  """The result of one input."""

  vote: Vote
  winner: str | None
  margin: float | None  # None where no vote was taken
  reason: str | None  # why it is rejected
  source: Sequence[Record]  # samples the target is taken from; none: from all


_NOT_ASKED = _Outcome(vote([]), None, 0.0, REASON, ())


def curate(
  samples: Iterable[Record],
  variants: Mapping[str, Sequence[str]],
  formatter: Formatter,
  rule: Filter,
  chosen: Mapping[InputId, Sequence[int | None]] | None = None,
  not_asked: Collection[InputId] = (),
  perturbations: Collection[str] = (),
) -> tuple[list[Record], list[Record]]:
  """Splits the sampled inputs into accepted and rejected ones.

  The reason of a rejected record is the first of: "too long" (a prompt does not
  fit), "given up" (never sampled, as other variants disagree already, or are
  too long), "unparsable" (no sample has an answer), "tie", "no choice" (the
  model chose none in most orders), "votes" and "margin" (too few, too small),
  "disagrees" (the other variants win with other answers).

  Args:
    samples: records of samples/, in any order.
    variants: example id → the variants it was asked in. Examples are in this
      order in the output, their variants in the order of names.
    formatter: of prompts and targets.
    rule: how an answer is selected, and how clear the vote must be.
    chosen: numbers of the samples that the model chose for an input, one an
      order in which it saw them, where it is asked to.
    not_asked: inputs that are too long, and have no samples.
    perturbations: variants that count for the agreement of the others, and
      have no record of their own.

  Returns:
    Records of distill/: accepted, and rejected with a reason.

  Raises:
    UserError: a sample occurs twice, is of an unknown example, or an example
      has none that could have some.
  """
  may_be_empty = {example_id for example_id, _ in not_asked}
  groups = _grouped(samples, list(variants), may_be_empty)
  decided = [
    record
    for example_id, names in variants.items()
    for record in decide(
      example_id,
      {variant: groups[example_id].get(variant, []) for variant in names},
      formatter,
      rule,
      chosen,
      not_asked,
      perturbations,
    )
  ]
  accepted = [record for record in decided if "reason" not in record]
  return accepted, [record for record in decided if "reason" in record]


def decide(
  example_id: str,
  samples: Mapping[str, Sequence[Record]],
  formatter: Formatter,
  rule: Filter,
  chosen: Mapping[InputId, Sequence[int | None]] | None = None,
  not_asked: Collection[InputId] = (),
  perturbations: Collection[str] = (),
) -> list[Record]:
  """Decides over one example, as `curate` does over many.

  Args:
    example_id: of the example.
    samples: of each variant it was asked in, in the order of their numbers.
    formatter, rule, chosen, not_asked, perturbations: as of `curate`.

  Returns:
    A record of distill/ a variant; a rejected one has a "reason".
  """
  found = {variant: samples[variant] for variant in sorted(samples)}
  outcomes = {
    variant: _NOT_ASKED
    if (example_id, variant) in not_asked
    else _outcome(group, rule, (chosen or {}).get((example_id, variant), ()))
    for variant, group in found.items()
  }
  all_samples = [sample for group in found.values() for sample in group]
  decided = []
  for variant, own in outcomes.items():
    if variant in perturbations:
      continue
    agreement = _agreement(own, list(outcomes.values()))
    taught = {"target": None}
    if own.winner is not None:
      answered = example_id, variant, own.winner
      taught["target"] = _target(
        formatter, answered, own.source or all_samples, rule.loose_votes
      )
    if formatter.taught == "shortest_thought":
      drawn = own.source or found[variant]
      taught["thought"] = _thought(formatter, own.winner, drawn, rule)
    record = {
      "example_id": example_id,
      "variant": variant,
      "prompt": formatter.prompt(example_id, variant),
      **taught,
      "votes": dict(own.vote.counts),
      "samples": own.vote.samples,
      "winner": own.winner,
      "margin": own.margin,
      "agreement": agreement,
    }
    reason = own.reason
    if reason is None and own.margin is not None:
      reason = "disagrees" if agreement < rule.min_agreement else None
    decided.append(record if reason is None else record | {"reason": reason})
  return decided


def supervised(
  labels: Mapping[str, str],
  variants: Mapping[str, Sequence[str]],
  formatter: Formatter,
  samples: Iterable[Record] = (),
  loose: bool = True,
) -> list[Record]:
  """Records of distill/ that teach the labels: the upper bound.

  A label is written like the answer of a vote. To be an upper bound it must not
  have a form that is foreign to the model, so it is said in the model's own
  words wherever votes are and some sample of the example is right.

  Args:
    labels: example id → the right answer, as the task names it.
    variants: example id → the variants to teach.
    formatter: of prompts and targets.
    samples: records of samples/, if there are any.
    loose: whether replies are taught with answers read out of sentences.
  """
  drawn = collections.defaultdict(list)
  for sample in samples:
    drawn[sample["example_id"]].append(sample)
  return [
    {
      "example_id": example_id,
      "variant": variant,
      "prompt": formatter.prompt(example_id, variant),
      "target": _target(
        formatter, (example_id, variant, label), drawn[example_id], loose
      ),
      "votes": {},
      "samples": 0,
      "winner": label,
      "margin": None,
      "agreement": 1.0,
    }
    for example_id, label in labels.items()
    for variant in variants[example_id]
  ]


def clean(text: str) -> str:
  """One line: the first stretch of text between special tokens.

  Without thinking in tags, which nobody is to be taught.
  """
  return " ".join(between_special_tokens(without_thinking(text)).split())


def votes_of(
  samples: Sequence[Record], nested: bool, loose: bool
) -> list[str | None]:
  """The answers that the samples of one input vote for, None for no vote.

  A reply of nothing but special tokens could not be taught: no vote.

  Args:
    samples: of one input.
    nested: several answers to one thought have one vote together.
    loose: answers that were read out of sentences have a vote, too.
  """
  votes = []
  for sample in samples:
    answers = _answers(sample, loose)
    is_one = not nested or len(answers) == 1
    votes += answers if is_one else [vote(answers).winner]
  return votes


class _Reply(NamedTuple):
  """A reply as it was said, the answer in it, and the step it came from."""

  text: str
  answer: str | None
  step: Record


def _answers(sample: Record, loose: bool) -> list[str | None]:
  """Of its replies: one, or several to one thought; None has no vote."""
  if "answers" not in sample:
    said = ((sample["reply"], sample["answer"], sample.get("tier")),)
  else:
    answers = sample["answers"]
    tiers = sample.get("tiers", [sample.get("tier")] * len(answers))
    said = zip(sample["replies"], answers, tiers, strict=True)
  may_vote = not is_too_long(sample)
  return [
    answer
    if answer is not None and may_vote and has_vote(tier, loose) and clean(text)
    else None
    for text, answer, tier in said
  ]


def _replies(sample: Record, loose: bool) -> list[_Reply]:
  """Of a sample: one, or several to one thought."""
  answers = _answers(sample, loose)
  if is_too_long(sample):
    return [_Reply("", None, {}) for _ in answers]
  replies = sample.get("replies", [sample["reply"]])
  steps = sample["steps"][-len(replies) :]
  return [_Reply(*one) for one in zip(replies, answers, steps, strict=True)]


def _grouped(
  samples: Iterable[Record],
  example_ids: Sequence[str],
  may_be_empty: Collection[str],
) -> Mapping[str, Mapping[str, list[Record]]]:
  """Samples by example and variant, each list in the order of its numbers."""
  groups = {example_id: {} for example_id in example_ids}
  seen = set()
  for sample in samples:
    example_id, variant = sample["example_id"], sample["variant"]
    sample_id = example_id, variant, sample["sample"]
    if example_id not in groups:
      raise UserError(
        f"the samples hold an example {example_id!r} that is not in examples/;"
        " sample into a new workdir"
      )
    if sample_id in seen:
      raise UserError(
        f"sample {sample['sample']} of {example_id!r} ({variant}) is there"
        " twice; delete one of the two lines"
      )
    seen.add(sample_id)
    groups[example_id].setdefault(variant, []).append(sample)
  empty = [
    example_id
    for example_id in example_ids
    if not groups[example_id] and example_id not in may_be_empty
  ]
  check_sampled(empty)
  for variants in groups.values():
    for group in variants.values():
      group.sort(key=lambda sample: sample["sample"])
  return groups


def check_sampled(empty: Sequence[str]) -> None:
  """Raises UserError if there are examples without samples, named by id."""
  if empty:
    raise UserError(
      f"{len(empty)} examples have no samples, the first is {empty[0]!r}; run"
      " the sample stage to its end"
    )


def _outcome(
  group: Sequence[Record], rule: Filter, choices: Sequence[int | None]
) -> _Outcome:
  votes = vote(votes_of(group, rule.nested, rule.loose_votes))
  if not group:
    return _Outcome(votes, None, 0.0, "given up", ())
  if all(map(is_too_long, group)):
    return _Outcome(votes, None, 0.0, REASON, ())
  if rule.select == "first":
    return _first(votes, group, rule)
  if rule.select == "usc":
    return _chosen(votes, group, rule, choices)
  reason = None
  if not votes.counts:
    reason = "unparsable"
  elif votes.winner is None:
    reason = "tie"
  else:
    each = votes.samples // len(group)  # several: answers to one thought
    total = each * (rule.total or len(group))
    reason = _too_close(votes, rule.thresholds, total)
  return _Outcome(votes, votes.winner, votes.margin, reason, ())


def _first(votes: Vote, group: Sequence[Record], rule: Filter) -> _Outcome:
  """The first sample with an answer, whatever the others say."""
  for sample in group:
    answer = votes_of([sample], nested=True, loose=rule.loose_votes)[0]
    if answer is not None:
      return _Outcome(votes, answer, None, None, [sample])
  return _Outcome(votes, None, None, "unparsable", ())


def _chosen(
  votes: Vote,
  group: Sequence[Record],
  rule: Filter,
  choices: Sequence[int | None],
) -> _Outcome:
  """The reply that the model found most consistent with the others."""
  choice = survivor(choices)
  sample = next((s for s in group if s["sample"] == choice), None)
  if sample is None:
    return _Outcome(votes, None, 0.0, "no choice", ())
  winner = votes_of([sample], nested=True, loose=rule.loose_votes)[0]
  if winner is None:
    return _Outcome(votes, None, 0.0, "unparsable", ())
  by_order = choice_vote(choices)
  reason = _too_close(by_order, rule.thresholds, rule.total or len(group))
  return _Outcome(votes, winner, by_order.margin, reason, [sample])


def _too_close(votes: Vote, thresholds: Thresholds, total: int) -> str | None:
  """Why a vote with a winner is not accepted; None if it is."""
  first, second, *_ = [*votes.counts.values(), 0]
  if thresholds.accept(first, second, votes.samples, total):
    return None
  enough = thresholds.has_votes(first, votes.samples, total)
  return "margin" if enough else "votes"


def _agreement(own: _Outcome, outcomes: Sequence[_Outcome]) -> float:
  if own.winner is None:
    return 0.0
  return sum(other.winner == own.winner for other in outcomes) / len(outcomes)


def _target(
  formatter: Formatter,
  answered: tuple[str, str, str],
  samples: Sequence[Record],
  loose: bool,
) -> str:
  """What is taught for an (example id, variant, answer)."""
  written = formatter.target(*answered)
  in_own_words = formatter.taught == "own_words"
  if in_own_words or (formatter.taught != "answer" and not written):
    own_words = functools.partial(formatter.own_words or _whole, *answered)
    said = _frequent_reply(samples, answered[-1], loose, own_words)
    written = said or written
  if not written and formatter.sentence is not None:
    written = formatter.sentence(*answered)
  return written or answered[-1]


def _thought(
  formatter: Formatter,
  winner: str | None,
  samples: Sequence[Record],
  rule: Filter,
) -> str:
  """The shortest that led to this answer; empty if none did.

  Only samples of the input itself count: those of another variant may have
  thought about what this one does not say. One that was cut off at the token
  limit is taken only if all were.
  """
  if winner is None:
    return ""
  led = [
    one
    for one in samples
    if winner in votes_of([one], nested=True, loose=rule.loose_votes)
  ]
  whole = [
    one
    for one in led
    if all(step.get("finish") != "length" for step in one["steps"])
  ]
  return thoughts.shortest(map(formatter.thought, whole or led))


def _whole(example_id: str, variant: str, answer: str, reply: str) -> str:
  return reply


def _frequent_reply(
  samples: Sequence[Record],
  winner: str,
  loose: bool,
  own_words: Callable[[str], str | None],
) -> str | None:
  """The most frequent reply with this answer, as far as it may be taught.

  Ties go to the likeliest a token, then to the first by text. The samples are
  those of all variants: their answer is to be the same, and so is the target,
  unless the words mean something else there ("[[A]]" in another order of the
  answers). None where nothing of the replies may be taught: all is thinking.

  A reply that was cut off at the token limit is taken only if all were: the
  student would learn to stop in the middle of a sentence.
  """
  replies = [reply for sample in samples for reply in _replies(sample, loose)]
  words = functools.cache(own_words)
  for_winner = [
    reply
    for reply in replies
    if reply.answer == winner and words(reply.text) is not None
  ]
  whole = [
    reply for reply in for_winner if reply.step.get("finish") != "length"
  ]
  logprobs = collections.defaultdict(list)  # a token, by text
  for reply, _, step in whole or for_winner:
    text = clean(words(reply))
    logprobs[text].append(step["logprob"] / max(step["tokens"], 1))
  return min(
    logprobs,
    key=lambda text: (-len(logprobs[text]), -max(logprobs[text]), text),
    default=None,
  )
