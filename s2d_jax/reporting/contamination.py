"""What is said of test questions that were seen in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s2d_jax.evaluation.contamination import Match, Overlap, Seen

_SIGNIFICANT = 0.05  # p-values below it
_FEW = 10  # different answers, which are taught in any case
NOTE = (
  "Case, accents and punctuation are ignored. Nearly the same words are four"
  " fifths of them in any order, also of those that belong to no template, as"
  " words of more than a tenth of the training prompts do; of words in a row at"
  " least three must belong to none."
)


def sentence(seen: Seen) -> str:
  """The result in one or two sentences."""
  said = [_result(seen.prompts, "{:,} test prompts")]
  if seen.questions:
    said.append(
      _result(seen.questions, "their {:,} questions in plain wording")
    )
  found = seen.answers
  if 0 < found.different <= _FEW:
    said.append(
      f"Right answers are few ({found.different} in all): that they are taught"
      " says nothing."
    )
  return " ".join(said)


def lines(seen: Seen) -> list[list[str]]:
  """The table as text, the head first."""
  return [
    ["", "could be compared", "seen in training"],
    *_overlap_lines(seen.prompts, "prompts"),
    *(
      _overlap_lines(seen.questions, "plain questions")
      if seen.questions
      else ()
    ),
    *_answer_lines(seen),
  ]


def matches(seen: Seen) -> tuple[Match, ...]:
  """A few test prompts that were seen, or else plain questions."""
  questions = seen.questions.matches if seen.questions else ()
  return seen.prompts.matches or questions


def _result(found: Overlap, called: str) -> str:
  if not found.whole:
    return f"None of {called.format(found.tests)} could be compared."
  share = _share(found.seen, found.whole)
  return (
    f"Of {called.format(found.whole)} {share} were seen in training, whole or"
    " in part."
  )


def _overlap_lines(found: Overlap, called: str) -> Iterator[list[str]]:
  for how, compared, count in (
    ("the same words", found.whole, found.duplicates),
    ("nearly the same words", found.worded, found.near),
    (f"{found.n} words in a row", found.long, found.overlapping),
  ):
    yield _line(f"{called}: {how}", compared, found.tests, count)


def _answer_lines(seen: Seen) -> Iterator[list[str]]:
  found = seen.answers
  yield _line(
    "right answers: taught to any question",
    found.labelled,
    found.tests,
    found.taught,
  )
  yield _line(
    "different right answers: taught to any question",
    found.different,
    found.different,
    found.different_taught,
  )
  if found.with_subject:
    about = found.with_subject, found.tests
    yield _line(
      "subjects: taught with any answer", *about, found.subject_taught
    )
    yield _line(
      "subjects: taught with the right answer", *about, found.both_taught
    )


def _line(called: str, compared: int, tests: int, count: int) -> list[str]:
  """No count where nothing could be compared: 0 would say too much."""
  shown = _share(count, compared) if compared else "not known"
  return [called, f"{compared:,} of {tests:,}", shown]


def _share(count: int, total: int) -> str:
  return f"{count:,} ({100 * count / total:.1f} %)"


def of_base_model(found: Mapping[str, Any]) -> list[str]:
  """Sentences on what the base model had read, of eval/contamination.json."""
  if not found:
    return [
      "What the base model had read before is another question: s2d"
      " contamination tests it."
    ]
  guesses, order = found["guesses"], found["order"]
  said = [_order(order) if order else _no_order(found["why_no_order"])]
  if guesses["questions"]:
    said.append(_guesses(guesses))
  said.append(_LIMITS)
  return said


_LIMITS = (
  "Neither test proves that nothing was read: it may have been in another"
  " order, and a small model remembers little of what it has read once."
)


def _order(found: Mapping[str, Any]) -> str:
  by_shards = found["p_of_shards"]
  tests = f"p = {found['p_value']:.3f}, permutation test"
  if by_shards is not None:
    tests += f"; p = {by_shards:.3f}, t-test over {found['shards']:,} shards"
  read = (
    f"Had the base model read the test split? Its {found['rows']:,} rows in the"
    " data set's own order are"
  )
  if found["p_value"] < _SIGNIFICANT:
    return (
      f"{read} likelier than in {found['shuffles']} random orders ({tests}): it"
      " has probably read them, if this order is that of a public data set."
    )
  return (
    f"{read} not clearly likelier than in {found['shuffles']} random orders"
    f" ({tests})."
  )


def _no_order(why: str) -> str:
  return (
    "Had the base model read the test split? The test of the order of rows does"
    f" not apply: {why}."
  )


def _guesses(found: Mapping[str, Any]) -> str:
  total = found["questions"]
  clear = found["p_value"] < _SIGNIFICANT
  text = (
    f"Of {total:,} words, the rarest of a question each, it guesses"
    f" {_share(found['guessed'], total)} where they are left out, and"
    f" {_share(found['elsewhere'], total)} behind another question"
    f" (p = {found['p_value']:.3f})."
  )
  if clear and found["guessed"] > found["elsewhere"]:
    text += " A word may also follow from the rest of its question."
  return text
