"""What is said of test questions that were seen in training."""

from __future__ import annotations

from collections.abc import Iterator

from s2d_jax.evaluation.contamination import Match, Overlap, Seen

_FEW = 10  # different answers, which are taught in any case
NOTE = (
  "Case, accents and punctuation are ignored. Nearly the same words are four"
  " fifths of them in any order, also of those that belong to no template, as"
  " words of more than a tenth of the training prompts do; of words in a row at"
  " least three must belong to none. The base model's own training data is"
  " another matter (s2d contamination)."
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
